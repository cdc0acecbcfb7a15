//! Every shape of a parameter, a result and an error, called from Rust and from Python.
//!
//! Each line of the tables is a shape. It becomes a parameter in three positions, or the result of
//! functions of every kind. What compiles must be callable, and must arrive as it was sent.
//!
//! The functions of one line have the same names as those of the others. So each line has a server
//! of its own, and no test here may serve every function of the program.

// The functions have exactly the shapes that are under test, good and bad.
#![allow(clippy::all, clippy::pedantic)]

mod params;
mod python;
mod results;
mod types;

use std::fmt::Debug;

use rpc_core::{Client, ServerBuilder, ServerHandle};

/// A line of a table: a server of the functions, and their calls from Python.
struct Line {
    name: &'static str,
    server: ServerBuilder,
    /// The function, its arguments and its result, each as Python source.
    calls: Vec<[String; 3]>,
}

/// Formats a value so that two values of one type are equal if their texts are.
fn text(value: &(impl Debug + ?Sized)) -> String {
    format!("{value:?}")
}

async fn start(builder: ServerBuilder) -> (ServerHandle, Client) {
    let endpoint = format!("inproc://{}", tests::unique());
    let server = builder.bind(&*endpoint).await.unwrap().spawn().unwrap();
    let client = tests::client().connect(&*endpoint).await.unwrap();
    (server, client)
}
