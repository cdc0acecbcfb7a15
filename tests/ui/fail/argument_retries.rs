use rpc_core::remote;

#[remote(retries = "3")]
fn f() {}

#[remote(retries)]
fn g() {}

#[remote(retries = -1)]
fn h() {}

fn main() {}
