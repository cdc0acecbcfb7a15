use rpc_core::remote;

pub struct Point;

#[remote]
pub fn f() -> Point {
    Point
}

fn main() {}
