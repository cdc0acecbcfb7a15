//! Types as users write them: checks whether a type may travel, how a parameter is passed, and how
//! the text of a type looks in a message.

mod stream;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Error, GenericArgument, Lifetime, ParenthesizedGenericArguments, PathArguments, PathSegment,
    Type, TypeFnPtr, TypeImplTrait, TypeNever, TypeReference, TypeTraitObject,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

pub(crate) use self::stream::StreamType;
use self::stream::wrong_stream;

/// The form in which the function takes a parameter.
pub(crate) enum Shape<'a> {
    /// `T`, which may still contain a borrow, as `Option<&str>` does.
    Owned,
    /// `&str`.
    Str,
    /// `&[T]`.
    Slice(&'a Type),
    /// `&T`.
    Ref(&'a Type),
    /// `Incoming<T>`.
    Incoming(&'a Type),
}

impl<'a> Shape<'a> {
    pub(crate) fn of(ty: &'a Type) -> Self {
        match peel(ty) {
            Type::Reference(reference) => Self::of_reference(reference),
            ty => Self::of_owned(ty),
        }
    }

    fn of_owned(ty: &'a Type) -> Self {
        let segment = last_segment(ty).filter(|segment| segment.ident == "Incoming");
        let item = segment.and_then(|segment| type_arguments(segment).next());
        item.map_or(Self::Owned, Self::Incoming)
    }

    fn of_reference(reference: &'a TypeReference) -> Self {
        match peel(&reference.elem) {
            Type::Path(path) if path.path.is_ident("str") => Self::Str,
            Type::Slice(slice) => Self::Slice(&slice.elem),
            other => Self::Ref(other),
        }
    }
}

/// Returns the type without the parentheses around it, and without the invisible groups that
/// `macro_rules` puts around a type.
pub(crate) fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        other => other,
    }
}

/// Returns the last segment of a type that is a path.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match peel(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// Returns the types among the arguments in angle brackets, without lifetimes and constants.
pub(crate) fn type_arguments(segment: &PathSegment) -> impl Iterator<Item = &Type> {
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Reports everything in `ty` that a parameter which travels cannot contain. `declared` holds the
/// lifetime parameters of the function. Their declaration is already an error, so their uses are
/// not reported again.
pub(crate) fn check_param(ty: &Type, declared: &[&Lifetime], errors: &mut Vec<Error>) {
    if let Some((written, message)) = wrong_stream(ty) {
        return errors.push(Error::new_spanned(written, message));
    }
    if let Some(instead) = instead(ty) {
        let message = format!("the server cannot decode this type: write `{instead}`");
        return errors.push(Error::new_spanned(ty, message));
    }
    TypeCheck { of_result: false, declared, errors }.visit_type(ty);
}

/// Reports everything in `ty` that a result cannot contain. See [`check_param`] for `declared`.
pub(crate) fn check_result(ty: &Type, declared: &[&Lifetime], errors: &mut Vec<Error>) {
    TypeCheck { of_result: true, declared, errors }.visit_type(ty);
}

/// Returns what to write for a parameter whose type has no size, or is borrowed in a way that serde
/// does not know.
fn instead(ty: &Type) -> Option<String> {
    let written = |ty: &Type| text(ty.to_token_stream());
    let is_str = |ty: &Type| matches!(ty, Type::Path(path) if path.path.is_ident("str"));
    match Shape::of(ty) {
        Shape::Owned if is_str(peel(ty)) || matches!(peel(ty), Type::Slice(_)) => {
            Some(format!("&{}", written(ty)))
        }
        Shape::Slice(elem) => match peel(elem) {
            Type::Slice(slice) => Some(format!("&[Vec<{}>]", written(&slice.elem))),
            elem => is_str(elem).then(|| "&[&str]".to_owned()),
        },
        Shape::Ref(ty) => match last_segment(ty)?.ident.to_string().as_str() {
            "OsStr" => Some("&OsString".to_owned()),
            "CStr" => Some("&CString".to_owned()),
            _ => None,
        },
        Shape::Owned | Shape::Str | Shape::Incoming(_) => None,
    }
}

/// Returns what to write instead of a reference where nothing can be borrowed.
fn owned(reference: &TypeReference) -> String {
    match Shape::of_reference(reference) {
        Shape::Str => "String".to_owned(),
        Shape::Slice(elem) => format!("Vec<{}>", text(elem.to_token_stream())),
        _ => text(reference.elem.to_token_stream()),
    }
}

/// A visitor that checks the rules for the type of a parameter or result.
struct TypeCheck<'a> {
    /// True if the type is a result, false if it is a parameter.
    of_result: bool,
    declared: &'a [&'a Lifetime],
    errors: &'a mut Vec<Error>,
}

