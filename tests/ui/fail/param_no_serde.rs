use rpc_core::remote;

pub struct Point;

#[remote]
pub fn f(_: Point) {}

fn main() {}
