//! How the examples end: with an error that a person can read, or well.

use std::{error::Error, process::ExitCode};

/// Tells an error and its causes on stderr. Exit code 1 stands for an error, 0 for none.
#[must_use]
pub fn exit(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors end with their cause already.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn each_cause_is_told_once() {
        let disk = || io::Error::other("the disk is full");
        assert_eq!(
            with_causes(&Outer("cannot write", disk())),
            "cannot write: the disk is full"
        );
        assert_eq!(
            with_causes(&Outer("cannot write: the disk is full", disk())),
            "cannot write: the disk is full"
        );
    }
}
