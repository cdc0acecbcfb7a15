//! The agreement between a declaration and the function that implements it, which the compiler
//! checks. Generated code implements and uses these traits.

#![allow(missing_docs)] // For generated code; see `private.rs`.

use crate::function::RemoteFn;

/// A remote function without a body, which another function can implement.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no declaration",
    label = "not a `#[remote]` function without a body",
    note = "`implements` takes a declaration: `#[remote] fn name(...);`"
)]
pub trait Declaration: RemoteFn {
    /// The text of the compile error for an implementation that differs. It shows the declaration.
    const DIFFERS: &'static str;
}

/// The parameter number `N` of a declaration, counted from zero.
#[diagnostic::on_unimplemented(
    message = "the declaration `{Self}` has no parameter at this position",
    label = "not declared",
    note = "an implementation has the parameters of its declaration, in the same order; others are \
            `#[state]` or `#[context]`"
)]
pub trait Declares<const N: usize>: Declaration {
    type Param<'a>;
    const NAME: &'static str;
}

/// The bound of a type that must be the type `T`.
#[diagnostic::on_unimplemented(
    message = "the declaration has another type here: `{T}`",
    label = "not the declared type",
    note = "change it here, or in the declaration"
)]
pub trait SameAs<T: ?Sized> {}
impl<T: ?Sized> SameAs<T> for T {}

/// The bound of the error of a function, beside that of the items of the stream that it returns.
#[diagnostic::on_unimplemented(
    message = "the items fail with another type: `{E}`",
    label = "not the error of the items",
    note = "a call has one type of errors: use the same for the function and for its items, such as an \
            enum of both"
)]
pub trait IsErrorOfItems<E> {}
impl<E> IsErrorOfItems<E> for E {}

pub fn assert_one_error<E, F: IsErrorOfItems<E>>() {}

pub fn assert_same<T: ?Sized, U: SameAs<T> + ?Sized>() {}

/// Compares two texts at compile time.
#[must_use]
pub const fn same_text(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}