impl TypeCheck<'_> {
    fn refuse(&mut self, tokens: impl quote::ToTokens, message: impl Into<String>) {
        self.errors.push(Error::new_spanned(tokens, message.into()));
    }
}

impl Visit<'_> for TypeCheck<'_> {
    fn visit_type_reference(&mut self, reference: &TypeReference) {
        let inner = text(reference.elem.to_token_stream());
        if self.of_result {
            let owned = owned(reference);
            self.refuse(
                reference,
                format!("a result travels to its caller and cannot borrow: write `{owned}`"),
            );
            return;
        }
        if let Some(mutability) = reference.mutability {
            let message = format!(
                "changes would not travel back to the caller: take `&{inner}`, and return what has changed"
            );
            self.refuse(mutability, message);
        }
        match &reference.lifetime {
            Some(lifetime) if lifetime.ident != "_" && !self.declared.contains(&lifetime) => {
                let message = format!(
                    "a parameter lives as long as the call and no longer: write `&{inner}`, without a \
                     lifetime"
                );
                self.refuse(lifetime, message);
            }
            _ => {}
        }
        self.visit_type(&reference.elem);
    }

    fn visit_lifetime(&mut self, lifetime: &Lifetime) {
        if lifetime.ident == "static" || self.declared.contains(&lifetime) {
            return;
        }
        if self.of_result {
            self.refuse(
                lifetime,
                "a result travels to its caller and cannot borrow: write `'static`, or a type that owns",
            );
        } else if lifetime.ident != "_" {
            self.refuse(
                lifetime,
                "a parameter lives as long as the call and no longer: write `'_`",
            );
        }
    }

    fn visit_path_segment(&mut self, segment: &PathSegment) {
        // Any type may hide a lifetime. `Cow` is the one that users often write without its
        // lifetime.
        if let PathArguments::AngleBracketed(arguments) = &segment.arguments
            && segment.ident == "Cow"
            && !arguments
                .args
                .iter()
                .any(|argument| matches!(argument, GenericArgument::Lifetime(_)))
        {
            let lifetime = if self.of_result { "'static" } else { "'_" };
            let inner = text(arguments.args.to_token_stream());
            self.refuse(
                segment,
                format!("this hides a lifetime: write `Cow<{lifetime}, {inner}>`"),
            );
        }
        visit::visit_path_segment(self, segment);
    }

    fn visit_type_impl_trait(&mut self, ty: &TypeImplTrait) {
        let message = if self.of_result {
            "the caller must know the type of the result: write it out. For many items, one by one, return \
             `impl Iterator<Item = T> + Send`, or from an async function `impl Stream<Item = T> + Send`"
        } else {
            "the server must know the type to decode: write it out, such as `&str` or `Vec<T>`"
        };
        self.refuse(ty, message);
    }

    fn visit_type_trait_object(&mut self, ty: &TypeTraitObject) {
        let message = if self.of_result {
            "a `dyn` type cannot be decoded: write a type that implements `serde::Serialize` and \
             `serde::Deserialize`; for an error, an enum of your own, or `String` with \
             `.map_err(|error| format!(\"{error:#}\"))`"
        } else {
            "a `dyn` type cannot be decoded: write a type that implements `serde::Serialize` and \
             `serde::Deserialize`, such as an enum with a variant for each case"
        };
        self.refuse(ty, message);
    }

    fn visit_type_never(&mut self, ty: &TypeNever) {
        self.refuse(
            ty,
            "a remote function must return: leave the result out, or write the type of the result",
        );
    }
}

