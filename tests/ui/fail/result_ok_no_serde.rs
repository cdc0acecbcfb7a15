use rpc_core::remote;

pub struct Point;

#[remote]
pub fn f() -> Result<Point, String> {
    Ok(Point)
}

fn main() {}
