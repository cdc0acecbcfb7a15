//! Combines the attribute and the item into a [`RemoteFunction`], and checks every rule about the
//! function. A `RemoteFunction` that exists satisfies all rules.

use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, Error, GenericParam, Ident, Meta, Path, ReturnType, Safety, Type, Visibility,
    ext::IdentExt as _, visit::Visit,
};

use crate::{
    args::RemoteArgs,
    doc::Doc,
    item::Item,
    params::{self, Param},
    types::{StreamType, check_result, last_segment, type_arguments},
};

/// A function that satisfies all rules for remote functions.
pub(crate) struct RemoteFunction<'a> {
    pub(crate) vis: &'a Visibility,
    /// The name of the function.
    pub(crate) ident: &'a Ident,
    /// The name of the generated struct.
    pub(crate) ty: Ident,
    /// The name on the wire.
    pub(crate) name: String,
    pub(crate) doc: Doc,
    /// The attributes that the struct shares with the function: `deprecated` and `doc(...)`. For a
    /// declaration also all doc comments, since there is no function that could show them.
    pub(crate) shared_attrs: Vec<&'a Attribute>,
    pub(crate) deprecated: bool,
    pub(crate) cfgs: Vec<&'a Attribute>,
    /// The arguments of the function's `allow` and `expect` attributes. Generated code allows these
    /// lints too.
    pub(crate) allowed: Vec<&'a TokenStream>,
    pub(crate) execution: Execution,
    pub(crate) idempotent: bool,
    pub(crate) timeout_nanos: Option<u64>,
    pub(crate) retries: Option<u32>,
    /// The declaration that the function implements, if the attribute names one.
    pub(crate) implements: Option<Path>,
    /// The path of the `rpc_core` crate.
    pub(crate) krate: Path,
    pub(crate) params: Vec<Param<'a>>,
    pub(crate) output: Output<'a>,
    /// True if the function has a body, false if it is a declaration.
    pub(crate) implemented: bool,
}

/// The place where a server runs the function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    /// A sync function on the worker pool, which may compute or block.
    Blocking,
    /// An async function on the runtime that the server was bound in.
    Async,
    /// A sync function on the I/O thread, where the request was decoded.
    Inline,
}

/// The result of the function.
pub(crate) enum Output<'a> {
    /// `()`, because the function has no `->`.
    Unit,
    /// A type that is not called `Result`.
    Value(&'a Type),
    /// A type that is called `Result`. `ok` and `error` are the places in the source where its two
    /// types are written. If an alias hides one of them, its place is the whole type.
    Result { ty: &'a Type, ok: &'a Type, error: &'a Type },
    /// Items, one by one.
    Stream(Items<'a>),
}

/// The items of a function that returns a stream.
pub(crate) struct Items<'a> {
    /// The type of the function's result, as it is written.
    pub(crate) written: &'a Type,
    /// The type of the iterator or the stream.
    pub(crate) stream: &'a Type,
    /// The type of an item. For items that are a `Result`, the type of those that are `Ok`.
    pub(crate) item: &'a Type,
    /// The error of the function, or of its items. It ends the stream.
    pub(crate) error: Option<&'a Type>,
    /// The error of the function, if it returns a `Result` with the stream. It is the same type as
    /// that of fallible items.
    pub(crate) outer_error: Option<&'a Type>,
    /// True if each item is a `Result`.
    pub(crate) fallible: bool,
    pub(crate) is_iterator: bool,
}

impl<'a> RemoteFunction<'a> {
    /// Checks all rules and adds each mistake to `errors`. Returns `None` if `errors` is not empty
    /// afterwards, which includes mistakes that it held before.
    pub(crate) fn parse(args: RemoteArgs, item: &'a Item, errors: &mut Vec<Error>) -> Option<Self> {
        let sig = &item.sig;
        check_signature(item, errors);
        check_no_self(item, errors);
        check_inline(args.inline, item, errors);
        if let (Some(path), None) = (&args.implements, &item.body) {
            let message = "a declaration implements nothing: remove `implements`, or add a body";
            errors.push(Error::new_spanned(path, message));
        }
        let params = params::parse(item, errors);
        let output = output(item, errors);
        if let (Some(span), Output::Stream(_)) = (args.inline, &output) {
            let message =
                "a stream waits for its caller, which no inline function may: remove `inline`";
            errors.push(Error::new(span, message));
        }
        let takes_stream = params.iter().any(Param::is_stream);
        if let (Some(span), true) = (args.inline, takes_stream) {
            let message =
                "the next item is waited for, which no inline function may: remove `inline`";
            errors.push(Error::new(span, message));
        }
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
            doc: Doc::of(&item.attrs),
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
            implements: args.implements,
            krate: args.krate,
            params,
            output,
            implemented: item.body.is_some(),
        })
    }

    /// Returns the parameters that travel, in order.
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

