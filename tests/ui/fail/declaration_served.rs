use rpc_core::{ServedFn, remote};

#[remote]
fn f();

fn serve<F: ServedFn>() {}

fn main() {
    serve::<f>();
}
