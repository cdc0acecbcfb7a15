//! The input: finds files and reads them. Knows nothing of words.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Why there is no input.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not UTF-8: the byte at position {position} does not belong there", path.display())]
    NotUtf8 { path: PathBuf, position: usize },
}

/// The text of each file and of each file in a folder: what is hidden there, is a `target` or is no
/// text is skipped, with a note on stderr. Without paths, the texts of the workspace's *.md and
/// *.rs files.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<String>, InputError> {
    let mut texts = Vec::new();
    if paths.is_empty() {
        let mut found = Found::default();
        find(&workspace(), &mut found)?;
        // Nobody asked for the rest, so nothing is said about it.
        found.files.retain(|file| is_source(file));
        read_texts(&found.files, &mut texts)?;
    }
    for path in paths {
        if metadata(path)?.is_dir() {
            let mut found = Found::default();
            find(path, &mut found)?;
            for (path, why) in &found.skipped {
                note_skipped(path, why);
            }
            read_texts(&found.files, &mut texts)?;
        } else {
            texts.push(read_text(path)?);
        }
    }
    Ok(texts)
}

/// The workspace that the current directory holds, else the one that this program was built from.
fn workspace() -> PathBuf {
    if Path::new("Cargo.toml").exists() {
        PathBuf::from(".")
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }
}

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "md" || end == "rs")
}

/// What is in a folder.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// With the reason.
    skipped: Vec<(PathBuf, &'static str)>,
}

/// Adds what is in `folder` and in the folders below, in alphabetical order.
fn find(folder: &Path, found: &mut Found) -> Result<(), InputError> {
    let error = |source| InputError::Io { path: folder.to_owned(), source };
    let entries: io::Result<Vec<_>> = fs::read_dir(folder).map_err(error)?.collect();
    let mut entries = entries.map_err(error)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        let kind = entry.file_type().map_err(error)?;
        if name.as_encoded_bytes().starts_with(b".") {
            found.skipped.push((path, "it is hidden"));
        } else if kind.is_dir() && name == "target" {
            found.skipped.push((path, "a build left it"));
        } else if kind.is_dir() {
            find(&path, found)?;
        } else if kind.is_file() {
            found.files.push(path);
        } else {
            // A link may lead round in a circle, and a pipe may never end.
            found.skipped.push((path, "it is no regular file"));
        }
    }
    Ok(())
}

/// In a folder, a file that is no text is nothing to complain of.
fn read_texts(files: &[PathBuf], texts: &mut Vec<String>) -> Result<(), InputError> {
    for file in files {
        match read_text(file) {
            Err(InputError::NotUtf8 { .. }) => note_skipped(file, "it is not UTF-8"),
            result => texts.push(result?),
        }
    }
    Ok(())
}

fn note_skipped(path: &Path, why: &str) {
    eprintln!("note: skipped {}: {why}", path.display());
}

fn read_text(path: &Path) -> Result<String, InputError> {
    let bytes =
        fs::read(path).map_err(|source| InputError::Io { path: path.to_owned(), source })?;
    String::from_utf8(bytes).map_err(|error| InputError::NotUtf8 {
        path: path.to_owned(),
        position: error.utf8_error().valid_up_to(),
    })
}

fn metadata(path: &Path) -> Result<fs::Metadata, InputError> {
    fs::metadata(path).map_err(|source| InputError::Io { path: path.to_owned(), source })
}
