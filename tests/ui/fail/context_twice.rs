use rpc_core::{Context, remote};

#[remote]
fn f(#[context] _: &Context, #[context] _: Context) {}

fn main() {}
