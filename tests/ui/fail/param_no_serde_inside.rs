use rpc_core::remote;

pub struct Point;

#[remote]
pub fn f(_: Vec<(u8, Point)>) {}

fn main() {}
