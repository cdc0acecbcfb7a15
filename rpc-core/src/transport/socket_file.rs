//! Listening on a path, for `ipc://`. The socket file that a killed server has left behind is
//! replaced, and a server that stops never removes the file of its successor.

#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    hash::{BuildHasher, RandomState},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

use crate::transport::TransportError;

/// The file of a listening socket. It must be dropped before the listener: as long as the listener
/// is open, no other server takes over the path.
///
/// An engine removes the path that a socket was bound to some time after it has closed the socket.
/// By then a new server may listen on that path. So the socket is bound under a unique name, and
/// the file is renamed to the requested path after that. Dropping this renames it back to the
/// unique name, which the engine then removes.
pub(super) struct SocketFile {
    /// The path that clients connect to.
    path: PathBuf,
    /// The unique name under which the socket was bound.
    bound: PathBuf,
    identity: Identity,
}

/// The device and the inode of a file. They distinguish it from another file of the same name.
type Identity = (u64, u64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // If the file was removed, another server may have taken the path by now.
        if identity(&self.path) == Some(self.identity) {
            // An error means that the file was removed since the check, which does no harm.
            let _ = fs::rename(&self.path, &self.bound);
        }
    }
}

/// Listens on a name in the abstract namespace, which has no file.
pub(super) fn listen_abstract(name: &str) -> io::Result<UnixListener> {
    #[cfg(target_os = "linux")]
    return UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?);
    #[cfg(not(target_os = "linux"))]
    return Err(io::Error::new(io::ErrorKind::Unsupported, format!("only Linux has `@{name}`")));
}

/// Listens on `path`. Replaces the file of a server that does not run any more.
pub(super) async fn listen(
    path: &Path,
    mode: u32,
) -> Result<(UnixListener, SocketFile), TransportError> {
    let (listener, bound) = bind_beside(path).map_err(|error| explain(path, error.into()))?;
    Ok((listener, publish(bound, path, mode).await?))
}

/// Gives the socket file `bound` its permission bits, and renames it to `path`. `bound` is a unique
/// name in the same folder, and the socket must be listening.
pub(super) async fn publish(bound: PathBuf, path: &Path, mode: u32) -> io::Result<SocketFile> {
    let linked = match fs::set_permissions(&bound, Permissions::from_mode(mode)) {
        Ok(()) => link(&bound, path).await,
        Err(error) => Err(error),
    };
    // If the link failed, the socket has no name after this.
    fs::remove_file(&bound)?;
    let identity = linked?;
    Ok(SocketFile { path: path.to_owned(), bound, identity })
}

/// Binds a socket in the same folder as `path`, under a unique name.
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

/// Returns a name in the same folder as `path` that no file has. It is random, because processes in
/// containers can share a folder and have the same process id.
///
/// If a hidden name with all digits is too long for a socket, the name is as long as that of `path`
/// at most. It is then no UTF-8, so that it is never the path of an endpoint.
pub(super) fn unused_name(path: &Path) -> PathBuf {
    loop {
        let name = random_name(path);
        // There are only 64 names of one byte.
        if fs::symlink_metadata(&name).is_err() {
            return name;
        }
    }
}

fn random_name(path: &Path) -> PathBuf {
    let random = RandomState::new().hash_one(std::process::id());
    let hidden = path.with_file_name(format!(".{random:016x}"));
    if SocketAddr::from_pathname(&hidden).is_ok() {
        return hidden;
    }
    let length = path.file_name().map_or(1, OsStr::len);
    // These bytes continue a character in UTF-8, and so never begin one.
    let name = random.to_le_bytes().map(|byte| byte & 0x3f | 0x80);
    path.with_file_name(OsStr::from_bytes(&name[..length.min(name.len())]))
}

/// Says more about the error of binding a socket in the folder of `path` than the operating system.
pub(super) fn explain(path: &Path, error: TransportError) -> TransportError {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.display().to_string(),
        _ => "the working directory".to_owned(),
    };
    match kind {
        Some(io::ErrorKind::NotFound) => format!("{folder} does not exist: make it first").into(),
        Some(io::ErrorKind::NotADirectory) => format!("{folder} is no folder").into(),
        Some(io::ErrorKind::PermissionDenied) => {
            format!("this process may not make a file in {folder}: {error}").into()
        }
        _ => error,
    }
}

/// Gives `file` the second name `path`. Removes a file of that name first if it is the socket of a
/// server that does not run any more. Starts again whenever another process has changed the file at
/// `path` meanwhile.
async fn link(file: &Path, path: &Path) -> io::Result<Identity> {
    loop {
        match fs::hard_link(file, path) {
            Ok(()) => return identity(path).ok_or_else(|| io::ErrorKind::NotFound.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let Ok(metadata) = fs::symlink_metadata(path) else { continue };
        if !metadata.file_type().is_socket() {
            let there = if metadata.is_dir() {
                "a folder is there: name a file in it"
            } else {
                "a file that is no socket is there: remove it, or name another file"
            };
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, there));
        }
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                take_away(path, (metadata.dev(), metadata.ino()))?;
            }
            // Another server listens there, even if it accepts no connections at the moment.
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
}

/// Removes the file at `path` if it is the `stale` one, and no other file.
fn take_away(path: &Path, stale: Identity) -> io::Result<()> {
    let aside = unused_name(path);
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if identity(&aside) != Some(stale) {
        // Another server has taken over the path since the check. It gets the path back, unless a
        // third server has it by now.
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside)
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_name_is_that_of_no_file() {
        let mut folder = std::env::temp_dir().join("rpc-unused-name-").into_os_string();
        folder.push(std::process::id().to_string());
        folder.push("d".repeat(106 - 1 - folder.len()));
        let folder = PathBuf::from(folder);
        fs::create_dir(&folder).unwrap();
        let path = folder.join("s");
        // All names of one byte are taken but one.
        for byte in 0x80..0xbf {
            fs::write(path.with_file_name(OsStr::from_bytes(&[byte])), "").unwrap();
        }
        assert_eq!(unused_name(&path), path.with_file_name(OsStr::from_bytes(b"\xbf")));
        fs::remove_dir_all(&folder).unwrap();
    }
}
