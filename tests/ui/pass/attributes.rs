//! Other attributes on the function and its parameters.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

use rpc_core::{Client, RemoteFn, remote};

#[remote]
#[cfg(any())]
fn compiled_out(x: NoSuchType) {}

#[cfg(any())]
#[remote]
fn compiled_out_before(x: NoSuchType) {}

#[remote]
#[cfg(all())]
fn compiled_in() {}

/// Old.
#[deprecated = "take the new one"]
#[remote]
pub fn old() {}

#[deprecated]
#[derive(serde::Serialize, serde::Deserialize)]
struct OldType;

#[remote]
#[allow(deprecated)]
fn takes_the_old(_: &OldType) {}

#[expect(deprecated, reason = "callers still have it")]
#[remote]
fn returns_the_old() -> OldType {
    OldType
}

#[remote]
fn lints_on_parameters(#[allow(unused_variables)] x: u8, #[expect(unused_mut)] mut y: u8) -> u8 {
    y
}

/// Documented.
#[doc = concat!("Computed ", "docs.")]
#[doc(alias = "other")]
#[inline]
#[must_use]
#[track_caller]
#[remote]
pub fn many() -> u8 {
    1
}

macro_rules! remote_identity {
    ($(#[$attr:meta])* $vis:vis $name:ident($param:ident: $ty:ty) -> $result:ty $body:block) => {
        #[remote]
        $(#[$attr])*
        $vis fn $name($param: $ty) -> $result $body
    };
}
remote_identity! {
    /// Made by a macro.
    pub from_macro(text: &str) -> Result<Vec<u8>, String> {
        Ok(text.into())
    }
}

fn calls(client: &Client) {
    let _ = compiled_in::call(client);
    #[allow(deprecated)]
    let _ = old::call(client);
    let _ = from_macro::map(client, ["text"]);
}

fn main() {
    let _ = calls;
    assert_eq!(many::SIGNATURE.doc, "Documented.\nComputed docs.");
    assert_eq!(from_macro::SIGNATURE.params[0].ty, "&str");
    assert_eq!(from_macro::SIGNATURE.output, "Vec<u8>");
}
