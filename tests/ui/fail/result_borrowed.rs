use rpc_core::remote;

#[remote]
fn f(text: &str) -> &str {
    text
}

fn main() {}
