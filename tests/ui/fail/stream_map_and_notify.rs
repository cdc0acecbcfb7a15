use rpc_core::{Client, remote};

#[remote]
fn primes(below: u64) -> impl Iterator<Item = u64> + Send {
    0..below
}

async fn calls(client: &Client) {
    let _ = primes::map(client, [1, 2]);
    let _ = primes::notify(client, 1);
}

fn main() {}
