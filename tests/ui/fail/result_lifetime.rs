use rpc_core::remote;

#[remote]
fn f(text: &str) -> std::borrow::Cow<'_, str> {
    text.into()
}

fn main() {}
