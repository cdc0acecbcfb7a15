//! The functions of the generated struct, for callers: `args`, `call`, `notify` and `map`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote_spanned};
use syn::{Ident, Lifetime, Type, spanned::Spanned as _};

use super::{codec, here, yields};
use crate::{
    function::RemoteFunction,
    params::Travels,
    types::{Shape, has_elided_lifetime, with_lifetime},
};

pub(super) fn functions(function: &RemoteFunction<'_>) -> TokenStream {
    let RemoteFunction { vis, ty, .. } = function;
    let params: Vec<_> = function.travelling().collect();
    let names: Vec<_> = params.iter().map(|param| &param.ident).collect();
    let types: Vec<_> = params.iter().map(|param| &param.ty).collect();
    let count = u32::try_from(params.len()).expect("no source file holds 2^32 parameters");
    let values = params.iter().map(|param| encode(param));
    let map = map(function, &params);
    let call_docs = format!(
        "Calls the function on the server, and yields {}. Nothing is sent until the call is awaited.",
        yields(function),
    );
    quote_spanned! {here()=>
        impl #ty {
            /// Encodes the arguments of a call, for code that is generic over remote functions.
            #vis fn args(#(#names: #types),*) -> __rpc::Args<Self> {
                __rpc::Args::encode(#count, |writer| {
                    #(#values)*
                    ::core::result::Result::Ok(())
                })
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

fn encode(param: &Travels<'_>) -> TokenStream {
    let Travels { ident, ty, shape, .. } = param;
    let encode = match shape {
        Shape::Str => codec(&quote_spanned!(here()=> ::core::primitive::str), "encode"),
        Shape::Slice(elem) => codec(&quote_spanned!(elem.span()=> [#elem]), "encode"),
        Shape::Ref(ty) => codec(ty, "encode"),
        Shape::Owned => {
            let encode = codec(ty, "encode");
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
            Shape::Owned => {
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
