//! Functions in every form, under every lint of rustc and of clippy. Nothing that `#[remote]`
//! generates may trigger one. `cargo clippy` checks the lints of clippy, and every build the others.
//! The crate is not linked into any program.

#![deny(
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    impl_trait_redundant_captures,
    let_underscore_drop,
    redundant_imports,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    unnameable_types,
    unreachable_pub,
    unsafe_code,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences,
    warnings,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction
)]
// What the functions below do themselves. Some lints of clippy exclude each other.
#![allow(
    clippy::allow_attributes_without_reason,
    clippy::arbitrary_source_item_ordering,
    clippy::blanket_clippy_restriction_lints,
    clippy::implicit_return,
    clippy::missing_const_for_fn,
    clippy::missing_docs_in_private_items,
    clippy::missing_errors_doc,
    clippy::missing_inline_in_public_items,
    clippy::must_use_candidate,
    clippy::missing_trait_methods,
    clippy::needless_pass_by_value,
    clippy::pub_with_shorthand,
    clippy::same_name_method,
    clippy::single_call_fn,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    clippy::unnecessary_wraps,
    clippy::unused_async,
    clippy::unused_trait_names
)]

use std::sync::Arc;

use rpc_core::{Context, remote};

/// A function.
#[remote]
pub fn lint_plain(
    text: &str,
    data: &[u8],
    many: Vec<String>,
    slice: &[String],
) -> Result<usize, String> {
    text.len().checked_add(data.len().max(many.len()).max(slice.len())).ok_or_else(String::new)
}

/// A function.
#[remote(inline, idempotent, timeout = "1s", retries = 3, name = "lint.inline")]
pub fn lint_inline() {}

/// A function.
#[remote]
pub async fn lint_async(
    #[state] first: &String,
    #[context] context: &Context,
    #[state] shared: Arc<String>,
    number: u8,
) -> Option<u8> {
    (!context.is_cancelled() && *first == *shared).then_some(number)
}

/// A function.
#[remote]
pub fn lint_declared(text: Option<&str>, (left, right): (u8, u8)) -> u8;

/// A function.
#[remote(type = LintRenamed)]
pub fn r#lint_match(r#type: u8) -> u8 {
    r#type
}

/// A function.
#[remote]
pub(crate) fn lint_private(number: u8) -> u8 {
    number
}

/// Functions in a module.
pub mod inner {
    use rpc_core::remote;

    /// A function.
    #[remote]
    pub fn lint_in_module(number: u8) -> u8 {
        number
    }

    /// A function.
    #[remote(implements = super::lint_declared, type = LintImplemented)]
    pub fn lint_declared(text: Option<&str>, (left, right): (u8, u8)) -> u8 {
        text.map_or(left, |_| right)
    }
}

macro_rules! make {
    ($name:ident, $param:ident, $ty:ty, $out:ty) => {
        /// A function.
        #[remote]
        pub fn $name($param: $ty) -> $out {
            $param
        }
    };
    ($item:item) => {
        /// A function.
        #[remote]
        $item
    };
}
make!(lint_from_macro, number, u64, u64);
make!(
    pub fn lint_passed_through(text: &str) -> String {
        text.to_owned()
    }
);
