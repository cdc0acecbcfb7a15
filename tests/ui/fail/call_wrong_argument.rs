use rpc_core::{Client, remote};

#[remote]
fn f(text: &str, times: u8) -> String {
    text.repeat(times.into())
}

fn calls(client: &Client) {
    let _ = f::call(client, "text", "3");
}

fn main() {}
