//! The functions of the generated struct, for callers: `args`, `call`, `notify` and `map`.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, format_ident, quote_spanned};
use syn::{Ident, Lifetime, Type, spanned::Spanned as _};

use super::{codec, here, yields};
use crate::{
    function::{Output, RemoteFunction},
    params::Travels,
    types::{Shape, has_elided_lifetime, with_lifetime},
};

pub(super) fn functions(function: &RemoteFunction<'_>) -> TokenStream {
    let RemoteFunction { vis, ty, .. } = function;
    let params: Vec<_> = function.travelling().collect();
    let names: Vec<_> = params.iter().map(|param| &param.ident).collect();
    let types: Vec<_> = params.iter().map(|param| &param.ty).collect();
    let args = args(&params);
    let upload = params.iter().find_map(|param| upload(param));
    let returns_stream = matches!(function.output, Output::Stream(_));
    if upload.is_some() || returns_stream {
        return streaming(function, &params, upload.as_ref(), &args);
    }
    let map = map(function, &params);
    let call_docs = format!(
        "Calls the function on the server, and yields {}. Nothing is sent until the call is awaited.",
        yields(function),
    );
    quote_spanned! {here()=>
        impl #ty {
            /// Encodes the arguments of a call, for code that is generic over remote functions.
            #vis fn args(#(#names: #types),*) -> __rpc::Args<Self> {
                #args
            }

            #[doc = #call_docs]
            #vis fn call(client: &__rpc::Client, #(#names: #types),*) -> __rpc::Call<Self> {
                client.call(Self::args(#(#names),*))
            }

            /// Calls the function on the server without expecting a response. Nothing is sent until
            /// the notification is awaited.
            #vis fn notify(client: &__rpc::Client, #(#names: #types),*) -> __rpc::Notify {
                client.notify(Self::args(#(#names),*))
            }

            #map
        }
    }
}

