//! A file that lists endpoints, and is read again and again.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{task, time};

use super::{Discovery, DiscoveryError};

/// The interval at which the file is read. Reading works on every file system, and through links
/// that are replaced, where a notification by the operating system does not.
const INTERVAL: Duration = Duration::from_millis(500);
/// The largest size of the file, in bytes.
const MAX_SIZE: u64 = 1024 * 1024;

/// A file with an endpoint a line. Empty lines, and what follows a `#` at the beginning of a line or
/// behind white space, are left out.
pub(crate) struct FileDiscovery {
    path: PathBuf,
    was_read: bool,
}

impl FileDiscovery {
    /// Parses what follows `file://`.
    pub(crate) fn parse(path: &str) -> Result<Self, String> {
        if path.starts_with('/') && !path.ends_with('/') {
            return Ok(Self { path: PathBuf::from(path), was_read: false });
        }
        Err("a file of endpoints has an absolute path: `file:///path/to/file`".to_owned())
    }
}

impl Discovery for FileDiscovery {
    fn name(&self) -> String {
        format!("file://{}", self.path.display())
    }

    async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
        if std::mem::replace(&mut self.was_read, true) {
            time::sleep(INTERVAL).await;
        }
        let path = self.path.clone();
        let text = task::spawn_blocking(move || read(&path)).await??;
        Ok(endpoints(&text))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!("it has more than {MAX_SIZE} bytes")));
    }
    Ok(text)
}

fn endpoints(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| match line.find('#') {
        Some(0) => "",
        Some(at) if line[..at].ends_with(char::is_whitespace) => line[..at].trim(),
        _ => line.trim(),
    });
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_left_out() {
        let text = "# all\n\ntcp://a:1\n  tcp://b:2\t# the second\r\n#tcp://c:3\nipc:///x#1\n";
        assert_eq!(endpoints(text), ["tcp://a:1", "tcp://b:2", "ipc:///x#1"]);
        assert!(endpoints("\n# none").is_empty());
    }

    #[test]
    fn path_is_absolute() {
        assert_eq!(FileDiscovery::parse("/run/words").unwrap().name(), "file:///run/words");
        for wrong in ["", "words", "./words", "/run/"] {
            let error = FileDiscovery::parse(wrong).err().unwrap();
            assert!(error.contains("`file:///path/to/file`"), "{error}");
        }
    }
}
