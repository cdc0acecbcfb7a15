use rpc_core::remote;

#[remote]
fn f(
    #[state]
    #[state]
    _: &String,
) {
}

fn main() {}
