//! A process that forks while it has a client. This program has no test harness, because only a
//! process with few threads can be forked safely.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    process::exit,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use fork::{Fork, fork, waitpid};
use rpc_core::{Client, ErrorKind, RpcError, Server, remote};

#[remote]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

/// A server in a process of its own, which ends when `alive` is closed.
fn serve(endpoint: &str, mut alive: UnixStream) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let bound = runtime.block_on(Server::builder().workers(1).bind(endpoint));
    let server = bound.unwrap().spawn().unwrap();
    // An error or the end of the stream both mean that the test has ended.
    let _ = alive.read(&mut [0]);
    drop(server);
}

/// Checks a client that was made by the parent process, and one of our own.
fn check_in_child(old: &Client, endpoint: &str) {
    // Longer than the interval in which a client of a busy process does not look.
    std::thread::sleep(Duration::from_millis(5));
    let refused = |outcome: Result<i64, RpcError>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.message().contains("make a client in the child"), "{error}");
    };
    refused(add::call(old, 1, 2).wait());
    refused(futures_util::FutureExt::now_or_never(add::call(old, 1, 2)).expect("it does not wait"));
    refused(add::notify(old, 1, 2).wait().map(|()| 0));
    old.clone().close().wait();
    let new = Client::connect(endpoint).wait().unwrap();
    assert_eq!(add::call(&new, 1, 2).wait().unwrap(), 3);
    new.close().wait();
}

/// Forks while other threads call: in some of the children, the lock of the client is held by a
/// thread that is not there.
fn fork_while_others_call(client: &Client) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    add::call(client, 1, 2).wait().unwrap();
                }
            });
        }
        for _ in 0..100 {
            let (mut result, mut of_child) = UnixStream::pair().unwrap();
            result.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            match fork().unwrap() {
                Fork::Child => {
                    std::thread::sleep(Duration::from_millis(2));
                    let ended = futures_util::FutureExt::now_or_never(add::call(client, 1, 2));
                    let is_refused = ended.is_some_and(|outcome| outcome.is_err());
                    let _ = (client.status(), client.endpoints());
                    of_child.write_all(if is_refused { b"well" } else { b"ill!" }).unwrap();
                    exit(0);
                }
                Fork::Parent(child) => {
                    drop(of_child);
                    let mut text = [0; 4];
                    result.read_exact(&mut text).expect("the child does not hang");
                    assert_eq!(&text, b"well");
                    waitpid(child).unwrap();
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn main() {
    let folder = std::env::temp_dir().join(format!("rpc-fork-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let endpoint = format!("ipc://{}/s", folder.display());
    let (alive, other) = UnixStream::pair().unwrap();
    // The server is forked off before this process has any other thread.
    let server = match fork().unwrap() {
        Fork::Child => {
            drop(alive);
            serve(&endpoint, other);
            exit(0);
        }
        Fork::Parent(server) => server,
    };
    drop(other);
    let client = Client::builder().connect_timeout(Duration::from_secs(30));
    let client = client.connect(&*endpoint).wait().unwrap();
    assert_eq!(add::call(&client, 1, 2).wait().unwrap(), 3);
    let (mut result, mut of_child) = UnixStream::pair().unwrap();
    match fork().unwrap() {
        Fork::Child => {
            check_in_child(&client, &endpoint);
            of_child.write_all(b"well").unwrap();
            exit(0);
        }
        Fork::Parent(child) => {
            drop(of_child);
            waitpid(child).unwrap();
        }
    }
    let mut text = String::new();
    result.read_to_string(&mut text).unwrap();
    assert_eq!(text, "well", "the child has panicked");
    assert_eq!(add::call(&client, 1, 2).wait().unwrap(), 3, "the parent goes on");
    fork_while_others_call(&client);
    client.close().wait();
    drop(alive);
    waitpid(server).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
