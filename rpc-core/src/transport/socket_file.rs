//! Listening on a path, so that a server that was killed leaves nothing that is in the way, and one that stops
//! never removes the file of its successor.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::net::UnixStream;

/// The file of a listening socket, removed when this is dropped. To be dropped before the listener: as long as
/// that is open, nobody else takes the path over.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by somebody else, which is as good.
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens on `path`, in place of a server that is no longer there.
///
/// The socket is bound under another name and then renamed. The zeromq crate removes the name that a socket was
/// bound to some time after it has closed it, and that must not be the name that a new server has by then.
pub(super) async fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) if is_alive(path).await => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) | Err(_) => {}
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let temporary = SocketFile(PathBuf::from(name));
    let listener = UnixListener::bind(&temporary.0)?;
    fs::rename(&temporary.0, path)?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Whether somebody listens there, even if it takes no more connections at the moment.
async fn is_alive(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}