/// Returns the functions of a function that returns a stream, or takes one.
fn streaming(
    function: &RemoteFunction<'_>,
    params: &[&Travels<'_>],
    upload: Option<&TokenStream>,
    args: &TokenStream,
) -> TokenStream {
    let RemoteFunction { vis, ty, .. } = function;
    let names: Vec<_> = params.iter().map(|param| &param.ident).collect();
    let types = params.iter().map(|param| match param.shape {
        Shape::Incoming(item) => quote_spanned! {here()=>
            impl __rpc::PassedStream<#item>
        },
        _ => param.ty.to_token_stream(),
    });
    let types: Vec<_> = types.collect();
    // A stream cannot be encoded beforehand.
    let public_args = upload.is_none().then(|| {
        quote_spanned! {here()=>
            /// Encodes the arguments of a call, for code that is generic over remote functions.
            #vis fn args(#(#names: #types),*) -> __rpc::Args<Self> {
                #args
            }
        }
    });
    let args = if upload.is_some() {
        quote_spanned!(here()=> { #args })
    } else {
        quote_spanned!(here()=> Self::args(#(#names),*))
    };
    let passing = upload.map(|upload| quote_spanned!(here()=> .passing(#upload)));
    let (result, call, no_map, no_notify) = match &function.output {
        Output::Stream(_) => (
            quote_spanned!(here()=> __rpc::Streaming<Self>),
            quote_spanned!(here()=> client.stream(#args) #passing),
            quote_spanned!(here()=> __rpc::NoMap),
            quote_spanned!(here()=> __rpc::NoNotify),
        ),
        _ => (
            quote_spanned!(here()=> __rpc::Call<Self>),
            quote_spanned!(here()=> client.call(#args) #passing),
            quote_spanned!(here()=> __rpc::NoMapOfStreams),
            quote_spanned!(here()=> __rpc::NoNotifyOfStreams),
        ),
    };
    let until = match &function.output {
        Output::Stream(_) => "the first item is asked for",
        _ => "the call is awaited",
    };
    let call_docs = format!(
        "Calls the function on the server, and returns {}. Nothing is sent until {until}.",
        yields(function),
    );
    quote_spanned! {here()=>
        impl #ty {
            #public_args

            #[doc = #call_docs]
            #vis fn call(client: &__rpc::Client, #(#names: #types),*) -> #result {
                #call
            }

            #[doc(hidden)]
            #vis fn map<__Inputs: #no_map>(_: &__rpc::Client, _: __Inputs) {}

            #[doc(hidden)]
            #vis fn notify<__Client: #no_notify>(_: __Client, #(#names: #types),*) {
                let _ = (#(#names,)*);
            }
        }
    }
}

/// Returns the upload of the stream that the caller passes for a parameter.
fn upload(param: &Travels<'_>) -> Option<TokenStream> {
    let Shape::Incoming(item) = param.shape else { return None };
    let (ident, encode) = (&param.ident, codec(item, "encode"));
    Some(quote_spanned! {here()=>
        __rpc::Upload::new(#ident, |item: &#item, writer: &mut __rpc::Writer| #encode(item, writer))
    })
}

/// Returns the encoding of all arguments. Those at the end that are `None` are left out, which the
/// compiler decides by their types.
fn args(params: &[&Travels<'_>]) -> TokenStream {
    let left_out: Vec<_> = params.iter().map(|param| left_out(param)).collect();
    // No argument is left out before one of a type that is surely no `Option`.
    let required = left_out.iter().rposition(Option::is_none).map_or(0, |last| last + 1);
    let left_out = left_out[required..].iter();
    let values = params.iter().enumerate().map(|(index, param)| {
        let value = encode(param);
        let optional = quote_spanned!(here()=> if #index < count { #value });
        if index < required { value } else { optional }
    });
    quote_spanned! {here()=>
        let count = #required + __rpc::sent([#(#left_out),*]);
        __rpc::Args::encode(count, |writer| {
            #(#values)*
            ::core::result::Result::Ok(())
        })
    }
}

/// Returns the test whether the argument may be left out, if its type may be an `Option`.
fn left_out(param: &Travels<'_>) -> Option<TokenStream> {
    let Travels { ident, ty, shape, .. } = param;
    match shape {
        Shape::Str | Shape::Slice(_) | Shape::Incoming(_) => None,
        Shape::Ref(ty) => {
            let left_out = codec(ty, "left_out");
            Some(quote_spanned!(here()=> #left_out(#ident)))
        }
        Shape::Owned => {
            let left_out = codec(ty, "left_out");
            Some(quote_spanned!(here()=> #left_out(&#ident)))
        }
    }
}

fn encode(param: &Travels<'_>) -> TokenStream {
    let Travels { ident, ty, shape, .. } = param;
    // Bytes that are borrowed can only be decoded from `bin`.
    let by = |ty| if has_elided_lifetime(ty) { "encode_borrowing" } else { "encode" };
    let encode = match shape {
        Shape::Incoming(_) => return quote_spanned!(here()=> writer.nil();),
        Shape::Str => codec(&quote_spanned!(here()=> ::core::primitive::str), "encode"),
        Shape::Slice(elem) => codec(&quote_spanned!(elem.span()=> [#elem]), by(elem)),
        Shape::Ref(ty) => codec(ty, by(ty)),
        Shape::Owned => {
            let encode = codec(ty, by(ty));
            return quote_spanned!(here()=> #encode(&#ident, writer)?;);
        }
    };
    quote_spanned!(here()=> #encode(#ident, writer)?;)
}

fn map(function: &RemoteFunction<'_>, params: &[&Travels<'_>]) -> TokenStream {
    let vis = &function.vis;
    let lifetime = Lifetime::new("'__input", here());
    let items: Vec<_> = params
        .iter()
        .enumerate()
        .map(|(index, param)| MapItem::new(index, param, &lifetime))
        .collect();
    let lifetime = items.iter().any(|item| item.borrows).then_some(lifetime).into_iter();
    let generics = items.iter().filter_map(|item| item.generic.as_ref());
    let bounds = items.iter().filter_map(|item| item.bound.as_ref());
    let (types, values) = (items.iter().map(|item| &item.ty), items.iter().map(|item| &item.value));
    let names = params.iter().map(|param| &param.ident);
    let (item, pattern) = if params.len() == 1 {
        (quote_spanned!(here()=> #(#types)*), quote_spanned!(here()=> #(#names)*))
    } else {
        (quote_spanned!(here()=> (#(#types),*)), quote_spanned!(here()=> (#(#names),*)))
    };
    quote_spanned! {here()=>
        /// Calls the function once for each input, with several calls in flight at a time. Yields
        /// each result as soon as it arrives.
        #vis fn map<#(#lifetime,)* __Inputs, #(#generics),*>(
            client: &__rpc::Client,
            inputs: __Inputs,
        ) -> __rpc::Map<Self, __Inputs::IntoIter>
        where
            __Inputs: ::core::iter::IntoIterator<Item = #item>,
            #(#bounds,)*
        {
            __rpc::Map::new(client, ::core::iter::IntoIterator::into_iter(inputs), |#pattern| {
                Self::args(#(#values),*)
            })
        }
    }
}

/// The input of `map` for one parameter: a value of its type, or of any type that can lend one.
struct MapItem {
    ty: TokenStream,
    generic: Option<Ident>,
    bound: Option<TokenStream>,
    value: TokenStream,
    /// True if the type has an elided lifetime. `map` then declares a named lifetime for it,
    /// because its bounds cannot contain an elided one.
    borrows: bool,
}

impl MapItem {
    fn new(index: usize, param: &Travels<'_>, lifetime: &Lifetime) -> Self {
        let ident = &param.ident;
        let named = |ty: &Type| (with_lifetime(ty, lifetime), has_elided_lifetime(ty));
        let ((ty, borrows), lend, by) = match &param.shape {
            Shape::Owned | Shape::Incoming(_) => {
                let (ty, borrows) = named(param.ty);
                return Self {
                    ty: quote_spanned!(here()=> #ty),
                    generic: None,
                    bound: None,
                    value: quote_spanned!(here()=> #ident),
                    borrows,
                };
            }
            Shape::Str => {
                let ty = quote_spanned!(here()=> ::core::primitive::str);
                (
                    (ty, false),
                    quote_spanned!(here()=> ::core::convert::AsRef),
                    quote_spanned!(here()=> as_ref),
                )
            }
            Shape::Slice(elem) => {
                let (elem, borrows) = named(elem);
                let ty = quote_spanned!(here()=> [#elem]);
                (
                    (ty, borrows),
                    quote_spanned!(here()=> ::core::convert::AsRef),
                    quote_spanned!(here()=> as_ref),
                )
            }
            Shape::Ref(ty) => {
                let (ty, borrows) = named(ty);
                let ty = quote_spanned!(here()=> #ty);
                (
                    (ty, borrows),
                    quote_spanned!(here()=> ::core::borrow::Borrow),
                    quote_spanned!(here()=> borrow),
                )
            }
        };
        let generic = format_ident!("__Item{index}", span = here());
        Self {
            bound: Some(quote_spanned!(here()=> #generic: #lend<#ty>)),
            value: quote_spanned!(here()=> #lend::<#ty>::#by(&#ident)),
            ty: quote_spanned!(here()=> #generic),
            generic: Some(generic),
            borrows,
        }
    }
}
