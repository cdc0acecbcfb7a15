//! Names of the user's code do not clash with names of the generated code.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use rpc_core::{Client, RemoteFn, remote};

/// These types have the names of generic parameters, and the functions have the names of locals.
#[derive(serde::Serialize, serde::Deserialize)]
struct I;
type T = I;

#[allow(dead_code, clippy::too_many_arguments)]
#[remote]
fn parameters(
    client: i32,
    inputs: i32,
    writer: i32,
    reader: i32,
    params: i32,
    result: i32,
    p0: &str,
    input: I,
) -> T {
    let _ = (client, inputs, writer, reader, params, result, p0);
    input
}

#[remote]
fn handler(invocation: &str) -> usize {
    invocation.len()
}

#[remote]
fn p0(args: &str) -> usize {
    args.len()
}

#[remote]
async fn invocation(error: u8) -> Result<u8, String> {
    Ok(error)
}

#[remote]
fn params(r#type: u8) -> u8 {
    r#type
}

#[remote]
fn r#match(r#fn: &str) -> usize {
    r#fn.len()
}

#[allow(non_snake_case)]
mod shadows {
    //! The names of the prelude have other meanings in this module.
    #![allow(dead_code, unused_macros)]
    pub(crate) struct Ok;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Box;
    pub(crate) struct Vec;
    pub(crate) struct Option;
    macro_rules! assert {
        () => {};
    }

    #[rpc_core::remote]
    async fn shadowed(
        text: &str,
        numbers: &[u8],
        #[state] _state: &u8,
    ) -> std::result::Result<u8, std::string::String> {
        std::result::Result::Ok(numbers[text.len()])
    }
}

mod inner {
    /// The struct has the same visibility as the function.
    #[rpc_core::remote]
    pub(super) fn visible(x: u8) -> u8 {
        x
    }

    pub(crate) mod deeper {
        #[rpc_core::remote]
        pub(in crate::inner) fn seen_in_inner() {}
    }

    pub(super) fn calls(client: &rpc_core::Client) {
        let _ = deeper::seen_in_inner::call(client);
    }
}
use inner::visible;

fn calls(client: &Client) {
    #[remote]
    fn local(x: u8) -> u8 {
        x
    }
    let _ = local::call(client, local(3));
    let _ = visible::call(client, visible(3));
    let _ = parameters::call(client, 1, 2, 3, 4, 5, 6, "", I);
    let _ = parameters::map(client, [(1, 2, 3, 4, 5, 6, "", I)]);
    inner::calls(client);
}

fn main() {
    let _ = calls;
    assert_eq!(r#match::SIGNATURE.name, "match");
    assert_eq!(r#match::SIGNATURE.params[0].name, "fn");
}
