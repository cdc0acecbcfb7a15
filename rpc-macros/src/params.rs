//! Parses the parameters of a remote function, and checks every rule about them.

use proc_macro2::Span;
use quote::{ToTokens as _, format_ident};
use syn::{
    Attribute, Error, FnArg, Ident, Meta, Pat, PatType, Type, ext::IdentExt as _,
    spanned::Spanned as _,
};

use crate::{
    item::{Item, is_marker},
    types::{Shape, check_param, last_segment, peel, text, type_arguments},
};

/// A parameter of a remote function.
pub(crate) enum Param<'a> {
    /// A parameter that the caller sends.
    Travels(Travels<'a>),
    /// A `#[state]` parameter, provided by the server. `ty` is `T`. The function takes `Arc<T>` if
    /// `shared` is true, and `&T` otherwise.
    State { ty: &'a Type, shared: bool },
    /// A `#[context]` parameter, provided by the server. `ty` is the type as it is written:
    /// `Context` if `owned` is true, and `&Context` otherwise.
    Context { ty: &'a Type, owned: bool },
}

impl Param<'_> {
    /// Returns true for a stream that the caller passes.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Travels(Travels { shape: Shape::Incoming(_), .. }))
    }
}

/// A parameter that travels: the caller sends it to the server.
pub(crate) struct Travels<'a> {
    /// The name of the parameter in the generated functions.
    pub(crate) ident: Ident,
    /// The name of the parameter on the wire.
    pub(crate) name: String,
    /// The type as it is written in the source.
    pub(crate) ty: &'a Type,
    pub(crate) shape: Shape<'a>,
}

/// Parses the parameters of the function. Adds each mistake to `errors` and continues with the next
/// parameter.
pub(crate) fn parse<'a>(item: &'a Item, errors: &mut Vec<Error>) -> Vec<Param<'a>> {
    let declared = item.lifetimes();
    let mut params = Vec::new();
    for input in &item.sig.inputs {
        let param = match input {
            FnArg::Typed(param) => param,
            FnArg::Receiver(receiver) => {
                errors.push(Error::new_spanned(
                    receiver,
                    "a method cannot be remote: write a free function, and take what it needs from the \
                     server as `#[state] name: &T`",
                ));
                continue;
            }
        };
        refuse_cfg(param, errors);
        match marker(param, errors) {
            Some(marker) if item.body.is_none() => errors.push(Error::new_spanned(
                marker,
                "a declaration lists only what travels: leave this parameter to the implementation",
            )),
            Some(marker) if marker.path().is_ident("state") => {
                params.extend(state(param).map_err(|error| errors.push(error)).ok());
            }
            Some(marker) if params.iter().any(|param| matches!(param, Param::Context { .. })) => {
                errors.push(Error::new_spanned(
                    marker,
                    "a call has one context: remove the second `#[context]`",
                ));
            }
            Some(_) => params.extend(context(param).map_err(|error| errors.push(error)).ok()),
            None => {
                check_param(&param.ty, &declared, errors);
                let travels = travels(param, &params);
                refuse_second_stream(&travels, &params, errors);
                refuse_same_name(param, &travels, &params, errors);
                params.push(Param::Travels(travels));
            }
        }
    }
    if let Some(variadic) = &item.sig.variadic {
        let message = "a remote function takes a fixed number of parameters: take a `Vec<T>`";
        errors.push(Error::new_spanned(variadic.dots, message));
    }
    params
}

fn refuse_cfg(param: &PatType, errors: &mut Vec<Error>) {
    for attr in &param.attrs {
        if attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") {
            let message = "caller and server must agree on the parameters: put the `cfg` on the whole \
                           function, or take an `Option`";
            errors.push(Error::new_spanned(attr, message));
        }
    }
}

/// Returns the first `#[state]` or `#[context]` attribute of a parameter, if it has one. Reports
/// any further one, and any that has arguments.
fn marker<'a>(param: &'a PatType, errors: &mut Vec<Error>) -> Option<&'a Attribute> {
    let mut markers = param.attrs.iter().filter(|attr| is_marker(attr));
    let first = markers.next()?;
    for other in markers {
        let message = if other.path().get_ident() == first.path().get_ident() {
            "this is said twice: remove one"
        } else {
            "a parameter is either `#[state]` or `#[context]`: remove one"
        };
        errors.push(Error::new_spanned(other, message));
    }
    for attr in param.attrs.iter().filter(|attr| is_marker(attr)) {
        if !matches!(attr.meta, Meta::Path(_)) {
            let name = attr.path().get_ident().map(Ident::to_string).unwrap_or_default();
            errors.push(Error::new_spanned(
                &attr.meta,
                format!("this takes no arguments: write `#[{name}]`"),
            ));
        }
    }
    Some(first)
}

