//! Listening on a path, so that a server that was killed leaves nothing that is in the way, and one that stops
//! never removes the file of its successor.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::UnixStream;

/// The file of a listening socket. To be dropped before the listener: as long as that is open, nobody else takes
/// the path over.
///
/// The zeromq crate removes the path that a socket was bound to some time after it has closed it, and a new
/// server may listen there by then. So the socket is bound under a name of its own, which is then renamed;
/// dropping this renames it back, for the engine to remove.
pub(super) struct SocketFile {
    path: PathBuf,
    bound: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by somebody else, which is as good.
        let _ = fs::rename(&self.path, &self.bound);
    }
}

/// Listens on `path`, in place of a server that is no longer there.
pub(super) async fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) if is_alive(path).await => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) | Err(_) => {}
    }
    let mut bound = path.as_os_str().to_owned();
    bound.push(format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let bound = PathBuf::from(bound);
    let listener = UnixListener::bind(&bound)?;
    if let Err(error) = fs::rename(&bound, path) {
        // What matters is why it could not be renamed.
        let _ = fs::remove_file(&bound);
        return Err(error);
    }
    Ok((listener, SocketFile { path: path.to_owned(), bound }))
}

/// Whether somebody listens there, even if it takes no more connections at the moment.
async fn is_alive(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}
