use rpc_core::remote;

#[remote]
fn f(_: u8)
where
    u8: Copy,
{
}

fn main() {}
