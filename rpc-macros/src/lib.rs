//! The `#[remote]` attribute of `rpc-core`, which re-exports it. Nothing here runs when calls are
//! made.

mod args;
mod expand;
mod function;
mod item;
mod params;
mod types;

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::Error;

use crate::{args::RemoteArgs, function::RemoteFunction, item::Item};

/// Makes a function remote: a server that is linked with it serves it, and any process can call it
/// by the same name with the same types.
///
/// ```standalone_crate
/// use rpc_core::{Client, Server, remote};
///
/// /// Counts the vowels of a text.
/// #[remote(idempotent, timeout = "2s")]
/// pub fn vowels(text: &str) -> usize {
///     text.chars().filter(|c| "aeiou".contains(*c)).count()
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("inproc://vowels").await?.spawn()?;
/// let client = Client::connect("inproc://vowels").await?;
///
/// assert_eq!(vowels("remote"), 3); // still the function
/// assert_eq!(vowels::call(&client, "remote").await?, 3); // the remote one
/// # server.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # What it adds
/// The function stays as it is. Beside it comes a struct of the same name, which one `use` imports
/// together with the function; docs tell them apart as ``[`vowels()`]`` and ``[`struct@vowels`]``.
/// It implements `RemoteFn`, and has four functions, as visible as the function itself:
///
/// | function                  | what it does                                                        |
/// |---------------------------|---------------------------------------------------------------------|
/// | `call(&client, ...)`      | a `Call`: a future of the result                                    |
/// | `map(&client, inputs)`    | a `Map`: a stream of the results for many inputs, some at a time    |
/// | `notify(&client, ...)`    | a `Notify`: calls it and wants no answer                            |
/// | `args(...)`               | the encoded `Args`, for code that is generic over remote functions  |
///
/// # Arguments of the attribute
/// | argument            | what it says                                                             |
/// |---------------------|--------------------------------------------------------------------------|
/// | `name = "math.add"` | the name on the wire, if not the function's; `rpc.` in front is reserved |
/// | `type = Add`        | the name of the struct, where a module or crate has the function's       |
/// | `inline`            | run it where the call was decoded: for sync functions of microseconds    |
/// | `idempotent`        | calling it again does no harm                                            |
/// | `retries = 3` | how often a call may be tried again unless its caller says, where that is safe; `0` for never |
/// | `timeout = "500ms"` | how long a call may take unless its caller says: `us`, `ms`, `s`, `m`, `h` |
/// | `crate = "my::rpc"` | the path of `rpc_core`, where it has another name                        |
///
/// # Where it runs
/// A sync function runs on the server's worker pool, so it may compute or block. An async function
/// runs on the runtime that the server was bound in, so it must not block, and its future must be
/// `Send`. A sync function that calls its own server and waits may wait for a worker that waits as
/// well: make it async. An `inline` function runs in between reading two messages, and holds up all
/// others while it does.
///
/// # Parameters
/// What travels implements `serde::Serialize` and `serde::Deserialize`. A reference costs the
/// caller no copy, and where it can it borrows from the request on the server:
///
/// | written                        | the function borrows           | `map` takes                      |
/// |--------------------------------|--------------------------------|----------------------------------|
/// | `T`                            | nothing                        | a `T`                            |
/// | `&str`, `&[u8]`                | from the request               | any `AsRef<str>`, `AsRef<[u8]>`  |
/// | `&[T]`                         | from a decoded `Vec<T>`        | any `AsRef<[T]>`                 |
/// | `&T`                           | from a decoded `T`             | any `Borrow<T>`                  |
/// | `Option<&str>`, `Cow<'_, str>` | what serde borrows             | the same type                    |
///
/// With several parameters an input of `map` is a tuple of these, with none it is `()`. `Vec<u8>`,
/// `Bytes`, `&[u8]` and an `Option` of the first two travel as MessagePack's `bin`; inside other
/// types a `Vec<u8>` is an array of integers, which is slow: use `Bytes` there, or `serde_bytes`.
/// `None`, `()` and `Some(None)` are all nil, and an `Option` of nil is `None`. A parameter's name
/// is part of the protocol, since others may call with named arguments; a pattern such as `(a, b):
/// (i32, i32)` is called `arg0`, by its position.
///
/// Two kinds of parameters do not travel, and the caller does not see them:
///
/// - `#[state] cache: &Cache` or `#[state] cache: Arc<Cache>` is the server's value of that type. A
///   server that was given none does not start.
/// - `#[context] cx: &Context` or `#[context] cx: Context` is what can be known of the call: its
///   peer, its deadline, whether it was cancelled.
///
/// ```standalone_crate
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use rpc_core::{Context, Server, remote};
///
/// #[remote]
/// fn next_id(#[state] last: &AtomicU64, #[context] cx: &Context, step: u64) -> Option<u64> {
///     (!cx.is_cancelled()).then(|| last.fetch_add(step, Ordering::Relaxed))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().state(AtomicU64::new(1)).bind("inproc://ids").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Results
/// A result owns what it holds, implements serde's two traits, and is as visible as the function. A
/// call of a function that returns `T` yields `Result<T, RpcError>`. A function that returns a
/// `Result<T, E>` has errors of its own, and its calls yield `Result<T, CallError<E>>`; `E`
/// implements `Debug` and `Display` too. `Result` is recognised by its name, so any alias that is
/// called `Result` will do, and one of another name is refused.
///
/// # Declarations
/// Without a body a function is only declared, for callers that do not link its implementation. The
/// declaration lists what travels, and nothing else. `timeout`, `retries` and `idempotent` are read
/// where the call is made: repeat them. A server serves the implementations that are linked into
/// it, and only calling a function links its implementation too; so declare in a crate that both
/// sides use, and implement in one that only the server does.
///
/// ```
/// # use rpc_core::remote;
/// #[remote]
/// pub fn next_id(step: u64) -> Option<u64>;
/// ```
///
/// # What cannot be remote
/// Methods; functions that are generic, `unsafe`, `const` or `extern`; parameters that are `&mut`,
/// `impl Trait` or `dyn`; results that borrow. Each is a compile error that says what to write
/// instead.
#[proc_macro_attribute]
pub fn remote(
    args: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let (mut tokens, errors) = remote_tokens(args.into(), item.into());
    tokens.extend(errors.iter().map(Error::to_compile_error));
    tokens.into()
}

