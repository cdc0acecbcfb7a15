//! What was executed, and how often: a file that servers append to, and that outlives a server that
//! is killed.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use crate::unique;

const FOLDER: &str = "the folder for temporary files can be written";

/// A file of executions. Any number of processes may append to it; it goes with the test that made
/// it.
#[derive(Debug)]
pub struct Ledger(PathBuf);

impl Ledger {
    /// An empty one.
    ///
    /// # Panics
    /// If files cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique());
        File::create_new(&path).expect(FOLDER);
        Self(path)
    }

    /// Where it is, to be told to a server.
    ///
    /// # Panics
    /// If the folder for temporary files is no UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.to_str().expect("it is UTF-8")
    }

    /// How often each id was executed.
    ///
    /// # Panics
    /// If the file has gone, or holds half an entry.
    #[must_use]
    pub fn executions(&self) -> HashMap<u64, u32> {
        let bytes = fs::read(&self.0).expect(FOLDER);
        let (entries, rest) = bytes.as_chunks();
        assert!(rest.is_empty(), "an entry is whole or not there");
        let mut executions = HashMap::new();
        for entry in entries {
            *executions.entry(u64::from_le_bytes(*entry)).or_default() += 1;
        }
        executions
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A ledger as a server writes it.
#[derive(Debug)]
pub struct Pen(File);

impl Pen {
    /// Opens the ledger at `path`.
    ///
    /// # Errors
    /// As opening a file.
    pub fn open(path: &str) -> io::Result<Self> {
        File::options().append(true).open(path).map(Self)
    }

    /// Notes that `id` is executed. It is one `write` of a few bytes to a file that is opened for
    /// appending, so that it happens as a whole or not at all, whoever else writes and whenever the
    /// process is killed.
    ///
    /// # Errors
    /// As writing a file.
    pub fn note(&self, id: u64) -> io::Result<()> {
        (&self.0).write_all(&id.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_write_is_counted() {
        let ledger = Ledger::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let pen = Pen::open(ledger.path()).unwrap();
                    (0..1_000).for_each(|id| pen.note(id).unwrap());
                });
            }
        });
        let executions = ledger.executions();
        assert_eq!(executions.len(), 1_000);
        assert!(executions.values().all(|times| *times == 4));
    }
}
