//! Both sides use as much memory after a million calls as before.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use rpc_core::Client;
use tests::{
    resources::{mib, own_memory},
    served::sum,
};

use crate::{BROKER, server};

async fn calls(client: &Client, count: u64) {
    let mut sums = stream::iter(0..count)
        .map(|n| async move { (n, sum::call(client, n, 1).await.unwrap()) })
        .buffer_unordered(1_024);
    while let Some((n, sum)) = sums.next().await {
        assert_eq!(sum, n + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn memory_is_flat() {
    for (pack, warmup, count) in [(64, 200_000, 1_000_000), (1, 20_000, 100_000)] {
        let endpoint = format!("{}&pack={pack}", BROKER.endpoint());
        let server = server(&endpoint, &[]);
        let client = Client::connect(&endpoint).await.unwrap();
        calls(&client, warmup).await;
        let (before, begin) = ((server.memory(), own_memory()), Instant::now());
        calls(&client, count).await;
        let after = (server.memory(), own_memory());
        println!(
            "{count} calls, up to {pack} in a message, in {:.1?}: the server's memory went from {} to \
             {}, the client's from {} to {}",
            begin.elapsed(),
            mib(before.0),
            mib(after.0),
            mib(before.1),
            mib(after.1)
        );
        assert!(after.0 <= before.0 + (8 << 20), "the server's memory grows");
        // The tests beside this one share its process.
        assert!(after.1 <= before.1 + (32 << 20), "the client's memory grows");
    }
}
