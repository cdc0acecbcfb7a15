//! Attribute and item → [`RemoteFunction`]: every rule about the function. A value that exists is
//! legal.

use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, Error, Expr, ExprLit, GenericParam, Ident, Lit, Meta, Path, ReturnType, Safety,
    Type, Visibility, ext::IdentExt as _,
};

use crate::{
    args::RemoteArgs,
    item::Item,
    params::{self, Param},
    types::{check_result, last_segment, type_arguments},
};

/// A function that can be remote.
pub(crate) struct RemoteFunction<'a> {
    pub(crate) vis: &'a Visibility,
    /// The function.
    pub(crate) ident: &'a Ident,
    /// The struct beside it.
    pub(crate) ty: Ident,
    /// The name on the wire.
    pub(crate) name: String,
    /// The doc comment, its lines joined.
    pub(crate) doc: String,
    /// Attributes that the struct shares with the function: `deprecated` and `doc(...)`, and all
    /// docs where there is no function to read them on.
    pub(crate) shared_attrs: Vec<&'a Attribute>,
    pub(crate) deprecated: bool,
    pub(crate) cfgs: Vec<&'a Attribute>,
    /// What the function's `allow` and `expect` attributes say: it holds for generated code too.
    pub(crate) allowed: Vec<&'a TokenStream>,
    pub(crate) execution: Execution,
    pub(crate) idempotent: bool,
    pub(crate) timeout_nanos: Option<u64>,
    pub(crate) retries: Option<u32>,
    /// The path of the runtime crate.
    pub(crate) krate: Path,
    pub(crate) params: Vec<Param<'a>>,
    pub(crate) output: Output<'a>,
    /// Whether there is a body.
    pub(crate) implemented: bool,
}

/// Where it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    Blocking,
    Async,
    Inline,
}

/// What it returns.
pub(crate) enum Output<'a> {
    /// `()`, without being written.
    Unit,
    Value(&'a Type),
    /// A `Result`, and where its parts are written: that is all of it where an alias hides them.
    Result {
        ty: &'a Type,
        ok: &'a Type,
        error: &'a Type,
    },
}

impl<'a> RemoteFunction<'a> {
    /// Checks everything. A mistake goes to `errors`, and then there is no function, nor if
    /// `errors` has one already.
    pub(crate) fn parse(args: RemoteArgs, item: &'a Item, errors: &mut Vec<Error>) -> Option<Self> {
        let sig = &item.sig;
        check_signature(item, errors);
        check_inline(args.inline, item, errors);
        let params = params::parse(item, errors);
        let output = output(item, errors);
        if !errors.is_empty() {
            return None;
        }
        let with_path =
            |name: &'static str| item.attrs.iter().filter(move |attr| attr.path().is_ident(name));
        Some(Self {
            vis: &item.vis,
            ident: &sig.ident,
            ty: args.ty.unwrap_or_else(|| sig.ident.clone()),
            name: args.name.unwrap_or_else(|| sig.ident.unraw().to_string()),
            doc: doc(&item.attrs),
            shared_attrs: with_path("doc")
                .filter(|attr| item.body.is_none() || matches!(attr.meta, Meta::List(_)))
                .chain(with_path("deprecated"))
                .collect(),
            deprecated: with_path("deprecated").next().is_some(),
            cfgs: with_path("cfg").collect(),
            allowed: with_path("allow")
                .chain(with_path("expect"))
                .filter_map(|attr| Some(&attr.meta.require_list().ok()?.tokens))
                .collect(),
            execution: match (args.inline, sig.asyncness) {
                (_, Some(_)) => Execution::Async,
                (Some(_), None) => Execution::Inline,
                (None, None) => Execution::Blocking,
            },
            idempotent: args.idempotent,
            timeout_nanos: args.timeout_nanos,
            retries: args.retries,
            krate: args.krate,
            params,
            output,
            implemented: item.body.is_some(),
        })
    }

    /// The parameters that travel.
    pub(crate) fn travelling(&self) -> impl Iterator<Item = &params::Travels<'a>> {
        self.params.iter().filter_map(|param| match param {
            Param::Travels(travels) => Some(travels),
            Param::State { .. } | Param::Context { .. } => None,
        })
    }
}

