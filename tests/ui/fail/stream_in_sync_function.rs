use futures_util::Stream;
use rpc_core::remote;

#[remote]
fn lines(path: &str) -> impl Stream<Item = String> + Send {
    futures_util::stream::iter([path.to_owned()])
}

fn main() {}
