//! Makes a key for CURVE: two files, of which one is secret.
//!
//! ```sh
//! cargo run --example keygen --features curve -- alice
//! ```
//!
//! `alice.key_secret` stays on the machine of its owner, which alone can read it. `alice.key`, or
//! the text that is printed, goes to those who shall know this key.

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Parser;
use rpc_core::SecretKey;

/// Makes a key.
#[derive(Parser)]
struct Options {
    /// The files are `NAME.key` and `NAME.key_secret`. Nothing is overwritten.
    #[arg(value_name = "NAME")]
    name: PathBuf,
}

fn main() -> ExitCode {
    examples::exit(make(&Options::parse()))
}

fn make(options: &Options) -> Result<(), Box<dyn Error>> {
    let key = SecretKey::generate();
    let (public, secret) = key.save(&options.name)?;
    eprintln!("wrote {} and {}", public.display(), secret.display());
    println!("{}", key.public());
    Ok(())
}
