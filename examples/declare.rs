//! A client without the code of the functions: it declares them as functions without a body.
//!
//! ```sh
//! cargo run --release --example server &
//! cargo run --release --example declare -- --server tcp://127.0.0.1:5555
//! ```
//!
//! The compiler checks calls against the declaration. The agreement between a declaration and the
//! implementation is checked at run time: the server refuses a call whose parameters have other
//! names or another order, and arguments of a wrong type; the client refuses a result of a wrong
//! type.

use std::{collections::HashMap, error::Error, process::ExitCode};

use clap::Parser;
use rpc_core::{CallError, Client, remote};
use serde::{Deserialize, Serialize};

#[remote]
fn add(a: i64, b: i64) -> i64;

#[remote]
fn count_words(text: &str) -> HashMap<String, u64>;

#[remote]
fn divide(a: i64, b: i64) -> Result<i64, DivideError>;

/// The client's version of the server's `DivideError`. It has what is needed to decode the error.
/// The messages are the client's own.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
enum DivideError {
    #[error("division by zero")]
    DivisionByZero,
    #[error("overflow")]
    Overflow,
}

/// Calls functions that are implemented in another program.
#[derive(Parser)]
struct Options {
    /// The server to call.
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5555")]
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(options.server).await.map_err(|error| {
        format!(
            "{error}\n(this example needs a server: start one with `cargo run --release --example server`)"
        )
    })?;

    println!("add(1, 2) = {}", add::call(&client, 1, 2).await?);
    println!("count_words(\"a b a\") = {:?}", count_words::call(&client, "a b a").await?);
    match divide::call(&client, 1, 0).await {
        Ok(quotient) => println!("1 / 0 = {quotient}"),
        Err(CallError::Failed(error)) => println!("1 / 0: {error}"),
        Err(CallError::Rpc(error)) => return Err(error.into()),
    }
    Ok(())
}
