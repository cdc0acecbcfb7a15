//! Turns a [`RemoteFunction`] into tokens. This step cannot fail: all rules were checked before.
//!
//! Generated code refers only to `__private`, the standard library and the user's own items. Its
//! local names have the hygiene of `mixed_site`, so that they cannot clash with the name of a
//! parameter.

mod client;
mod declaration;
mod server;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::{Ident, Type, spanned::Spanned as _};

use crate::{
    function::{Execution, Items, Output, RemoteFunction},
    params::Param,
    types::{Shape, has_elided_lifetime, text},
};

/// Returns all code that is generated beside the function.
pub(crate) fn expand(function: &RemoteFunction<'_>) -> TokenStream {
    let RemoteFunction { cfgs, krate, allowed, .. } = function;
    let structure = structure(function);
    let remote_fn = remote_fn(function);
    let functions = client::functions(function);
    let served_fn = function.implemented.then(|| server::served_fn(function));
    let checks = checks(function);
    let declaration = declaration::expand(function);
    let deprecated = function.deprecated.then(|| quote_spanned!(here()=> #[allow(deprecated)]));
    quote_spanned! {here()=>
        #structure

        #(#cfgs)*
        #deprecated
        #(#[allow(#allowed)])*
        #[allow(dead_code, unused_imports, clippy::all, clippy::pedantic)]
        const _: () = {
            use #krate::__private as __rpc;
            use __rpc::{
                DecodeBySerde as _, DecodeSliceBySerde as _, EncodeBySerde as _, FailBySerde as _, IsNoResult as _,
                AlwaysSent as _, Refused as _, RefusedSlice as _,
            };

            #remote_fn
            #functions
            #served_fn
            #checks
            #declaration
        };
    }
}

/// Returns the default span of generated code: the place of the attribute, with hygienic names.
fn here() -> Span {
    Span::mixed_site()
}

/// Returns a span for generated code whose errors the compiler reports at the user's `span`. Names
/// with this span are hygienic, as with [`here`].
fn blame(span: Span) -> Span {
    span.resolved_at(Span::mixed_site())
}

/// Returns spans for the first and the last token of generated code whose errors the compiler
/// reports at the whole of the user's `tokens`.
fn ends(tokens: &impl ToTokens) -> (Span, Span) {
    let mut spans = tokens.to_token_stream().into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(here);
    (blame(first), blame(spans.last().unwrap_or(first)))
}

/// Returns the path of the codec function `name` for the type `ty`, ready to be called. `name` is
/// `encode`, `encode_borrowing`, `left_out`, `decode`, `decode_slice` or `fail`.
fn codec(ty: &impl ToTokens, name: &str) -> TokenStream {
    let (first, last) = ends(ty);
    let name = Ident::new(name, last);
    quote_spanned!(first=> __rpc::Value::<#ty>::NEW.#name)
}

fn structure(function: &RemoteFunction<'_>) -> TokenStream {
    let RemoteFunction { vis, ty, cfgs, shared_attrs, allowed, .. } = function;
    let docs = struct_docs(function);
    quote_spanned! {here()=>
        #(#cfgs)*
        #(#shared_attrs)*
        #[doc = #docs]
        #(#[allow(#allowed)])*
        #[allow(
            non_camel_case_types, dead_code, missing_copy_implementations, missing_debug_implementations,
            clippy::exhaustive_structs
        )]
        #vis struct #ty {}
    }
}

/// Returns the docs of the struct, which follow the doc attributes that it shares with the
/// function.
fn struct_docs(function: &RemoteFunction<'_>) -> String {
    let RemoteFunction { ident, doc, .. } = function;
    let shown =
        format!("```text\n{}\n```\nA call yields {}.", signature_text(function), yields(function));
    if !function.implemented {
        return format!("\n\n{shown}\n\nA remote function that is implemented elsewhere.");
    }
    // Only the first paragraph is copied, because doctests in the rest would run twice. Its links
    // need their reference definitions, which may stand in any paragraph.
    let doc = doc.text();
    let summary = doc.split("\n\n").next().filter(|summary| !summary.contains("```"));
    let links = doc.lines().filter(|line| line.starts_with('[') && line.contains("]: "));
    let links: Vec<_> = links.collect();
    let line = if ident.to_string().starts_with("r#") {
        format!("The remote side of `{ident}`.")
    } else {
        format!("The remote side of [`{ident}()`].")
    };
    format!("{}\n\n{shown}\n\n{line}\n\n{}", summary.unwrap_or_default(), links.join("\n"))
}

/// Returns the signature with the parameters that travel, as the user has written their types.
fn signature_text(function: &RemoteFunction<'_>) -> String {
    let params = function.travelling();
    let params =
        params.map(|param| format!("{}: {}", param.name, text(param.ty.to_token_stream())));
    let params = params.collect::<Vec<_>>().join(", ");
    let result = match &function.output {
        Output::Unit => String::new(),
        Output::Value(ty)
        | Output::Result { ty, .. }
        | Output::Stream(Items { written: ty, .. }) => {
            format!(" -> {}", text(ty.to_token_stream()))
        }
    };
    format!("fn {}({params}){result}", function.ident)
}

/// Returns the type of what a call yields, for the docs.
fn yields(function: &RemoteFunction<'_>) -> String {
    match &function.output {
        Output::Unit => "`Result<(), RpcError>`".to_owned(),
        Output::Value(ty) => format!("`Result<{}, RpcError>`", text(ty.to_token_stream())),
        Output::Stream(Items { item, error, .. }) => {
            let item = text(item.to_token_stream());
            match error {
                None => format!("a stream of `Result<{item}, RpcError>`"),
                Some(error) => {
                    let error = text(error.to_token_stream());
                    format!("a stream of `Result<{item}, CallError<{error}>>`")
                }
            }
        }
        // An alias may hide the type of the error, or both.
        Output::Result { ok, error, ty } if std::ptr::eq(*error, *ty) || std::ptr::eq(*ok, *ty) => {
            let ty = text(ty.to_token_stream());
            format!("the value of `{ty}`, or a `CallError` with its error")
        }
        Output::Result { ok, error, .. } => {
            let (ok, error) = (text(ok.to_token_stream()), text(error.to_token_stream()));
            format!("`Result<{ok}, CallError<{error}>>`")
        }
    }
}

fn remote_fn(function: &RemoteFunction<'_>) -> TokenStream {
    let ty = &function.ty;
    let signature = signature(function);
    let ok = ok_type(&function.output);
    let decode = codec(&ok, "decode");
    let (first, last) = ends(&ok);
    let end = quote_spanned!(last=> ;);
    let output = quote_spanned!(first=> type Output = #ok #end);
    let error = error_type(&function.output);
    let remote_stream = match &function.output {
        Output::Stream(items) => Some(remote_stream(function, items)),
        _ => None,
    };
    quote_spanned! {here()=>
        #remote_stream

        impl __rpc::RemoteFn for #ty {
            #output
            type Error = #error;
            const SIGNATURE: &'static __rpc::Signature = &#signature;

            fn decode_output(
                reader: &mut __rpc::Reader<'_>,
            ) -> ::core::result::Result<Self::Output, __rpc::DecodeError> {
                #decode(reader)
            }
        }
    }
}

fn remote_stream(function: &RemoteFunction<'_>, items: &Items<'_>) -> TokenStream {
    let (ty, item) = (&function.ty, items.item);
    let decode = codec(item, "decode");
    let (first, last) = ends(item);
    let end = quote_spanned!(last=> ;);
    let item = quote_spanned!(first=> type Item = #item #end);
    quote_spanned! {here()=>
        impl __rpc::RemoteStream for #ty {
            #item

            fn decode_item(
                reader: &mut __rpc::Reader<'_>,
            ) -> ::core::result::Result<Self::Item, __rpc::DecodeError> {
                #decode(reader)
            }
        }
    }
}

fn signature(function: &RemoteFunction<'_>) -> TokenStream {
    let RemoteFunction { name, doc, idempotent, .. } = function;
    let execution = match function.execution {
        Execution::Blocking => quote_spanned!(here()=> Blocking),
        Execution::Async => quote_spanned!(here()=> Async),
        Execution::Inline => quote_spanned!(here()=> Inline),
    };
    if let Some(declared) = &function.implements {
        return quote_spanned! {here()=>
            <#declared as __rpc::RemoteFn>::SIGNATURE.implemented(__rpc::Execution::#execution)
        };
    }
    let params = function.travelling().map(|param| {
        let name = &param.name;
        let ty = match &param.shape {
            Shape::Incoming(item) => format!("stream of {}", text(item.to_token_stream())),
            _ => text(param.ty.to_token_stream()),
        };
        quote_spanned!(here()=> __rpc::Param::new(#name, #ty))
    });
    let output = match &function.output {
        Output::Unit => quote_spanned!(here()=> "()", ::core::option::Option::None),
        Output::Value(ty) => {
            let text = text(ty.to_token_stream());
            quote_spanned!(here()=> #text, ::core::option::Option::None)
        }
        Output::Result { ty, ok, error } => {
            let (text, error) = (text(ok.to_token_stream()), part(ty, "Err", error));
            quote_spanned!(here()=> #text, ::core::option::Option::Some(__rpc::type_name::<#error>))
        }
        Output::Stream(Items { item, error, .. }) => {
            let text = format!("stream of {}", text(item.to_token_stream()));
            match error {
                None => quote_spanned!(here()=> #text, ::core::option::Option::None),
                Some(error) => quote_spanned! {here()=>
                    #text, ::core::option::Option::Some(__rpc::type_name::<#error>)
                },
            }
        }
    };
    let timeout =
        function.timeout_nanos.map(|nanos| quote_spanned!(here()=> .with_timeout_nanos(#nanos)));
    let retries = function.retries.map(|retries| quote_spanned!(here()=> .with_retries(#retries)));
    quote_spanned! {here()=>
        __rpc::Signature::new(#name, #doc, &[#(#params),*])
            .with_output(#output)
            .with_execution(__rpc::Execution::#execution, #idempotent)
            #timeout
            #retries
    }
}

/// Returns the type of a successful result. For a `Result` the compiler looks the type up through
/// `ResultParts`: the angle brackets of an alias may hold anything, so they do not tell the type.
fn ok_type(output: &Output<'_>) -> TokenStream {
    match output {
        Output::Unit => quote_spanned!(here()=> ()),
        Output::Value(ty) => ty.to_token_stream(),
        Output::Result { ty, ok, .. } => part(ty, "Ok", ok),
        // A caller that asks for no stream gets all items at once.
        Output::Stream(Items { item, .. }) => {
            let (first, last) = ends(item);
            let items = quote_spanned!(last=> <#item>);
            quote_spanned!(first=> ::std::vec::Vec #items)
        }
    }
}

/// Returns the type of the error that a call ends with. Errors about it are reported at the error
/// type that the user wrote.
fn error_type(output: &Output<'_>) -> TokenStream {
    match output {
        Output::Unit | Output::Stream(Items { error: None, .. }) => {
            quote_spanned!(here()=> __rpc::RpcError)
        }
        Output::Value(ty) => quote_spanned!(blame(ty.span())=> __rpc::RpcError),
        Output::Stream(Items { error: Some(error), .. }) => {
            let (first, last) = ends(error);
            let arguments = quote_spanned!(last=> <#error>);
            quote_spanned!(first=> __rpc::CallError #arguments)
        }
        Output::Result { ty, error, .. } => {
            let (first, last) = ends(error);
            let error = part(ty, "Err", error);
            let arguments = quote_spanned!(last=> <#error>);
            quote_spanned!(first=> __rpc::CallError #arguments)
        }
    }
}

/// Returns the `Ok` or `Err` type of the type `result`, as `name` says. Errors about that type are
/// reported at `written`, the place where the user wrote it.
fn part(result: &Type, name: &str, written: &Type) -> TokenStream {
    let (first, last) = ends(written);
    let name = Ident::new(name, last);
    quote_spanned!(first=> <#result as __rpc::ResultParts>::#name)
}

/// Returns the code that asserts the traits of every type. A type that lacks a trait is reported
/// where the user wrote it.
fn checks(function: &RemoteFunction<'_>) -> TokenStream {
    let params = function.params.iter().map(check_param);
    let output = match &function.output {
        Output::Unit => TokenStream::new(),
        Output::Value(ty) => quote_spanned!(blame(ty.span())=> __rpc::assert_output::<#ty>();),
        Output::Stream(Items { item, error, outer_error, .. }) => {
            let one_error = outer_error.zip(*error).map(|(outer, inner)| {
                quote_spanned!(blame(outer.span())=> __rpc::assert_one_error::<#inner, #outer>();)
            });
            let item = quote_spanned!(blame(item.span())=> __rpc::assert_item::<#item>(););
            quote_spanned!(here()=> #item #one_error)
        }
        // The bounds of `RemoteFn::Error` already check the error type.
        Output::Result { ty, ok, .. } => {
            let ok = part(ty, "Ok", ok);
            quote_spanned!(here()=> __rpc::assert_output::<#ok>();)
        }
    };
    let alias = match &function.output {
        &Output::Value(ty @ Type::Path(_)) => {
            let (first, last) = ends(ty);
            let condition = quote_spanned! {last=> (
                !__rpc::Check::<#ty>::IS_RESULT,
                "this is a `Result` under another name: write the type as `Result<T, E>`"
            )};
            Some(quote_spanned!(first=> const _: () = ::core::assert!#condition;))
        }
        _ => None,
    };
    quote_spanned! {here()=>
        const _: fn() = || {
            #(#params)*
            #output
        };
        #alias
    }
}

fn check_param(param: &Param<'_>) -> TokenStream {
    let ty = match param {
        Param::Context { .. } => return TokenStream::new(),
        Param::State { ty, .. } => {
            return quote_spanned!(blame(ty.span())=> __rpc::assert_state::<#ty>(););
        }
        Param::Travels(param) => match &param.shape {
            Shape::Str => return TokenStream::new(),
            Shape::Incoming(item) => {
                let ty = param.ty;
                let is_ours = quote_spanned! {blame(ty.span())=>
                    __rpc::assert_incoming::<#ty, #item>();
                };
                let travels = quote_spanned!(blame(item.span())=> __rpc::assert_item::<#item>(););
                return quote_spanned!(here()=> #is_ours #travels);
            }
            Shape::Owned => param.ty,
            Shape::Slice(ty) | Shape::Ref(ty) => ty,
        },
    };
    if has_elided_lifetime(ty) {
        quote_spanned!(blame(ty.span())=> __rpc::assert_borrowed_param::<#ty>();)
    } else {
        quote_spanned!(blame(ty.span())=> __rpc::assert_param::<#ty>();)
    }
}
