//! Parses the item under the attribute, and writes it back for the compiler. The only rule checked
//! here is that the item is a function.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{ToTokens, TokenStreamExt as _};
use syn::{
    Attribute, FnArg, Lifetime, Result, Signature, Token, Visibility,
    ext::IdentExt as _,
    parse::{Parse, ParseStream},
};

/// A function with a body, or the declaration of a function.
pub(crate) struct Item {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// The body with its braces, or `None` for a declaration. The body is not parsed, so that the
    /// compiler explains any mistake in it.
    pub(crate) body: Option<Group>,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        if !is_function(&input.fork()) {
            return Err(input.error("`#[remote]` goes on a free function: put it on a `fn`"));
        }
        let sig = input.parse()?;
        let body = if input.peek(Token![;]) {
            input.parse::<Token![;]>()?;
            None
        } else {
            Some(body(input)?)
        };
        Ok(Self { attrs, vis, sig, body })
    }
}

fn is_function(ahead: ParseStream<'_>) -> bool {
    while !ahead.peek(Token![fn]) {
        let qualifier = ahead.peek(Token![const])
            || ahead.peek(Token![async])
            || ahead.peek(Token![unsafe])
            || ahead.peek(Token![extern])
            || ahead.peek(syn::LitStr);
        if !qualifier || ahead.parse::<proc_macro2::TokenTree>().is_err() {
            return false;
        }
    }
    ahead.peek2(syn::Ident::peek_any)
}

fn body(input: ParseStream<'_>) -> Result<Group> {
    input.step(|cursor| {
        let Some((content, span, rest)) = cursor.group(Delimiter::Brace) else {
            return Err(cursor.error(
                "write a body, or `;` to declare a function that is implemented elsewhere",
            ));
        };
        let mut body = Group::new(Delimiter::Brace, content.token_stream());
        body.set_span(span.join());
        Ok((body, rest))
    })
}

/// Returns true if an attribute of a parameter belongs to `#[remote]`: `#[state]` or `#[context]`.
pub(crate) fn is_marker(attr: &Attribute) -> bool {
    attr.path().is_ident("state") || attr.path().is_ident("context")
}

impl Item {
    /// Returns the lifetimes that the function declares. The declaration of a lifetime is already
    /// an error, so its uses are not reported again.
    pub(crate) fn lifetimes(&self) -> Vec<&Lifetime> {
        let params = self.sig.generics.lifetimes();
        params.map(|param| &param.lifetime).collect()
    }
}

/// Writes the function as the user wrote it, without `#[state]` and `#[context]`, which the
/// compiler does not know. Writes nothing for a declaration.
impl ToTokens for Item {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Some(body) = &self.body else { return };
        let mut sig = self.sig.clone();
        for input in &mut sig.inputs {
            if let FnArg::Typed(param) = input {
                param.attrs.retain(|attr| !is_marker(attr));
            }
        }
        tokens.append_all(&self.attrs);
        self.vis.to_tokens(tokens);
        sig.to_tokens(tokens);
        body.to_tokens(tokens);
    }
}
