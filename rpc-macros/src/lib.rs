//! The `#[remote]` attribute.

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

/// Doc.
#[proc_macro_attribute]
pub fn remote(args: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
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
    // The function itself stays, also beside a mistake, so that its users get no errors of their own.
    let mut tokens = item.to_token_stream();
    tokens.extend(function.as_ref().map(expand::expand));
    (tokens, errors)
}
