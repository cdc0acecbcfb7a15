use rpc_core::remote;

#[remote]
fn f() -> ! {
    loop {}
}

fn main() {}