/// Returns true if `ty` contains an elided lifetime.
pub(crate) fn has_elided_lifetime(ty: &Type) -> bool {
    let mut names = NameElided { name: None, found: false };
    names.visit_type_mut(&mut ty.clone());
    names.found
}

/// Returns `ty` with every elided lifetime replaced by `name`.
pub(crate) fn with_lifetime(ty: &Type, name: &Lifetime) -> Type {
    let mut ty = ty.clone();
    NameElided { name: Some(name), found: false }.visit_type_mut(&mut ty);
    ty
}

/// A visitor that finds elided lifetimes, and replaces them if `name` is given.
struct NameElided<'a> {
    name: Option<&'a Lifetime>,
    found: bool,
}

impl VisitMut for NameElided<'_> {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        if reference.lifetime.is_none() {
            self.found = true;
            reference.lifetime = self.name.cloned();
        }
        visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            self.found = true;
            if let Some(name) = self.name {
                *lifetime = name.clone();
            }
        }
    }

    // Lifetimes elided in `fn(&str)` and `Fn(&str)` belong to these types, so they get no name.
    fn visit_type_fn_ptr_mut(&mut self, _: &mut TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments_mut(&mut self, _: &mut ParenthesizedGenericArguments) {
    }
}

/// Returns the tokens of a type as a person would write them: `HashMap<String, u64>`, not
/// `HashMap < String , u64 >`.
pub(crate) fn text(tokens: TokenStream) -> String {
    let mut out = String::new();
    append(tokens, &mut out);
    out
}

fn append(tokens: TokenStream, out: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                append(group.stream(), out);
                out.push_str(close);
            }
            TokenTree::Punct(punct) => {
                let c = punct.as_char();
                // `->`, `=` and `+` have a space on both sides. The `>` of `->` follows its `-`.
                let arrow_head = c == '>' && out.ends_with('-');
                if matches!(c, '=' | '+') || (c == '-' && punct.spacing() == Spacing::Joint) {
                    out.push(' ');
                }
                out.push(c);
                if matches!(c, ',' | ';' | '=' | '+') || arrow_head {
                    out.push(' ');
                }
            }
            word => {
                if out.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                    out.push(' ');
                }
                out.push_str(&word.to_string());
            }
        }
    }
    // There is no space after a trailing comma, as in `(T,)`.
    out.truncate(out.trim_end().len());
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::*;

    #[test]
    fn type_text_reads_as_written() {
        for (tokens, expected) in [
            (quote!(&str), "&str"),
            (
                quote!(std::collections::HashMap<String, Vec<u64>>),
                "std::collections::HashMap<String, Vec<u64>>",
            ),
            (quote!(&[u8]), "&[u8]"),
            (quote!(Option<&mut T>), "Option<&mut T>"),
            (quote!(((), (T,), (A, B))), "((), (T,), (A, B))"),
            (quote!([[u8; 4]; N]), "[[u8; 4]; N]"),
            (quote!(Cow<'_, str>), "Cow<'_, str>"),
            (quote!(&'static str), "&'static str"),
            (quote!(fn(A, B) -> C), "fn(A, B) -> C"),
            (quote!(Box<dyn A + B>), "Box<dyn A + B>"),
            (quote!(<A as B<C>>::D), "<A as B<C>>::D"),
            (quote!(impl Iterator<Item = u8>), "impl Iterator<Item = u8>"),
            (quote!(r#type::T), "r#type::T"),
        ] {
            assert_eq!(text(tokens), expected);
        }
    }

    #[test]
    fn elided_lifetimes_get_a_name() {
        let name: Lifetime = syn::parse_quote!('a);
        for (before, after) in [
            (quote!(Option<&str>), quote!(Option<&'a str>)),
            (quote!(Cow<'_, [&[u8]]>), quote!(Cow<'a, [&'a [u8]]>)),
        ] {
            let ty: Type = syn::parse2(before).unwrap();
            assert!(has_elided_lifetime(&ty));
            assert_eq!(with_lifetime(&ty, &name).to_token_stream().to_string(), after.to_string());
        }
        for owned in [quote!(Vec<u8>), quote!(Cow<'static, str>), quote!(fn(&str) -> &str)] {
            assert!(!has_elided_lifetime(&syn::parse2(owned).unwrap()));
        }
    }
}