/// What replaces the item, and what is wrong with it.
fn remote_tokens(args: TokenStream, tokens: TokenStream) -> (TokenStream, Vec<Error>) {
    let mut errors = Vec::new();
    let args = RemoteArgs::parse(args, &mut errors);
    let item: Item = match syn::parse2(tokens.clone()) {
        Ok(item) => item,
        Err(error) => {
            errors.push(error);
            return (tokens, errors);
        }
    };
    let function = RemoteFunction::parse(args, &item, &mut errors);
    // The function itself stays, also beside a mistake, so that its users get no errors of their
    // own.
    let mut tokens = item.to_token_stream();
    tokens.extend(function.as_ref().map(expand::expand));
    (tokens, errors)
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    fn messages(errors: &[Error]) -> Vec<String> {
        errors.iter().map(Error::to_string).collect()
    }

    #[test]
    fn all_mistakes_are_reported_at_once_and_the_function_stays() {
        let (tokens, errors) = remote_tokens(
            quote!(inline, nam = "f", timeout = "2"),
            quote! {
                pub async unsafe fn f<T>(a: &mut T, #[state] b: String, #[context] #[lint] c: u8) -> &str
                where
                    T: Copy,
                {
                    body
                }
            },
        );
        let beginnings = [
            "`nam` is no argument",
            "a timeout is an integer and a unit",
            "a remote function cannot be `unsafe`",
            "a remote function cannot be generic",
            "a remote function is not generic",
            "an async function runs on the runtime",
            "changes would not travel back",
            "state is lent or shared",
            "a context is a `&Context`",
            "a result travels to its caller and cannot borrow: write `String`",
        ];
        let messages = messages(&errors);
        assert_eq!(messages.len(), beginnings.len(), "{messages:#?}");
        for (message, beginning) in messages.iter().zip(beginnings) {
            assert!(message.starts_with(beginning), "{message}");
        }
        let stays = quote! {
            pub async unsafe fn f<T>(a: &mut T, b: String, #[lint] c: u8) -> &str
            where
                T: Copy,
            {
                body
            }
        };
        assert_eq!(tokens.to_string(), stays.to_string());
    }

    #[test]
    fn what_is_no_function_stays_as_it_is() {
        for item in [
            quote!(
                struct S;
            ),
            quote!(
                const X: u8 = 1;
            ),
            quote!(
                unsafe impl Send for S {}
            ),
        ] {
            let (tokens, errors) = remote_tokens(quote!(), item.clone());
            assert_eq!(
                messages(&errors),
                ["`#[remote]` goes on a free function: put it on a `fn`"]
            );
            assert_eq!(tokens.to_string(), item.to_string());
        }
    }

    #[test]
    fn a_declaration_adds_no_function_and_cannot_be_served() {
        let (tokens, errors) = remote_tokens(
            quote!(),
            quote!(
                pub fn f(text: &str) -> u8;
            ),
        );
        assert!(errors.is_empty(), "{:?}", messages(&errors));
        let tokens = tokens.to_string();
        assert!(tokens.contains("pub struct f { }"), "{tokens}");
        for absent in ["ServedFn", "inventory", "text : & str) -> u8"] {
            assert!(!tokens.contains(absent), "{absent} in {tokens}");
        }
    }

    #[test]
    fn a_body_is_not_parsed() {
        let (tokens, errors) = remote_tokens(quote!(), quote!(fn f() { let unfinished. }));
        assert!(errors.is_empty(), "{:?}", messages(&errors));
        assert!(tokens.to_string().starts_with("fn f () { let unfinished . }"));
    }
}
