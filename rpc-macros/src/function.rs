//! Attribute and item → [`RemoteFunction`]: every rule about the function. A value that exists is legal.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Attribute, Error, Expr, ExprLit, GenericParam, Ident, Lifetime, Lit, Meta, Path, ReturnType, Safety,
    Type, Visibility, ext::IdentExt as _,
};

use crate::{
    args::RemoteArgs,
    item::Item,
    params::{self, Param},
    types::{check_result, first_argument, last_segment, text},
};

/// A function that can be remote.
pub(crate) struct RemoteFunction {
    pub(crate) vis: Visibility,
    /// The function.
    pub(crate) ident: Ident,
    /// The struct beside it.
    pub(crate) ty: Ident,
    /// The name on the wire.
    pub(crate) name: String,
    /// The doc comment, its lines joined.
    pub(crate) doc: String,
    /// Attributes that the struct shares with the function: `doc(...)` and `deprecated`.
    pub(crate) shared_attrs: Vec<Attribute>,
    pub(crate) deprecated: bool,
    pub(crate) cfgs: Vec<Attribute>,
    /// What the function's `allow` and `expect` attributes say: it holds for generated code too.
    pub(crate) allowed: Vec<TokenStream>,
    pub(crate) kind: Kind,
    pub(crate) idempotent: bool,
    pub(crate) timeout_nanos: Option<u64>,
    /// The path of the runtime crate.
    pub(crate) krate: Path,
    pub(crate) params: Vec<Param>,
    pub(crate) output: Output,
    /// Whether there is a body.
    pub(crate) implemented: bool,
}

/// Where it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pool,
    Async,
    Inline,
}

/// What it returns.
pub(crate) enum Output {
    /// A value; `()` if nothing is written.
    Value(Type),
    /// A `Result`, of which `text` is the part that a successful call yields, as far as it can be seen.
    Result { ty: Type, text: String },
}

impl RemoteFunction {
    /// Checks everything. A mistake goes to `errors`, and then there is no function, nor if `errors` has one
    /// already.
    pub(crate) fn parse(args: RemoteArgs, item: &Item, errors: &mut Vec<Error>) -> Option<Self> {
        let sig = &item.sig;
        check_signature(item, errors);
        check_inline(args.inline, item, errors);
        let params = params::parse(item, errors);
        let output = output(item, errors);
        if !errors.is_empty() {
            return None;
        }
        let with_path = |name: &'static str| item.attrs.iter().filter(move |attr| attr.path().is_ident(name));
        Some(Self {
            vis: item.vis.clone(),
            ident: sig.ident.clone(),
            ty: args.ty.unwrap_or_else(|| sig.ident.clone()),
            name: args.name.unwrap_or_else(|| sig.ident.unraw().to_string()),
            doc: doc(&item.attrs),
            shared_attrs: with_path("doc")
                .filter(|attr| matches!(attr.meta, Meta::List(_)))
                .chain(with_path("deprecated"))
                .cloned()
                .collect(),
            deprecated: with_path("deprecated").next().is_some(),
            cfgs: with_path("cfg").cloned().collect(),
            allowed: with_path("allow")
                .chain(with_path("expect"))
                .filter_map(|attr| Some(attr.meta.require_list().ok()?.tokens.clone()))
                .collect(),
            kind: match (args.inline, sig.asyncness) {
                (_, Some(_)) => Kind::Async,
                (Some(_), None) => Kind::Inline,
                (None, None) => Kind::Pool,
            },
            idempotent: args.idempotent,
            timeout_nanos: args.timeout_nanos,
            krate: args.krate,
            params,
            output,
            implemented: item.body.is_some(),
        })
    }

    /// The parameters that travel.
    pub(crate) fn travelling(&self) -> impl Iterator<Item = &params::Travels> {
        self.params.iter().filter_map(|param| match param {
            Param::Travels(travels) => Some(travels),
            Param::State { .. } | Param::Context { .. } => None,
        })
    }
}

fn check_signature(item: &Item, errors: &mut Vec<Error>) {
    let sig = &item.sig;
    if let Some(token) = sig.constness {
        errors.push(Error::new_spanned(
            token,
            "a remote function cannot be `const`: remove it",
        ));
    }
    if let Safety::Unsafe(token) = sig.safety {
        let message = "a remote function cannot be `unsafe`: whoever calls it proves nothing; write a safe function that \
                       checks its arguments";
        errors.push(Error::new_spanned(token, message));
    }
    if let Some(abi) = &sig.abi {
        let message = "a remote function has Rust's own calling convention: remove the `extern`";
        errors.push(Error::new_spanned(abi, message));
    }
    for param in &sig.generics.params {
        errors.push(match param {
            GenericParam::Lifetime(lifetime) => {
                let name = &lifetime.lifetime;
                let message = format!("leave lifetimes out: write `&str` for `&{name} str`, and `'_` for `{name}` in a type");
                Error::new_spanned(param, message)
            }
            GenericParam::Type(_) => Error::new_spanned(
                param,
                "a remote function cannot be generic, since the server must know what to decode: write the type, or one \
                 function for each",
            ),
            GenericParam::Const(_) => Error::new_spanned(
                param,
                "a remote function cannot be generic, since the server must know what to decode: take a `Vec<T>` for an \
                 array of any length",
            ),
        });
    }
    if let Some(clause) = &sig.generics.where_clause {
        let message = "a remote function is not generic and has no `where` clause: remove it";
        errors.push(Error::new_spanned(clause, message));
    }
}

fn check_inline(inline: Option<Span>, item: &Item, errors: &mut Vec<Error>) {
    let Some(span) = inline else { return };
    if item.body.is_none() {
        let message =
            "where a function runs is its implementation's business: remove `inline` from the declaration";
        errors.push(Error::new(span, message));
    } else if item.sig.asyncness.is_some() {
        let message = "an async function runs on the runtime: remove `inline`, or make the function sync";
        errors.push(Error::new(span, message));
    }
}

fn output(item: &Item, errors: &mut Vec<Error>) -> Output {
    let ReturnType::Type(_, ty) = &item.sig.output else {
        return Output::Value(syn::parse_quote!(()));
    };
    let declared: Vec<&Lifetime> = item
        .sig
        .generics
        .lifetimes()
        .map(|param| &param.lifetime)
        .collect();
    check_result(ty, &declared, errors);
    match last_segment(ty) {
        Some(segment) if segment.ident == "Result" => {
            let ok = first_argument(segment).unwrap_or(ty);
            Output::Result {
                ty: (**ty).clone(),
                text: text(quote!(#ok)),
            }
        }
        _ => Output::Value((**ty).clone()),
    }
}

/// The text of a doc comment, without the space that follows `///`.
fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text), ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> = lines
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned())
        .collect();
    lines.join("\n")
}
