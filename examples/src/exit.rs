//! The end of an example program: its exit code, and an error message for people.

use std::{error::Error, process::ExitCode};

/// Prints an error and its causes to stderr, and returns the exit code: 1 for an error, otherwise
/// 0.
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

/// Returns the messages of an error and all its causes, separated by colons.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
