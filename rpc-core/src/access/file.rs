//! Access lists in a file, which is read again and again.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use nix::unistd::geteuid;

use super::{Access, Entry, KeyLimits, List, Rights, Shared};
use crate::keys::{KeyError, PublicKey};

/// The interval at which the file is read. Reading works on every file system, and through links
/// that are replaced, where a notification by the operating system does not.
const INTERVAL: Duration = Duration::from_millis(500);
/// The largest size of the file, in bytes: some ten thousand keys.
const MAX_SIZE: u64 = 1024 * 1024;
/// The user id of root.
const ROOT: u32 = 0;
/// The text in place of a key that stands for all keys that the file does not name.
const ANY: &str = "*";

/// The error of a file with an access list. It does not contain what the file does. `{:?}` shows the
/// same text as `{}`, so that `main` can return it.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file is a folder, a device or a pipe.
    #[error("{} is no file", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is larger than a list of keys may be.
    #[error("{} has more than {MAX_SIZE} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner can write the file, and could add their keys.
    #[error("{} can be written by others than its owner (mode {mode:o}): `chmod go-w` it", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user, who could add keys.
    #[error("{} belongs to the user {owner}, and not to the user of this program or root", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The id of its owner.
        owner: u32,
    },
    /// A line is not one of such a list.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1 on.
        line: usize,
        /// The defect of the line.
        reason: String,
    },
}

impl fmt::Debug for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Access {
    /// Reads a list from a file, and follows the file: a change takes effect within two seconds, as
    /// [`replace`](Self::replace) does. If the file cannot be read then, or has a wrong line, the
    /// list stays as it is, and a warning says why.
    ///
    /// Each line has a public key as text, a name, and the functions, separated by spaces. Words with
    /// a `=` are [limits](KeyLimits): `max_in_flight`, `max_bytes_in_flight`, `calls_per_second`. In
    /// place of a key, `*` stands for all keys that the file does not name. A `#` at the beginning of a
    /// line or of a later word begins a comment, unless the line begins with a key: the text of a key
    /// may begin so.
    ///
    /// ```text
    /// # key                                  name    functions
    /// Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID alice   count_words orders.* max_in_flight=100
    /// *                                        others  health
    /// ```
    ///
    /// A thread reads the file twice a second, for as long as there is a handle of the list. A new
    /// content counts once it was read twice, so that a file that is being written is not taken for
    /// a shorter one.
    ///
    /// # Errors
    /// Returns an [`AccessError`] if the file cannot be read, has more than 1 MiB, can be written by
    /// others than its owner, belongs to another user than that of this program or root, or has a
    /// wrong line; and if the thread cannot be started.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, AccessError> {
        let path = path.as_ref().to_owned();
        let text = read(&path)?;
        let access = Self::new();
        *access.write() = parse(&text, &path)?;
        let shared = Arc::downgrade(&access.0);
        let follower = Follower { path: path.clone(), seen: text.clone(), applied: text };
        thread::Builder::new()
            .name("rpc-access-file".to_owned())
            .spawn(move || follower.follow(&shared))
            .map_err(|error| AccessError::Io { path, error })?;
        Ok(access)
    }
}

/// A file whose list is applied.
struct Follower {
    path: PathBuf,
    /// The content that was applied last.
    applied: String,
    /// The content that was read last.
    seen: String,
}

impl Follower {
    /// Applies changes of the file, until the list is dropped.
    fn follow(mut self, shared: &Weak<Shared>) {
        let mut failure = String::new();
        loop {
            thread::sleep(INTERVAL);
            let Some(access) = shared.upgrade().map(Access) else { return };
            match self.poll() {
                Ok(None) if self.seen == self.applied => failure.clear(),
                Ok(None) => {}
                Ok(Some(list)) => {
                    failure.clear();
                    let (file, keys) = (self.path.display(), list.keys.len());
                    if list.is_empty() {
                        tracing::warn!(%file, "the access list has changed: nobody may call now");
                    } else {
                        let any_key = list.others.is_some();
                        tracing::info!(%file, keys, any_key, "the access list has changed");
                    }
                    access.replace_list(list);
                }
                Err(error) if error.to_string() == failure => {}
                Err(error) => {
                    failure = error.to_string();
                    tracing::warn!(%error, "the access list stays as it is");
                }
            }
        }
    }

