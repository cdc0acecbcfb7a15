//! The input of the job: finds files and reads them. This module knows nothing about words.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The reason why the input cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not UTF-8: the byte at position {position} does not belong there", path.display())]
    NotUtf8 { path: PathBuf, position: usize },
}

/// Reads the given files, and all files in the given folders. Without paths, it reads the *.md and
/// *.rs files of the workspace.
///
/// In a folder, it skips hidden files and folders, `target` folders and everything that is not
/// text, with a note on stderr.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<String>, InputError> {
    let mut texts = Vec::new();
    if paths.is_empty() {
        let mut found = Found::default();
        find(&workspace(), &mut found)?;
        // The user did not ask for the other files, so there is no note about them.
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

/// Returns the current directory if it holds a Cargo package or workspace, otherwise the workspace
/// that this program was built from.
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

/// The contents of a folder.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// The skipped paths, each with the reason.
    skipped: Vec<(PathBuf, &'static str)>,
}

/// Adds the files in `folder` and in its subfolders to `found`, in alphabetical order.
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
            // A symbolic link may lead back to its own folder, and a pipe may never end.
            found.skipped.push((path, "it is no regular file"));
        }
    }
    Ok(())
}

/// Reads the files of a folder. There, a file that is not text is skipped and is no error.
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
