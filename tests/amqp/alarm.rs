//! A broker that has too little memory takes no messages for a while.

use std::time::Duration;

use rpc_core::{Client, Connectivity, ErrorKind, Ran};
use tests::{rabbitmq::RabbitMq, served::sum, soon};

use crate::{ALONE, server, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn client_waits_while_the_broker_is_blocked() {
    let _alone = ALONE.lock().await;
    let broker = RabbitMq::start("");
    let endpoint = broker.endpoint();
    let _server = server(&endpoint, &[]);
    let client = Client::connect(&endpoint).await.unwrap();
    assert_eq!(sum::call(&client, 1, 2).await.unwrap(), 3);
    let _ = broker.ctl(&["set_vm_memory_high_watermark", "0.0001"]);
    // The broker says so at the first message that it does not take.
    let short = || sum::call(&client, 1, 2).timeout(Duration::from_millis(300));
    until("the broker does not answer", async || short().await.is_err()).await;
    until("the status says so", async || {
        let state = client.status().endpoints[0].state.clone();
        matches!(state, Connectivity::Blocked { .. })
    })
    .await;
    let error = short().await.unwrap_err();
    assert_eq!((error.kind(), error.ran()), (ErrorKind::DeadlineExceeded, Ran::No), "{error}");
    let waiting =
        tokio::spawn(sum::call(&client, 3, 4).timeout(Duration::from_secs(50)).into_future());
    let _ = broker.ctl(&["set_vm_memory_high_watermark", "0.4"]);
    assert_eq!(soon("the broker takes messages again", waiting).await.unwrap().unwrap(), 7);
    assert_eq!(client.status().endpoints[0].state, Connectivity::Connected);
}