    /// Reads the file. Returns its list if that is new, and was read before.
    fn poll(&mut self) -> Result<Option<List>, AccessError> {
        let before = std::mem::replace(&mut self.seen, read(&self.path)?);
        if self.seen != before || self.seen == self.applied {
            return Ok(None);
        }
        let list = parse(&self.seen, &self.path)?;
        self.applied.clone_from(&self.seen);
        Ok(Some(list))
    }
}

fn read(path: &Path) -> Result<String, AccessError> {
    let failed = |error| AccessError::Io { path: path.to_owned(), error };
    // Opening a pipe would wait for its other end.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(AccessError::NoFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if mode & 0o022 != 0 {
        return Err(AccessError::Writable { path: path.to_owned(), mode });
    }
    if ![ROOT, geteuid().as_raw()].contains(&owner) {
        return Err(AccessError::Foreign { path: path.to_owned(), owner });
    }
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(AccessError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

fn parse(text: &str, path: &Path) -> Result<List, AccessError> {
    let mut list = List::default();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        let first = words.next().filter(|word| !word.starts_with('#') || is_key(word));
        let Some(first) = first else { continue };
        let others = words.take_while(|word| !word.starts_with('#'));
        add(&mut list, first, others).map_err(|reason| {
            let path = path.to_owned();
            AccessError::Line { path, line: number, reason }
        })?;
    }
    Ok(list)
}

fn is_key(word: &str) -> bool {
    word.parse::<PublicKey>().is_ok()
}

/// Adds the words of a line to the list, or returns what is wrong with them.
fn add<'a>(
    list: &mut List,
    key: &str,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let name = words.next().filter(|name| !name.contains('='));
    let name = name.ok_or("a key, a name and functions are expected")?;
    let (limits, functions): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('='));
    if functions.is_empty() {
        return Err("it names no function; `*` stands for all".to_owned());
    }
    if let Some(wrong) = functions.iter().find(|word| !is_pattern(word)) {
        return Err(format!(
            "`{wrong}` is no function: names are separated by spaces, and a `*` stands at their end"
        ));
    }
    let (limits, rights) = (parse_limits(&limits)?, Rights::new(functions));
    let twice = if key == ANY {
        if limits.is_some() {
            return Err("limits are for one key: anybody can make another".to_owned());
        }
        list.others.replace(rights).is_some()
    } else {
        let key = key.parse().map_err(|error: KeyError| error.to_string())?;
        list.limits.extend(limits.map(|limits| (key, limits)));
        list.keys.insert(key, Entry { name: name.into(), rights }).is_some()
    };
    if twice { Err("the key was there before".to_owned()) } else { Ok(()) }
}

/// Returns true for a name, the beginning of names with a `*`, and `*`.
fn is_pattern(word: &str) -> bool {
    let name = word.strip_suffix('*').unwrap_or(word);
    !name.contains(['*', ',', ';', '"', '\'', '`'])
}

/// Reads limits, as `max_in_flight=100`. Returns `None` if there are none.
fn parse_limits(words: &[&str]) -> Result<Option<KeyLimits>, String> {
    let mut limits = KeyLimits::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let value =
            value.parse().map_err(|_| format!("`{name}` needs a number up to {}", u32::MAX))?;
        if !limits.set(name, value) {
            return Err(format!(
                "there is no limit `{name}`: it can be max_in_flight, max_bytes_in_flight or \
                 calls_per_second"
            ));
        }
    }
    Ok((!words.is_empty()).then_some(limits))
}

#[cfg(test)]
mod tests;
