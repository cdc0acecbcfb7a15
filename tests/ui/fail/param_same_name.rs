use rpc_core::remote;

#[remote]
fn f((_, _): (u8, u8), arg0: u8) -> u8 {
    arg0
}

fn main() {}