/// Reports an associated function, as far as it can be recognized: by a `Self` in its signature.
fn check_no_self(item: &Item, errors: &mut Vec<Error>) {
    /// Finds the first `Self`.
    struct FindSelf<'a>(Option<&'a Ident>);
    impl<'a> Visit<'a> for FindSelf<'a> {
        fn visit_ident(&mut self, ident: &'a Ident) {
            if ident == "Self" && self.0.is_none() {
                self.0 = Some(ident);
            }
        }
    }
    let mut found = FindSelf(None);
    found.visit_signature(&item.sig);
    if let Some(ident) = found.0 {
        let message = "an associated function cannot be remote: move it out of the `impl` or the `trait`, \
                       and write the type instead of `Self`";
        errors.push(Error::new_spanned(ident, message));
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
    if let Some(items) = items(ty, item, errors) {
        return Output::Stream(items);
    }
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

/// Recognizes a function that returns a stream, and checks its items.
fn items<'a>(ty: &'a Type, item: &'a Item, errors: &mut Vec<Error>) -> Option<Items<'a>> {
    let parts = |ty| {
        let segment = last_segment(ty).filter(|segment| segment.ident == "Result")?;
        let mut parts = type_arguments(segment);
        Some((parts.next()?, parts.next()))
    };
    let (stream, outer) = match parts(ty) {
        Some((ok, error)) => (ok, Some(error)),
        None => (ty, None),
    };
    let StreamType { item: of, is_iterator } = StreamType::of(stream)?;
    let (value, inner) = match parts(of) {
        Some((ok, error)) => (ok, Some(error)),
        None => (of, None),
    };
    for (result, error) in [(ty, outer), (of, inner)] {
        if matches!(error, Some(None)) {
            let message =
                "write both types of this `Result`: the caller of a stream must know its error";
            errors.push(Error::new_spanned(result, message));
        }
    }
    let error = inner.flatten().or(outer.flatten());
    for ty in [Some(value), error].into_iter().flatten() {
        check_result(ty, &item.lifetimes(), errors);
    }
    let is_async = item.sig.asyncness.is_some();
    if item.body.is_some() && is_async == is_iterator {
        let message = if is_async {
            "an iterator would block the runtime, on which an async function runs: return \
             `impl Stream<Item = T> + Send`, or make the function sync"
        } else {
            "a sync function runs on a worker, where nobody polls a stream: return \
             `impl Iterator<Item = T> + Send`, or make the function async"
        };
        errors.push(Error::new_spanned(stream, message));
    }
    Some(Items {
        written: ty,
        stream,
        item: value,
        error,
        outer_error: outer.flatten(),
        fallible: inner.is_some(),
        is_iterator,
    })
}

#[cfg(test)]
mod tests {
    use quote::ToTokens as _;
    use syn::parse_quote;

    use super::*;

    fn with_function(item: &Item, test: impl FnOnce(RemoteFunction<'_>)) {
        let mut errors = Vec::new();
        let args = RemoteArgs::parse(TokenStream::new(), &mut errors);
        let function = RemoteFunction::parse(args, item, &mut errors);
        test(function.unwrap_or_else(|| panic!("{errors:?}")));
    }

    #[test]
    fn raw_names_and_patterns_get_wire_names() {
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
    fn doc_comment_loses_its_margin() {
        let tokens = parse_quote! {
            /// One.
            ///
            ///  Two.
            #[doc(hidden)]
            fn f() {}
        };
        with_function(&tokens, |function| assert_eq!(function.doc.text(), "One.\n\n Two."));
    }

    #[test]
    fn doc_from_a_macro_is_kept() {
        let tokens = parse_quote! {
            /// One.
            #[doc = include_str!("two.md")]
            /// Three.
            fn f() {}
        };
        with_function(&tokens, |function| {
            assert_eq!(function.doc.text(), "One.\n\nThree.");
            let value = crate::types::text(function.doc.to_token_stream());
            let expected =
                r#"::core::concat!("One.", "\n", include_str!("two.md"), "\n", "Three.")"#;
            assert_eq!(value.replace(' ', ""), expected.replace(' ', ""));
        });
    }

    #[test]
    fn result_is_known_by_its_last_segment() {
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
                    Output::Unit | Output::Value(_) | Output::Stream(_) => None,
                };
                assert_eq!(found, parts.map(|(ok, error)| (ok.to_owned(), error.to_owned())));
            });
        }
    }
}
