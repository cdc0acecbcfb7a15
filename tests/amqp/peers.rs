//! A Python program that uses pika.

use std::{
    env,
    process::{Command, Output},
};

use tests::soon;

use crate::{BROKER, server};

async fn python(script: &'static str, arguments: &[&str]) -> Output {
    let interpreter = env::var_os("RPC_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(interpreter);
    command.arg(format!("{}/../{script}", env!("CARGO_MANIFEST_DIR"))).args(arguments);
    let run = tokio::task::spawn_blocking(move || command.output().expect("python3 starts"));
    let output = soon("the program", run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server, and python3 with pika and msgpack"]
async fn pika_calls_a_function() {
    let endpoint = BROKER.endpoint();
    let _server = server(&endpoint, &[]);
    let output = python("examples/python/rabbitmq.py", &[&endpoint, "sum", "2", "3"]).await;
    assert_eq!(output.stdout, b"5\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server, and python3 with pika"]
async fn garbage_from_pika_becomes_a_dead_letter() {
    let endpoint = BROKER.endpoint();
    let _server = server(&endpoint, &[]);
    let output = python("tests/amqp/garbage.py", &[&endpoint]).await;
    assert_eq!(output.stdout, b"the dead letter is b'no MessagePack'\n");
}
