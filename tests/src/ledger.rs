//! A ledger of executed calls: a file to which servers append, and which survives the death of a
//! server.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
};

use crate::unique;

const FOLDER: &str = "the folder for temporary files can be written";

/// A file of executions. Any number of processes may append to it. The file is removed when this
/// value is dropped.
#[derive(Debug)]
pub struct Ledger(PathBuf);

impl Ledger {
    /// Creates an empty ledger.
    ///
    /// # Panics
    /// Panics if the file cannot be created.
    #[must_use]
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(unique());
        File::create_new(&path).expect(FOLDER);
        Self(path)
    }

    /// Returns the path, to be passed to a server.
    ///
    /// # Panics
    /// Panics if the folder for temporary files is not valid UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.to_str().expect("it is UTF-8")
    }

    /// Returns how often each id was executed.
    ///
    /// # Panics
    /// Panics if the file is missing, or ends with an incomplete entry.
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

/// A ledger that a server writes to.
#[derive(Debug)]
pub struct Pen(File);

impl Pen {
    /// Opens the ledger at `path`.
    ///
    /// # Errors
    /// Returns the error of opening the file.
    pub fn open(path: &str) -> io::Result<Self> {
        File::options().append(true).open(path).map(Self)
    }

    /// Notes that `id` is executed. This is one `write` of a few bytes to a file in append mode.
    /// The entry is therefore written as a whole or not at all, even if other processes write and
    /// even if this process is killed.
    ///
    /// # Errors
    /// Returns the error of writing to the file.
    pub fn note(&self, id: u64) -> io::Result<()> {
        (&self.0).write_all(&id.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_several_writers_are_counted() {
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
