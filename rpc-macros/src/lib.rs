//! The `#[remote]` attribute, which `rpc-core` re-exports.
//!
//! This crate runs only at compile time, never during a call. `RemoteArgs` holds the arguments of
//! the attribute, and `Item` the function under it. `RemoteFunction::parse` checks both against all
//! rules and combines them. `expand` turns the result into code.

mod args;
mod doc;
mod expand;
mod function;
mod item;
mod params;
mod types;

use proc_macro2::TokenStream;
use quote::ToTokens as _;
use syn::Error;

use crate::{args::RemoteArgs, function::RemoteFunction, item::Item};

/// Makes a function remote. A server in the same program serves it, and a client in any process can
/// call it by the same name with the same types.
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
/// assert_eq!(vowels("remote"), 3); // a plain local call
/// assert_eq!(vowels::call(&client, "remote").await?, 3); // a call to the server
/// # server.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// # Generated code
/// The function itself stays as it is. The attribute adds a struct with the same name, and one
/// `use` imports both. Doc links tell them apart: ``[`vowels()`]`` is the function,
/// ``[`struct@vowels`]`` is the struct.
///
/// The struct implements `RemoteFn` and has four functions, as visible as the remote function:
///
/// | function               | returns                                                            |
/// |------------------------|--------------------------------------------------------------------|
/// | `call(&client, ...)`   | a `Call`: a future of the result; or a [stream](#streams) of items |
/// | `map(&client, inputs)` | a `Map`: a stream of the results for many inputs, some at a time   |
/// | `notify(&client, ...)` | a `Notify`: a future that sends the call and expects no response   |
/// | `args(...)`            | the encoded `Args`, for code that is generic over remote functions |
///
/// # Arguments of the attribute
/// All arguments are optional.
///
/// | argument            | meaning                                        | default             |
/// |---------------------|------------------------------------------------|---------------------|
/// | `name = "math.add"` | the name on the wire                           | the function's name |
/// | `type = Add`        | the name of the struct                         | the function's name |
/// | `implements = path` | the declaration that the function implements   | none                |
/// | `inline`            | runs a sync function on the I/O thread         | the worker pool     |
/// | `idempotent`        | a repeated call does no harm                   | it may do harm      |
/// | `retries = 3`       | how often a call may be retried, `0` for never | set by the client   |
/// | `timeout = "500ms"` | how long a call may take                       | set by the client   |
/// | `crate = "my::rpc"` | the path of the `rpc_core` crate               | `::rpc_core`        |
///
/// - `name`: the prefix `rpc.` is reserved. No two functions of a server can have the same name.
/// - `type`: needed where a module or a crate already has the name of the function.
/// - `implements`: see [declarations](#declarations).
/// - `idempotent`, `retries`: a lost or refused call is retried only where that is safe. It is safe
///   if the function is idempotent, if it is known not to have run, or if the call has an
///   idempotency key.
/// - `timeout`: an integer and a unit: `us`, `ms`, `s`, `m` or `h`.
/// - `retries`, `timeout`: defaults, which the caller can override for each call.
/// - `crate`: needed where `rpc_core` has another name or is reached through a re-export.
///
/// # Execution
/// | function           | runs on                     | requirement                          |
/// |--------------------|-----------------------------|--------------------------------------|
/// | `fn`               | the server's worker pool    | none: it may compute or block        |
/// | `async fn`         | the tokio runtime of `bind` | must not block; its future is `Send` |
/// | `fn` with `inline` | the server's I/O thread     | must return within microseconds      |
///
/// - There is one worker for each core, and up to 64 while all of them block. A sync function that
///   calls a function and waits keeps its worker meanwhile. An async function needs none.
/// - The tokio runtime of an async function is the one in which the server was bound.
/// - An `inline` function runs right after its request is decoded, before the I/O thread reads the
///   next message. All other messages wait until it returns.
///
/// # Parameters
/// A parameter's type implements `serde::Serialize` and `serde::Deserialize`. References save
/// copies: the caller encodes from the reference, and the function borrows from the request where
/// that is possible.
///
/// | parameter                    | the function borrows    | `map` takes                     |
/// |------------------------------|-------------------------|---------------------------------|
/// | `T`                          | nothing                 | a `T`                           |
/// | `&str`, `&[u8]`              | from the request        | any `AsRef<str>`, `AsRef<[u8]>` |
/// | `&Path`                      | from the request        | any `Borrow<Path>`              |
/// | `&[T]`                       | from a decoded `Vec<T>` | any `AsRef<[T]>`                |
/// | `&T`                         | from a decoded `T`      | any `Borrow<T>`                 |
/// | `Option<&str>`, `(&str, u8)` | what serde borrows      | a value of the same type        |
/// | `Cow<'_, str>`               | nothing: serde copies, unless a field says `#[serde(borrow)]` | a value of the same type |
///
/// The last column is one input of `map`. With several parameters an input is a tuple of these, and
/// without parameters it is `()`.
///
/// ## Encoding
/// - **Bytes.** `Vec<u8>`, `Bytes`, `&[u8]`, `Option<Vec<u8>>` and `Option<Bytes>` travel as the
///   `bin` type of MessagePack, and so does a `&[u8]` anywhere in a parameter. Inside any other type
///   a `Vec<u8>` is an array of integers, which is slow: use `Bytes` there, or `serde_bytes`.
/// - **Nil.** `None`, `()` and `Some(None)` are all encoded as nil, and an `Option` decodes nil as
///   `None`. So `Some(())` and `Some(None)` arrive as `None`.
/// - **Names.** A parameter's name is part of the protocol, because other peers may call with named
///   arguments. A pattern such as `(a, b): (i32, i32)` is named by its position, counted from zero
///   among the parameters that travel: `arg0`, `arg1`. No two parameters can have the same name.
/// - **Missing arguments.** A peer may leave out an `Option`, which is then `None`. A call without
///   one of the other arguments is refused.
///
/// ## Parameters that the server provides
/// Two kinds of parameters do not travel, and the caller does not see them:
///
/// - `#[state] cache: &Cache` or `#[state] cache: Arc<Cache>` is the server's value of that type. A
///   server that was given no such value does not start. The type is `Send`, `Sync` and `'static`,
///   and not a `dyn` type. All calls share the value, so changes need a `Mutex` or an atomic.
/// - `#[context] cx: &Context` or `#[context] cx: Context` describes the call: its peer, its
///   deadline, and whether it was cancelled. A function has at most one context.
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
/// | the function returns | a call yields             |
/// |----------------------|---------------------------|
/// | `T`                  | `Result<T, RpcError>`     |
/// | `Result<T, E>`       | `Result<T, CallError<E>>` |
///
/// - `T` and `E` implement `serde::Serialize`, `serde::Deserialize` and `Send`. They own what they
///   hold (`'static`), and are as visible as the function.
/// - `E` also implements `Debug` and `Display`.
/// - The attribute recognizes `Result` by its name. Any alias that is called `Result` works, and an
///   alias with another name is a compile error.
/// - An error that does not travel, such as `anyhow::Error` or `Box<dyn Error>`, is a compile error:
///   its caller could do nothing with it but show it. Write an enum of your own, or a `String` with
///   `.map_err(|error| format!("{error:#}"))`.
///
/// # Streams
/// A function that returns an iterator or a stream is remote as well. Its items travel one by one,
/// as fast as the caller takes them, and their number has no limit. Each of them is at most as large
/// as a message (`max_message_size`):
///
/// | the function returns                          | a call is a `Streaming`, a stream of |
/// |-----------------------------------------------|--------------------------------------|
/// | `impl Iterator<Item = T> + Send`              | `Result<T, RpcError>`                |
/// | `impl Stream<Item = T> + Send` (`async`)      | `Result<T, RpcError>`                |
/// | one of them, with `Item = Result<T, E>`       | `Result<T, CallError<E>>`            |
/// | `Result` of one of them and `E`               | `Result<T, CallError<E>>`            |
/// | `Box<dyn Iterator>`, `Pin<Box<dyn Stream>>`, `BoxStream` | the same                  |
///
/// A parameter `rows: Incoming<T>` is a stream that the caller passes: any
/// `impl Stream<Item = T> + Send + 'static`. A function has one at most, and may return a stream as
/// well.
///
/// Streams are recognized by how they are written: by these names, and not by an alias or the type
/// behind them. They must be `Send`, whether or not that is written. What a function returns may
/// borrow from its parameters; if it does not, and borrows would get in the way, `+ use<>` says so.
///
/// ```standalone_crate
/// use futures_util::{Stream, StreamExt, stream};
/// use rpc_core::{Client, Incoming, Server, remote};
///
/// /// Sync: it runs on the workers, and holds none while its caller takes nothing.
/// #[remote]
/// fn squares(below: u64) -> impl Iterator<Item = u64> + Send {
///     (0..below).map(|n| n * n)
/// }
///
/// /// Both at once.
/// #[remote]
/// async fn double(numbers: Incoming<u64>) -> impl Stream<Item = Result<u64, String>> + Send {
///     numbers.map(|number| Ok(2 * number.map_err(|error| error.to_string())?))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::bind("inproc://streams").await?.spawn()?;
/// # let client = Client::connect("inproc://streams").await?;
/// let mut squares = squares::call(&client, 1_000_000);
/// assert_eq!(squares.next().await.transpose()?, Some(0));
/// drop(squares); // which ends the iterator on the server
///
/// let mut doubled = double::call(&client, stream::iter([1, 2]));
/// while let Some(number) = doubled.next().await {
///     println!("{}", number?);
/// }
/// # server.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// - `call(...).wait()` is an iterator, for programs without an async runtime.
/// - Such a function has no `map` and no `notify`, and with `Incoming` no `args`. `inline` is
///   refused.
/// - A server collects the items for a caller that asks for no stream, such as
///   `client.call(squares::args(10))`, which yields a `Vec`.
///
/// # Declarations
/// A function without a body is only declared, for callers that do not link its implementation:
///
/// ```
/// # use rpc_core::remote;
/// #[remote]
/// pub fn next_id(step: u64) -> Option<u64>;
/// ```
///
/// - A declaration lists only the parameters that travel: no `#[state]` and no `#[context]`.
/// - `#[remote(implements = shared::next_id)]` on the implementation lets the compiler compare both:
///   the names, order and types of the parameters, the result and the error. The declaration then
///   decides about `name`, `timeout`, `retries`, `idempotent` and the docs.
/// - Without `implements`, both are matched by their name on the wire. `timeout`, `retries` and
///   `idempotent` are those of the declaration, because they are read where the call is made. The
///   `timeout` of the implementation holds only for notifications, and for requests that carry no
///   timeout.
/// - Leave `inline` to the implementation.
/// - A server serves the implementations that are linked into its program. A program that calls an
///   implemented function links the implementation too, even if it is only a client. To avoid that,
///   declare functions in a crate that both sides use, and implement them in one that only the
///   server uses.
///
/// # When the compiler complains
/// | the compiler says                                          | the reason, and what to write          |
/// |-------------------------------------------------------------|----------------------------------------|
/// | `struct is not supported in traits or impls`                | the function is in an `impl` or a `trait`: move it out |
/// | `expected function, found struct`, on `f(&client, x)`       | a declaration has no body to call: `f::call(&client, x)` |
/// | `the name is defined multiple times` (E0255)                | a declaration is imported beside its implementation: drop the `use`, and write `implements = shared::f` |
/// | `cannot define inherent impl` (E0116), `only traits defined in the current crate` (E0117) | these follow from E0255, if the declaration is of another crate |
///
/// # What cannot be remote
/// Each of these is a compile error that says what to write instead:
///
/// | not allowed                              | allowed instead                                 |
/// |------------------------------------------|-------------------------------------------------|
/// | a method with `self`, `Self`             | a free function with a `#[state]` parameter     |
/// | `unsafe`, `const`, `extern`              | a plain, safe function                          |
/// | type parameters, `where` clauses         | the type, or one function for each type         |
/// | const parameters                         | `Vec<T>` for an array of any length             |
/// | lifetimes: `<'a>`, `&'a T`, `&'static T` | `&T`, and `'_` inside a type                    |
/// | a hidden lifetime: `Cow<str>`            | `Cow<'_, str>`; in a result `Cow<'static, str>` |
/// | `&mut T`                                 | `&T`, and a result that holds what has changed  |
/// | `impl Trait`, but for [streams](#streams) | the type, such as `&str` or `Vec<T>`           |
/// | `dyn Trait`, but for [streams](#streams) | an enum with a variant for each case            |
/// | `&OsStr`, `&CStr`, `&[str]`              | `&OsString`, `&CString`, `&[&str]`              |
/// | a variable number of parameters: `...`   | `Vec<T>`                                        |
/// | `#[cfg]` on a parameter                  | `#[cfg]` on the function, or an `Option`        |
/// | a result that borrows, or an item        | an owned type, such as `String`                 |
/// | a function that never returns: `-> !`    | a result type, or none                          |
#[proc_macro_attribute]
pub fn remote(
    args: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let (mut tokens, errors) = remote_tokens(args.into(), item.into());
    tokens.extend(errors.iter().map(Error::to_compile_error));
    tokens.into()
}

/// Returns the tokens that replace the item, and all mistakes that were found in it.
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
    // The function stays even after a mistake. Otherwise every use of it would be one more error.
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
    fn all_mistakes_are_reported_at_once() {
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
    fn other_items_are_refused_and_stay() {
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
    fn declaration_adds_only_the_client_side() {
        let (tokens, errors) = remote_tokens(
            quote!(),
            quote!(
                pub fn f(text: &str) -> u8;
            ),
        );
        assert!(errors.is_empty(), "{:?}", messages(&errors));
        let tokens = tokens.to_string();
        assert!(tokens.contains("pub struct f { }"), "{tokens}");
        for absent in ["ServedFn", "Entry", "text : & str) -> u8"] {
            assert!(!tokens.contains(absent), "{absent} in {tokens}");
        }
    }

    #[test]
    fn body_is_not_parsed() {
        let (tokens, errors) = remote_tokens(quote!(), quote!(fn f() { let unfinished. }));
        assert!(errors.is_empty(), "{:?}", messages(&errors));
        assert!(tokens.to_string().starts_with("fn f () { let unfinished . }"));
    }
}
