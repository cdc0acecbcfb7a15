//! Types of streams, as a function returns or takes them.

use quote::ToTokens as _;
use syn::{GenericArgument, PathArguments, Type, TypeParamBound};

use super::{Shape, has_elided_lifetime, last_segment, owned, peel, text, type_arguments};

/// The type of the items of a stream, and what makes them.
pub(crate) struct StreamType<'a> {
    pub(crate) item: &'a Type,
    /// True for an iterator, false for a stream.
    pub(crate) is_iterator: bool,
}

impl<'a> StreamType<'a> {
    /// Recognizes `impl Iterator<Item = T>`, `impl Stream<Item = T>`, both as `dyn` in a `Box`, and
    /// `BoxStream<'_, T>`.
    pub(crate) fn of(ty: &'a Type) -> Option<Self> {
        match peel(ty) {
            Type::ImplTrait(ty) => ty.bounds.iter().find_map(Self::of_bound),
            Type::TraitObject(ty) => ty.bounds.iter().find_map(Self::of_bound),
            ty => {
                let segment = last_segment(ty)?;
                let inner = type_arguments(segment).next()?;
                match segment.ident.to_string().as_str() {
                    "BoxStream" | "LocalBoxStream" => {
                        Some(Self { item: inner, is_iterator: false })
                    }
                    "Box" | "Pin" => match peel(inner) {
                        Type::TraitObject(_) => Self::of(inner),
                        _ if segment.ident == "Pin" => Self::of(inner),
                        _ => None,
                    },
                    _ => None,
                }
            }
        }
    }

    fn of_bound(bound: &'a TypeParamBound) -> Option<Self> {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let segment = bound.path.segments.last()?;
        let is_iterator = match segment.ident.to_string().as_str() {
            "Iterator" => true,
            "Stream" => false,
            _ => return None,
        };
        let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(argument) if argument.ident == "Item" => {
                Some(Self { item: &argument.ty, is_iterator })
            }
            _ => None,
        })
    }
}

/// Returns the mistake in a parameter that is meant to be a stream, and its place.
pub(super) fn wrong_stream(ty: &Type) -> Option<(&Type, String)> {
    let item = match Shape::of(ty) {
        Shape::Ref(inner) if matches!(Shape::of(inner), Shape::Incoming(_)) => {
            let inner = text(inner.to_token_stream());
            return Some((ty, format!("a function takes a stream by value: write `{inner}`")));
        }
        Shape::Incoming(item) if has_elided_lifetime(item) => item,
        _ => return None,
    };
    let instead = match peel(item) {
        Type::Reference(reference) => format!("`Incoming<{}>`", owned(reference)),
        _ => "a type that owns what it holds".to_owned(),
    };
    let message = format!(
        "the items of a stream come after the request, and cannot borrow from it: write {instead}"
    );
    Some((item, message))
}
