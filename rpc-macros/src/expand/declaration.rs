//! The agreement between a declaration and the function that implements it. A declaration states
//! its parameters as types of the compiler, and the implementation compares its own with them.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::{Lifetime, Path, spanned::Spanned as _};

use super::{blame, error_type, here, ok_type, signature_text};
use crate::{
    function::{Output, RemoteFunction},
    types::with_lifetime,
};

/// Returns what a declaration states, or the checks of an implementation of a declaration.
pub(super) fn expand(function: &RemoteFunction<'_>) -> TokenStream {
    match &function.implements {
        Some(declared) => checks(function, declared),
        None if !function.implemented => declaration(function),
        None => TokenStream::new(),
    }
}

/// Implements `Declaration`, and `Declares<N>` for each parameter.
fn declaration(function: &RemoteFunction<'_>) -> TokenStream {
    let ty = &function.ty;
    let lifetime = Lifetime::new("'__a", here());
    let declared =
        format!("the declaration is `{}`: implement exactly that", signature_text(function));
    let params = function.travelling().enumerate().map(|(index, param)| {
        let (name, param) = (&param.name, with_lifetime(param.ty, &lifetime));
        quote_spanned! {here()=>
            impl __rpc::Declares<#index> for #ty {
                type Param<#lifetime> = #param;
                const NAME: &'static str = #name;
            }
        }
    });
    // The span of the name makes `file!` and `line!` return the place of the declaration.
    let place = quote_spanned!(function.ident.span()=> ::core::file!(), ::core::line!());
    quote_spanned! {here()=>
        __rpc::inventory::submit! {
            __rpc::Declared::new(<#ty as __rpc::RemoteFn>::SIGNATURE, #place)
        }

        impl __rpc::Declaration for #ty {
            const DIFFERS: &'static str = #declared;
        }
        #(#params)*
    }
}

/// Compares the function with the declaration that it implements: the number, the names and the
/// types of the parameters in their order, and the result. Each difference is reported where the
/// user wrote it.
fn checks(function: &RemoteFunction<'_>, declared: &Path) -> TokenStream {
    let forever = Lifetime::new("'static", here());
    let count = function.travelling().count();
    let signature = quote_spanned!(here()=> <#declared as __rpc::RemoteFn>::SIGNATURE);
    let same_number = quote_spanned!(here()=> #signature.params.len() == #count);
    let mut checks = vec![agree(declared.span(), declared, &same_number)];
    for (index, param) in function.travelling().enumerate() {
        let name = &param.name;
        let position = quote_spanned!(here()=> <#declared as __rpc::Declares<#index>>);
        checks.push(agree(
            param.ident.span(),
            declared,
            &quote_spanned!(here()=> __rpc::same_text(#position::NAME, #name)),
        ));
        let ty = with_lifetime(param.ty, &forever);
        let span = blame(param.ty.span());
        checks.push(same(span, &quote_spanned!(span=> #position::Param<#forever>), &ty));
    }
    let (ty, written) = (
        ok_type(&function.output),
        match &function.output {
            Output::Unit => function.ident.span(),
            Output::Value(ty) => ty.span(),
            Output::Result { ok, .. } => ok.span(),
            Output::Stream(items) => items.item.span(),
        },
    );
    let output = quote_spanned!(here()=> <#declared as __rpc::RemoteFn>::Output);
    checks.push(same(blame(written), &output, &ty));
    let error = error_type(&function.output);
    let declared_error = quote_spanned!(here()=> <#declared as __rpc::RemoteFn>::Error);
    checks.push(same(blame(written), &declared_error, &error));
    quote_spanned!(here()=> #(#checks)*)
}

/// Returns a check of a `condition` at compile time. Its error shows the declaration.
fn agree(span: Span, declared: &Path, condition: &TokenStream) -> TokenStream {
    let span = blame(span);
    quote_spanned! {span=>
        const _: () = if !(#condition) {
            ::core::panic!("{}", <#declared as __rpc::Declaration>::DIFFERS)
        };
    }
}

/// Returns a check that the type `ty` is the type `declared`.
fn same(span: Span, declared: &TokenStream, ty: &impl quote::ToTokens) -> TokenStream {
    quote_spanned!(span=> const _: fn() = || __rpc::assert_same::<#declared, #ty>();)
}