fn check_signature(item: &Item, errors: &mut Vec<Error>) {
    let sig = &item.sig;
    if let Some(token) = sig.constness {
        errors.push(Error::new_spanned(token, "a remote function cannot be `const`: remove it"));
    }
    if let Safety::Unsafe(token) = sig.safety {
        let message = "a remote function cannot be `unsafe`: whoever calls it proves nothing; write a safe \
                       function that checks its arguments";
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
                let message = format!(
                    "leave lifetimes out: write `&str` for `&{name} str`, and `'_` for `{name}` in a type"
                );
                Error::new_spanned(param, message)
            }
            GenericParam::Type(_) => Error::new_spanned(
                param,
                "a remote function cannot be generic, since the server must know what to decode: write the \
                 type, or one function for each",
            ),
            GenericParam::Const(_) => Error::new_spanned(
                param,
                "a remote function cannot be generic, since the server must know what to decode: take a \
                 `Vec<T>` for an array of any length",
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
        let message = "where a function runs is its implementation's business: remove `inline` from the declaration";
        errors.push(Error::new(span, message));
    } else if item.sig.asyncness.is_some() {
        let message =
            "an async function runs on the runtime: remove `inline`, or make the function sync";
        errors.push(Error::new(span, message));
    }
}

fn output<'a>(item: &'a Item, errors: &mut Vec<Error>) -> Output<'a> {
    let ReturnType::Type(_, ty) = &item.sig.output else {
        return Output::Unit;
    };
    check_result(ty, &item.lifetimes(), errors);
    match last_segment(ty) {
        Some(segment) if segment.ident == "Result" => {
            let mut parts = type_arguments(segment);
            let mut part = || parts.next().unwrap_or(ty);
            Output::Result { ok: part(), error: part(), ty }
        }
        _ => Output::Value(ty),
    }
}

/// The text of a doc comment, without the space that follows `///`.
fn doc(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> =
        lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    fn with_function(item: &Item, test: impl FnOnce(RemoteFunction<'_>)) {
        let mut errors = Vec::new();
        let args = RemoteArgs::parse(TokenStream::new(), &mut errors);
        let function = RemoteFunction::parse(args, item, &mut errors);
        test(function.unwrap_or_else(|| panic!("{errors:?}")));
    }

    #[test]
    fn raw_names_and_patterns_have_names_on_the_wire() {
        let tokens = parse_quote! {
            fn r#match(r#type: u8, #[state] s: &S, (a, b): (u8, u8), mut c: u8, _: u8) {}
        };
        with_function(&tokens, |function| {
            assert_eq!(function.name, "match");
            assert_eq!(function.ty.to_string(), "r#match");
            let names: Vec<_> = function.travelling().map(|param| param.name.as_str()).collect();
            assert_eq!(names, ["type", "arg1", "c", "arg3"]);
        });
    }

    #[test]
    fn the_doc_comment_is_kept_without_its_margin() {
        let tokens = parse_quote! {
            /// One.
            ///
            ///  Two.
            #[doc(hidden)]
            fn f() {}
        };
        with_function(&tokens, |function| assert_eq!(function.doc, "One.\n\n Two."));
    }

    #[test]
    fn a_result_is_known_by_its_last_segment() {
        for (ty, parts) in [
            (parse_quote!(Result<A, B>), Some(("A", "B"))),
            (parse_quote!(std::result::Result<(A, A), B>), Some(("(A, A)", "B"))),
            (parse_quote!(io::Result<A>), Some(("A", "io::Result<A>"))),
            (parse_quote!(fmt::Result), Some(("fmt::Result", "fmt::Result"))),
            (parse_quote!(Option<Result<A, B>>), None),
        ] {
            let ty: Type = ty;
            with_function(&parse_quote!(fn f() -> #ty {}), |function| {
                let text = |ty: &Type| crate::types::text(quote::quote!(#ty));
                let found = match function.output {
                    Output::Result { ok, error, .. } => Some((text(ok), text(error))),
                    Output::Unit | Output::Value(_) => None,
                };
                assert_eq!(found, parts.map(|(ok, error)| (ok.to_owned(), error.to_owned())));
            });
        }
    }
}
