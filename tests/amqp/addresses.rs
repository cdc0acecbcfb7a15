//! Errors when a server or a client connects: each says what is wrong and what to do, and none
//! shows a password.

use std::time::Duration;

use rpc_core::{Client, Server};
use tests::soon;

use crate::BROKER;

async fn bind_error(endpoint: &str) -> String {
    let bound = soon("binding", Server::builder().bind(endpoint)).await;
    let error = bound.map(drop).expect_err("it fails");
    format!("{error:#?}\n{error}")
}

async fn connect_error(endpoint: &str) -> String {
    let connecting = Client::builder().connect_timeout(Duration::from_secs(1)).connect(endpoint);
    let error = soon("connecting", connecting).await.expect_err("it fails");
    format!("{error:#?}\n{error}")
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn error_says_what_to_do() {
    let address = BROKER.address();
    let queue = BROKER.endpoint();
    let _server = Server::builder().bind(&queue).await.unwrap();
    let free = "amqp://guest:hush@127.0.0.2:1";
    for (endpoint, expected) in [
        (format!("amqp://guest:hush@{address}"), "refuses the user `guest`: check the password"),
        (format!("amqp://hush:hush@{address}"), "the broker refuses the user"),
        (format!("amqp://guest:guest@{address}/hush"), "no vhost `hush`"),
        (free.to_owned(), "refused"),
        ("amqp://guest:hush@broker.invalid".to_owned(), "broker.invalid"),
    ] {
        for error in [bind_error(&endpoint).await, connect_error(&endpoint).await] {
            assert!(error.contains(expected), "{endpoint}: {error}");
            let secret = if endpoint.contains("hush@") { "hush@" } else { "guest@" };
            assert!(!error.contains(&format!(":{secret}")), "{endpoint}: {error}");
        }
    }
    let other = bind_error(&format!("{queue}&max_length=7")).await;
    assert!(other.contains("exists with other options"), "{other}");
    let missing = connect_error(&BROKER.endpoint()).await;
    assert!(missing.contains("a server makes it when it binds"), "{missing}");
    let large = Server::builder().max_message_size(1 << 30).bind(BROKER.endpoint()).await;
    let large = format!("{:?}", large.err().unwrap());
    assert!(large.contains("up to 128 MiB"), "{large}");
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn password_is_stated_nowhere() {
    let endpoint = BROKER.endpoint();
    let server = Server::builder().bind(&endpoint).await.unwrap();
    assert!(!server.endpoint().contains(":guest"), "{}", server.endpoint());
    let client = Client::connect(&endpoint).await.unwrap();
    let status = format!("{:?} {:?}", client.status(), client);
    assert!(!status.contains("guest:guest"), "{status}");
}
