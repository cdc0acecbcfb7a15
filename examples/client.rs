//! A client that shows the kinds of calls and their outcomes.
//!
//! ```sh
//! # With a server in the same process:
//! cargo run --release --example client
//! # With the server that `cargo run --release --example server` starts:
//! cargo run --release --example client -- --server tcp://127.0.0.1:5555
//! ```
//!
//! Each function below shows one feature, and asserts what its comment claims.

use std::{
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use examples::{DivideError, add, count_words, crash, divide, echo, sleep_ms, spin_ms, visits};
use rpc_core::{CallError, Client, ErrorKind, Ran};
use tokio::task::JoinSet;

/// Calls the example functions.
#[derive(Parser)]
struct Options {
    /// The server to call. By default, the program starts one in this process.
    #[arg(long, value_name = "ENDPOINT")]
    server: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    examples::exit(run(Options::parse()).await)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let Some(endpoint) = options.server else {
        let server = examples::server().bind("tcp://127.0.0.1:0").await?.spawn()?;
        call_all(server.endpoint()).await?;
        server.shutdown().await;
        return Ok(());
    };
    call_all(&endpoint).await
}

/// Calls the functions of the server at this endpoint.
async fn call_all(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(endpoint).await?;
    println!("connected to {}", client.endpoints().join(", "));

    success(&client).await?;
    failure(&client).await?;
    timeout(&client).await;
    cancellation(&client).await;
    by_name(&client).await?;
    many(&client).await?;
    notification(&client).await?;
    at_the_same_time(&client).await?;

    client.close().await;
    Ok(())
}

/// Makes calls that succeed. A call takes the arguments of the function, and yields its result.
async fn success(client: &Client) -> Result<(), Box<dyn Error>> {
    let sum = add::call(client, 1, 2).await?;
    assert_eq!(sum, add(1, 2), "the local function has the same name");
    println!("add(1, 2) = {sum}");

    let counts = count_words::call(client, "a b a").await?;
    assert_eq!(counts["a"], 2);
    println!("count_words(\"a b a\") = {counts:?}");

    let data = Bytes::from(vec![7; 1_000_000]);
    let same = echo::call(client, data.clone()).await?;
    assert_eq!(same, data);
    println!("echo gave {} bytes back", same.len());
    Ok(())
}

/// Makes calls that fail. The function's own error arrives with its type. A panic arrives as an
/// error as well, and the server survives it.
async fn failure(client: &Client) -> Result<(), Box<dyn Error>> {
    match divide::call(client, 1, 0).await {
        Ok(quotient) => println!("1 / 0 = {quotient}"),
        Err(CallError::Failed(DivideError::DivisionByZero)) => {
            println!("1 / 0: there is no such number");
        }
        Err(CallError::Failed(error)) => println!("1 / 0: {error}"),
        Err(CallError::Rpc(error)) => return Err(error.into()),
    }
    let error = divide::call(client, i64::MIN, -1).await.unwrap_err();
    assert_eq!(error.failed(), Some(DivideError::Overflow));

    println!("the server tells its log that a function panics:");
    let error = crash::call(client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    println!("{error}");
    client.ping().await?;
    Ok(())
}

/// Makes a call that times out. No call waits forever: the default timeout is 30 s, and a call can
/// set its own.
async fn timeout(client: &Client) {
    let start = Instant::now();
    let call = sleep_ms::call(client, 60_000).timeout(Duration::from_millis(100));
    let error = call.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    // `ran` tells if the function may have run. If it has not, calling again is always safe.
    assert_ne!(error.ran(), Ran::No);
    println!("{error} (after {:?})", start.elapsed());
}

/// Cancels a call by dropping it. The running function notices the cancellation and returns early,
/// so that its worker is free again.
async fn cancellation(client: &Client) {
    tokio::select! {
        result = spin_ms::call(client, 60_000) => println!("spin_ms ended by itself: {result:?}"),
        () = tokio::time::sleep(Duration::from_millis(100)) => println!("spin_ms took too long: cancelled"),
    }
}

/// Calls a function by a name that is known only at run time. If the name is misspelled, the error
/// suggests a similar one.
async fn by_name(client: &Client) -> Result<(), Box<dyn Error>> {
    let sum = client.call_dynamic::<i64>("add", (40, 2)).await?;
    assert_eq!(sum, 42);

    let error = client.call_dynamic::<i64>("ad", (40, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownFunction);
    println!("{error}");
    Ok(())
}

/// Calls one function for many inputs. Each result comes with the index of its input. Results
/// arrive as their calls end, or in the order of the inputs with `ordered`. The error of one call
/// does not end the others.
async fn many(client: &Client) -> Result<(), Box<dyn Error>> {
    let texts = ["a b", "c", "", "d e f"];
    let mut words = 0;
    let mut results = count_words::map(client, texts).concurrency(2);
    while let Some((index, result)) = results.next().await {
        let counts = result?;
        println!("text {index} has {} words", counts.len());
        words += counts.len();
    }
    assert_eq!(words, 6);

    // For a function with several parameters, each input is a tuple.
    let pairs = (1..=100).map(|n| (n * n, n));
    let mut quotients = divide::map(client, pairs).concurrency(16).ordered();
    let mut expected = 1..=100;
    while let Some((_, quotient)) = quotients.next().await {
        assert_eq!(Some(quotient?), expected.next());
    }
    println!("100 quotients came in order");
    Ok(())
}

/// Sends a notification: a call without an answer. Not even an error comes back.
async fn notification(client: &Client) -> Result<(), Box<dyn Error>> {
    let before = visits::call(client).await?;
    visits::notify(client).await?;
    let after = visits::call(client).await?;
    // Other clients of the same server may have called `visits` in between.
    assert!(after >= before + 2);
    println!("visits: {before}, then a notification, then {after}");
    Ok(())
}

/// Makes many calls at the same time. A client is cheap to clone, and a call is an ordinary future,
/// so each call can run in a task of its own.
async fn at_the_same_time(client: &Client) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        calls.spawn(sleep_ms::call(client, 200));
    }
    while let Some(joined) = calls.join_next().await {
        joined??;
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(64 * 200 / 1000));
    println!("64 times 200 ms of sleep took {} ms", took.as_millis());
    Ok(())
}
