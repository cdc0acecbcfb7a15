//! Listening on a path, so that a server that was killed leaves nothing that is in the way, and one that stops
//! never removes the file of its successor.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::UnixStream;

/// The file of a listening socket. To be dropped before the listener: as long as that is open, nobody else takes
/// the path over.
///
/// The zeromq crate removes the path that a socket was bound to some time after it has closed it, and a new
/// server may listen there by then. So the socket is bound under a name of its own, which is then exchanged for
/// the right one; dropping this gives it its own name back, for the engine to remove.
pub(super) struct SocketFile {
    path: PathBuf,
    bound: PathBuf,
    identity: Identity,
}

/// Tells a file from another that has taken its name: device and inode.
type Identity = (u64, u64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If somebody has removed it, another server may have the name by now.
        if identity(&self.path) == Some(self.identity) {
            // If it was removed at this very moment, that is as good.
            let _ = fs::rename(&self.path, &self.bound);
        }
    }
}

/// Listens on `path`, in place of a server that is no longer there.
pub(super) async fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(".rpc-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let bound = path.with_file_name(name);
    let listener = UnixListener::bind(&bound)?;
    let linked = link(&bound, path).await;
    // The socket has its right name now, or none.
    fs::remove_file(&bound)?;
    let identity = linked?;
    Ok((listener, SocketFile { path: path.to_owned(), bound, identity }))
}

/// Gives a file a second name, which a server that is no longer there may still have.
async fn link(file: &Path, path: &Path) -> io::Result<Identity> {
    loop {
        let stale = identity(path);
        match fs::hard_link(file, path) {
            Ok(()) => return identity(path).ok_or_else(|| io::ErrorKind::NotFound.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        if is_alive(path).await {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // Unless somebody else has just taken it over.
        if stale.is_some() && identity(path) == stale {
            fs::remove_file(path)?;
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether somebody listens there, even if it takes no more connections at the moment.
async fn is_alive(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}
