//! Listening on a path, so that a server that was killed leaves nothing that is in the way, and one
//! that stops never removes the file of its successor.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

/// The file of a listening socket. To be dropped before the listener: as long as that is open,
/// nobody else takes the path over.
///
/// An engine removes the path that a socket was bound to some time after it has closed it, and a
/// new server may listen there by then. So the socket is bound under a name of its own, which is
/// then exchanged for the right one; dropping this gives it its own name back, for the engine to
/// remove.
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
    let (listener, bound) = bind_beside(path)?;
    Ok((listener, publish(bound, path).await?))
}

/// Gives the socket that listens at `bound`, a name of its own in the same folder, the name `path`.
pub(super) async fn publish(bound: PathBuf, path: &Path) -> io::Result<SocketFile> {
    let linked = link(&bound, path).await;
    // The socket has its right name now, or none.
    fs::remove_file(&bound)?;
    let identity = linked?;
    Ok(SocketFile { path: path.to_owned(), bound, identity })
}

/// Binds a socket in the same folder as `path`, under a name that nobody else has.
fn bind_beside(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    loop {
        let bound = unused_name(path);
        match UnixListener::bind(&bound) {
            Ok(listener) => return Ok((listener, bound)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// Short, because the path of a socket is; and random, because processes in containers can share a
/// folder and have the same number.
pub(super) fn unused_name(path: &Path) -> PathBuf {
    let random = RandomState::new().hash_one(std::process::id());
    path.with_file_name(format!(".{random:016x}"))
}

/// Gives a file a second name, which a server that is no longer there may still have. It begins
/// again whenever somebody else has changed what is there.
async fn link(file: &Path, path: &Path) -> io::Result<Identity> {
    loop {
        match fs::hard_link(file, path) {
            Ok(()) => return identity(path).ok_or_else(|| io::ErrorKind::NotFound.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is no socket is there",
            ));
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                take_away(path, (metadata.dev(), metadata.ino()))?;
            }
            // Somebody listens there, even if it takes no more connections at the moment.
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
}

/// Removes the file that nobody listens at, and no other.
fn take_away(path: &Path, stale: Identity) -> io::Result<()> {
    let aside = unused_name(path);
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if identity(&aside) != Some(stale) {
        // Another server has taken the path over meanwhile: it gets it back, unless a third one has
        // it now.
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside)
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
