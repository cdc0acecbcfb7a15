use rpc_core::remote;

pub struct Row;

#[remote]
fn rows() -> impl Iterator<Item = Row> + Send {
    std::iter::once(Row)
}

fn main() {}
