use rpc_core::remote;

#[remote]
fn f(
    #[state]
    #[context]
    _: &String,
) {
}

fn main() {}