fn state(param: &PatType) -> Result<Param<'_>, Error> {
    let (ty, shared) = match peel(&param.ty) {
        Type::Reference(reference) => {
            if let Some(mutability) = reference.mutability {
                let message = "state is shared by all calls: take `&T`, and put what changes behind a \
                               `Mutex` or an atomic";
                return Err(Error::new_spanned(mutability, message));
            }
            if let Some(lifetime) = &reference.lifetime
                && lifetime.ident != "_"
            {
                let message = "state is lent for the call: write `&T`, without a lifetime";
                return Err(Error::new_spanned(lifetime, message));
            }
            if let Some(inner) = arc(&reference.elem) {
                let inner = text(inner.to_token_stream());
                let message =
                    format!("state is kept in an `Arc` already: take `&{inner}` or `Arc<{inner}>`");
                return Err(Error::new_spanned(&param.ty, message));
            }
            (peel(&reference.elem), false)
        }
        other => {
            let Some(inner) = arc(other) else {
                let ty = text(other.to_token_stream());
                let message =
                    format!("state is lent or shared, not given away: take `&{ty}` or `Arc<{ty}>`");
                return Err(Error::new_spanned(other, message));
            };
            (peel(inner), true)
        }
    };
    if let Type::TraitObject(_) = ty {
        let message = "state is found by its type, which must have a size: put the `Box<dyn ...>` in a struct of yours";
        return Err(Error::new_spanned(ty, message));
    }
    Ok(Param::State { ty, shared })
}

/// Returns `T` if the type is `Arc<T>`.
fn arc(ty: &Type) -> Option<&Type> {
    let segment = last_segment(ty)?;
    if segment.ident == "Arc" { type_arguments(segment).next() } else { None }
}

fn context(param: &PatType) -> Result<Param<'_>, Error> {
    let owned = match peel(&param.ty) {
        Type::Reference(reference) if reference.mutability.is_none() => false,
        ty if last_segment(ty).is_some_and(|segment| segment.ident == "Context") => true,
        _ => {
            return Err(Error::new_spanned(&param.ty, "a context is a `&Context` or a `Context`"));
        }
    };
    Ok(Param::Context { ty: &param.ty, owned })
}

fn travels<'a>(param: &'a PatType, before: &[Param<'_>]) -> Travels<'a> {
    let index = before.iter().filter(|param| matches!(param, Param::Travels(_))).count();
    let ident = match &*param.pat {
        Pat::Ident(pattern) => pattern.ident.clone(),
        _ => format_ident!("arg{index}", span = Span::mixed_site()),
    };
    let name = ident.unraw().to_string();
    Travels { ident, name, ty: &param.ty, shape: Shape::of(&param.ty) }
}

/// Reports a stream in a function that takes one already.
fn refuse_second_stream(travels: &Travels<'_>, before: &[Param<'_>], errors: &mut Vec<Error>) {
    let is_stream = |travels: &Travels<'_>| matches!(travels.shape, Shape::Incoming(_));
    let has_one = |param: &Param<'_>| matches!(param, Param::Travels(other) if is_stream(other));
    if is_stream(travels) && before.iter().any(has_one) {
        let message =
            "a call passes one stream: take one `Incoming<T>`, with an enum of both kinds of items";
        errors.push(Error::new_spanned(travels.ty, message));
    }
}

/// Reports a parameter whose wire name is already taken. The compiler refuses two parameters with
/// one name, but it accepts a parameter called `arg0` beside a pattern, which may get the wire name
/// `arg0` by its position.
fn refuse_same_name(
    param: &PatType,
    travels: &Travels<'_>,
    before: &[Param<'_>],
    errors: &mut Vec<Error>,
) {
    let same =
        |other: &Param<'_>| matches!(other, Param::Travels(other) if other.name == travels.name);
    if before.iter().any(same) {
        let name = &travels.name;
        let message = format!(
            "two parameters travel as `{name}`, as a pattern is called by its position: name one otherwise"
        );
        errors.push(Error::new(param.pat.span(), message));
    }
}
