//! The handler that a server runs: it decodes the parameters, calls the function, and encodes the
//! result.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::spanned::Spanned as _;

use super::{blame, codec, here, ok_type, part};
use crate::{
    function::{Execution, Items, Output, RemoteFunction},
    params::{Param, Travels},
    types::Shape,
};

pub(super) fn served_fn(function: &RemoteFunction<'_>) -> TokenStream {
    let RemoteFunction { ty, ident, .. } = function;
    let handler = handler(function);
    let takes_stream = function
        .params
        .iter()
        .any(Param::is_stream)
        .then(|| quote_spanned!(here()=> .taking_stream()));
    let states = function.params.iter().filter_map(|param| match param {
        Param::State { ty, .. } => Some(quote_spanned!(here()=> __rpc::StateType::of::<#ty>())),
        Param::Travels(_) | Param::Context { .. } => None,
    });
    // The span of the name makes `file!` and `line!` return the place of the function, not the
    // place of the attribute.
    let place =
        quote_spanned!(ident.span()=> ::core::file!(), ::core::line!(), ::core::module_path!());
    quote_spanned! {here()=>
        impl __rpc::ServedFn for #ty {
            const ENTRY: &'static __rpc::Entry = &__rpc::Entry::new(
                <Self as __rpc::RemoteFn>::SIGNATURE,
                #handler,
                &[#(#states),*],
                #place,
            )
            #takes_stream;
        }

        __rpc::inventory::submit! { <#ty as __rpc::ServedFn>::ENTRY }
    }
}

fn handler(function: &RemoteFunction<'_>) -> TokenStream {
    let ident = &function.ident;
    let decode = decode(function);
    let arguments = arguments(function);
    let run = quote_spanned!(here()=> #ident(#(#arguments),*));
    if let Output::Stream(items) = &function.output {
        let pump = pump(function, items, &run);
        return quote_spanned! {blame(ident.span())=>
            __rpc::Handler::Stream(|invocation: __rpc::Invocation, outlet: __rpc::Outlet| {
                ::std::boxed::Box::pin(async move {
                    let invocation = invocation;
                    #decode
                    #pump
                })
            })
        };
    }
    if function.execution == Execution::Async {
        let respond = respond(function, &quote_spanned!(here()=> #run.await));
        // The compiler reports a future that is not `Send` at the name of the function.
        quote_spanned! {blame(ident.span())=>
            __rpc::Handler::Async(|invocation: __rpc::Invocation| ::std::boxed::Box::pin(async move {
                let invocation = invocation;
                #decode
                #respond
            }))
        }
    } else {
        let respond = respond(function, &run);
        quote_spanned! {here()=>
            __rpc::Handler::Sync(|invocation: &__rpc::Invocation| {
                #decode
                #respond
            })
        }
    }
}

fn decode(function: &RemoteFunction<'_>) -> TokenStream {
    if function.travelling().next().is_none() {
        return quote_spanned!(here()=> invocation.params()?.finish()?;);
    }
    let params = function.travelling().enumerate().map(|(index, param)| {
        let (local, value) = (local(index), decode_one(param));
        quote_spanned!(here()=> let #local = params.next(|reader| #value)?;)
    });
    let streams = function.travelling().enumerate().filter_map(|(index, param)| {
        let Shape::Incoming(item) = &param.shape else { return None };
        let (local, decode) = (local(index), codec(item, "decode"));
        Some(quote_spanned! {here()=>
            let #local = invocation.incoming(#index, #local, |reader| #decode(reader))?;
        })
    });
    quote_spanned! {here()=>
        let mut params = invocation.params()?;
        #(#params)*
        params.finish()?;
        #(#streams)*
    }
}

fn decode_one(param: &Travels<'_>) -> TokenStream {
    let decode = match &param.shape {
        Shape::Str => return quote_spanned!(here()=> reader.value::<&::core::primitive::str>()),
        Shape::Slice(elem) => codec(&quote_spanned!(elem.span()=> [#elem]), "decode_slice"),
        Shape::Ref(ty) => codec(ty, "decode"),
        Shape::Owned => codec(&param.ty, "decode"),
        Shape::Incoming(item) => {
            let all = quote_spanned! {item.span()=>
                ::core::option::Option<::std::vec::Vec<#item>>
            };
            let decode = codec(&all, "decode");
            return quote_spanned!(here()=> __rpc::Passed::read(reader, |reader| #decode(reader)));
        }
    };
    quote_spanned!(here()=> #decode(reader))
}

/// Returns the name of the local variable for the parameter number `index`, counted from zero among
/// the parameters that travel.
fn local(index: usize) -> Ident {
    format_ident!("p{index}", span = here())
}

/// Returns the arguments of the call of the function: one expression for each of its parameters.
fn arguments(function: &RemoteFunction<'_>) -> Vec<TokenStream> {
    let (mut travelling, mut states) = (0.., 0usize..);
    let mut arguments = Vec::new();
    for param in &function.params {
        arguments.push(match param {
            Param::Travels(param) => {
                let local = travelling.next().map(local);
                match param.shape {
                    Shape::Owned | Shape::Str | Shape::Incoming(_) => {
                        quote_spanned!(here()=> #local)
                    }
                    Shape::Slice(_) | Shape::Ref(_) => quote_spanned!(here()=> &#local),
                }
            }
            Param::State { ty, shared } => {
                let index = states.next();
                let state = quote_spanned!(blame(ty.span())=> invocation.state::<#ty>(#index));
                if *shared {
                    quote_spanned!(blame(ty.span())=> ::std::sync::Arc::clone(#state))
                } else {
                    state
                }
            }
            Param::Context { ty, owned: false } => {
                quote_spanned!(blame(ty.span())=> invocation.context())
            }
            Param::Context { ty, owned: true } => quote_spanned! {blame(ty.span())=>
                ::core::clone::Clone::clone(invocation.context())
            },
        });
    }
    arguments
}

/// Returns the code that runs the function, and takes its items to the caller.
fn pump(function: &RemoteFunction<'_>, items: &Items<'_>, run: &TokenStream) -> TokenStream {
    let awaited = (function.execution == Execution::Async).then(|| quote_spanned!(here()=> .await));
    let fail = items.error.map(|error| codec(error, "fail"));
    let unwrap = items.outer_error.map(|error| {
        let fail = codec(error, "fail");
        quote_spanned! {here()=>
            let items = match __rpc::ResultParts::into_result(items) {
                ::core::result::Result::Ok(items) => items,
                ::core::result::Result::Err(error) => return #fail(&invocation, &error),
            };
        }
    });
    // A stream that is not `Send` is reported where its type is written.
    let written = blame(items.stream.span());
    let stream = if items.is_iterator {
        quote_spanned!(written=> __rpc::iterate(items))
    } else {
        quote_spanned!(written=> __rpc::send_stream(items))
    };
    let encode = codec(items.item, "encode");
    let send = quote_spanned!(here()=> outlet.item(|writer| #encode(&item, writer)));
    let put = if items.fallible {
        quote_spanned! {here()=>
            match __rpc::ResultParts::into_result(item) {
                ::core::result::Result::Ok(item) => #send,
                ::core::result::Result::Err(error) => #fail(&invocation, &error).map(::core::mem::drop),
            }
        }
    } else {
        send
    };
    quote_spanned! {here()=>
        let items = #run #awaited;
        #unwrap
        outlet.pump(#stream, |outlet, item| #put).await
    }
}

fn respond(function: &RemoteFunction<'_>, run: &TokenStream) -> TokenStream {
    let ok = ok_type(&function.output);
    let encode = codec(&ok, "encode");
    let respond = quote_spanned!(here()=> invocation.respond(|writer| #encode(&result, writer)));
    match &function.output {
        Output::Unit | Output::Value(_) => quote_spanned! {here()=>
            let result = #run;
            #respond
        },
        // Its handler pumps the items.
        Output::Stream(_) => TokenStream::new(),
        Output::Result { ty, error, .. } => {
            let fail = codec(&part(ty, "Err", error), "fail");
            quote_spanned! {here()=>
                match __rpc::ResultParts::into_result(#run) {
                    ::core::result::Result::Ok(result) => #respond,
                    ::core::result::Result::Err(error) => #fail(&invocation, &error),
                }
            }
        }
    }
}
