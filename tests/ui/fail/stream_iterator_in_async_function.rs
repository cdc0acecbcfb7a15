use rpc_core::remote;

#[remote]
async fn lines(path: &str) -> impl Iterator<Item = String> + Send {
    [path.to_owned()].into_iter()
}

fn main() {}
