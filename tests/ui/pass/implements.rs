//! Functions that implement a declaration of another module.
#![deny(warnings, missing_docs, unreachable_pub)]
#![forbid(unsafe_code)]

/// The declarations that both sides share.
pub mod shared {
    use std::{borrow::Cow, collections::HashMap, time::Duration};

    use rpc_core::remote;

    /// Moves an amount.
    #[remote(idempotent, timeout = "2s", retries = 3, name = "bank.transfer")]
    pub fn transfer(from: &str, to: &str, amount: u64) -> Result<u64, String>;

    #[remote]
    pub(crate) fn lookup(
        keys: &[&str],
        limits: Option<(u8, &str)>,
        text: Cow<'_, str>,
    ) -> HashMap<String, Duration>;

    #[remote]
    pub(crate) fn nothing();
}

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rpc_core::{Context, Execution, RemoteFn, Server, remote};

#[remote(implements = shared::transfer)]
fn transfer(
    from: &str,
    #[state] total: &AtomicU64,
    to: &str,
    amount: u64,
    #[context] _cx: &Context,
) -> Result<u64, String> {
    let _ = (from, to, total);
    Ok(amount)
}

#[remote(implements = crate::shared::lookup, inline)]
fn find(keys: &[&str], limits: Option<(u8, &str)>, text: Cow<'_, str>) -> HashMap<String, Duration> {
    let _ = (keys, limits, text);
    HashMap::new()
}

#[remote(type = Nothing, implements = shared::nothing)]
async fn nothing() {}

fn main() {
    let signature = transfer::SIGNATURE;
    assert_eq!((signature.name, signature.doc), ("bank.transfer", "Moves an amount."));
    assert!(signature.idempotent && signature.retries == Some(3));
    assert_eq!(signature.timeout, Some(Duration::from_secs(2)));
    assert_eq!(signature.params.len(), 3);
    assert_eq!(find::SIGNATURE.name, "lookup");
    assert_eq!(find::SIGNATURE.execution, Execution::Inline);
    assert_eq!(Nothing::SIGNATURE.execution, Execution::Async);
    let _ = Server::builder().serve::<transfer>().serve::<find>().serve::<Nothing>();
    let _: Arc<u8>;
}
