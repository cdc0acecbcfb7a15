//! Servers and clients that find each other by names in real etcd clusters.

use std::time::{Duration, Instant};

use etcd_client::{CompactionOptions, GetOptions, KeyValue};
use rpc_core::{Balancing, Client, ErrorKind, ServerHandle, remote};
use rpc_etcd::Names;
use tests::{
    etcd::Etcd,
    follow::{self, Callers, says},
    ipc, soon,
};
use tokio::runtime::Runtime;

struct Number(usize);

#[remote(inline, idempotent)]
fn number(#[state] number: &Number) -> usize {
    number.0
}

/// The time to live of registrations here.
const TTL: Duration = Duration::from_secs(2);

fn names(etcd: &Etcd) -> Names {
    let text = format!("etcd://{}/words", etcd.addresses());
    Names::parse(&text).unwrap().ttl(TTL)
}

async fn serve(number: usize, names: Names) -> ServerHandle {
    serve_at("tcp://127.0.0.1:0", number, names).await
}

async fn serve_at(endpoint: &str, number: usize, names: Names) -> ServerHandle {
    let builder = tests::server().state(Number(number)).serve::<crate::number>();
    builder.bind(endpoint).await.unwrap().register(names).spawn().unwrap()
}

/// Calls until exactly these servers have answered. No call may fail.
async fn answer(client: &Client, numbers: &[usize]) {
    follow::answer(numbers, || number::call(client)).await;
}

async fn direct(etcd: &Etcd) -> etcd_client::Client {
    etcd_client::Client::connect([etcd.address(0).to_string()], None).await.unwrap()
}

/// Returns what is stored about the servers, once there are so many.
async fn entries(etcd: &Etcd, count: usize) -> Vec<KeyValue> {
    let mut direct = direct(etcd).await;
    let counted = async {
        loop {
            let all = Some(GetOptions::new().with_prefix());
            let mut found = direct.get("/rpc/words/", all).await.unwrap();
            if found.kvs().len() == count {
                return found.take_kvs();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("entries", counted).await
}

#[tokio::test]
async fn no_call_fails_while_servers_come_and_go() {
    let etcd = Etcd::start(1);
    let mut servers = vec![serve(0, names(&etcd)).await];
    let client = Client::builder().connect_via(names(&etcd)).await.unwrap();
    let callers = Callers::start(4, {
        let client = client.clone();
        move || number::call(&client).retries(0)
    });
    let mut slowest = Duration::ZERO;
    for next in 1..4 {
        let begin = Instant::now();
        servers.push(serve(next, names(&etcd)).await);
        answer(&client, &(0..=next).collect::<Vec<_>>()).await;
        slowest = slowest.max(begin.elapsed());
    }
    while servers.len() > 1 {
        let begin = Instant::now();
        servers.remove(0).shutdown().await;
        answer(&client, &(4 - servers.len()..4).collect::<Vec<_>>()).await;
        slowest = slowest.max(begin.elapsed());
    }
    println!("the load followed within {slowest:?}");
    callers.stop().await;
    servers.remove(0).shutdown().await;
    assert_eq!(entries(&etcd, 0).await.len(), 0, "all of them have withdrawn");
    client.close().await;
}

#[test]
fn server_that_dies_is_out_when_its_lease_ends() {
    let etcd = Etcd::start(1);
    let (live, dies) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let server = live.block_on(serve(0, names(&etcd)));
    let dead = dies.block_on(serve(1, names(&etcd)));
    let client = live.block_on(Client::builder().connect_via(names(&etcd))).unwrap();
    live.block_on(answer(&client, &[0, 1]));
    // Its tasks end where they are, as when its process is killed.
    dies.shutdown_background();
    drop(dead);
    live.block_on(async {
        answer(&client, &[0]).await;
        let one_left = async {
            while client.endpoints().len() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the lease ends", one_left).await;
        assert_eq!(client.endpoints().len(), 1);
        client.close().await;
        server.shutdown().await;
    });
}

#[tokio::test]
async fn etcd_that_is_away_takes_no_server_away() {
    let mut etcd = Etcd::start(1);
    let server = serve(0, names(&etcd)).await;
    let client = Client::builder().connect_via(names(&etcd)).await.unwrap();
    answer(&client, &[0]).await;
    etcd.kill(0);
    says(&client, "etcd does not answer").await;
    // Longer than the lease lasts. Servers that come meanwhile serve, and are found later.
    let late = serve(1, names(&etcd)).await;
    let until = Instant::now() + 2 * TTL;
    while Instant::now() < until {
        answer(&client, &[0]).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    etcd.restart(0);
    answer(&client, &[0, 1]).await;
    entries(&etcd, 2).await;
    client.close().await;
    late.shutdown().await;
    server.shutdown().await;
}

#[tokio::test]
async fn etcd_that_is_away_at_the_start_is_waited_for() {
    let mut etcd = Etcd::start(1);
    etcd.kill(0);
    let short = Client::builder().connect_timeout(Duration::from_millis(500));
    let error = short.connect_via(names(&etcd)).await.err().unwrap();
    let text = format!("{error:#}");
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(text.contains("etcd does not answer") && text.contains("refused"), "{text}");
    let server = serve(0, names(&etcd)).await;
    let client = Client::builder().connect_lazy_via(names(&etcd)).unwrap();
    let call = tokio::spawn(number::call(&client));
    etcd.restart(0);
    assert_eq!(soon("the call", call).await.unwrap().unwrap(), 0);
    client.close().await;
    // A server does not wait for an etcd that is away, nor for one that is frozen.
    etcd.freeze(0, true);
    soon("the end", server.shutdown()).await;
    etcd.freeze(0, false);
}

#[tokio::test]
async fn lease_that_ends_while_its_server_serves_is_replaced() {
    let etcd = Etcd::start(1);
    let server = serve(0, names(&etcd)).await;
    let first = entries(&etcd, 1).await.remove(0);
    let mut direct = direct(&etcd).await;
    direct.lease_revoke(first.lease()).await.unwrap();
    let again = entries(&etcd, 1).await.remove(0);
    assert_ne!(again.lease(), first.lease());
    assert_eq!((again.key(), again.value()), (first.key(), first.value()));
    // An entry that somebody deletes comes back, too.
    direct.delete(again.key(), None).await.unwrap();
    let back = entries(&etcd, 1).await.remove(0);
    assert_eq!((back.lease(), back.value()), (again.lease(), first.value()));
    server.shutdown().await;
    entries(&etcd, 0).await;
}

#[tokio::test]
async fn garbage_among_the_entries_is_left_out() {
    let etcd = Etcd::start(1);
    let server = serve(0, names(&etcd)).await;
    entries(&etcd, 1).await;
    let mut direct = direct(&etcd).await;
    for (key, value) in [
        (&b"/rpc/words/garbage"[..], &b"\xff\x00garbage"[..]),
        (b"/rpc/words/\xff", br#"{"endpoints": 5}"#),
        (b"/rpc/words/none", br#"{"endpoints": []}"#),
        (b"/rpc/words/inproc", br#"{"endpoints": ["inproc://x"], "host": "?"}"#),
    ] {
        direct.put(key, value, None).await.unwrap();
    }
    let client = Client::builder().connect_via(names(&etcd)).await.unwrap();
    answer(&client, &[0]).await;
    assert_eq!(client.status().sources[0].endpoints, 1);
    direct.put("/rpc/words/bad", r#"{"endpoints": ["tcp://nowhere"]}"#, None).await.unwrap();
    says(&client, "`tcp://nowhere`, which is no endpoint").await;
    answer(&client, &[0]).await;
    // Services do not see each other.
    let other = format!("etcd://{}/word", etcd.addresses());
    let lonely = Client::builder().connect_timeout(Duration::from_millis(500));
    let error = lonely.connect_via(Names::parse(&other).unwrap()).await.err().unwrap();
    assert!(format!("{error:#}").contains("it names no endpoint"), "{error:#}");
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn instance_belongs_to_one_server_at_a_time() {
    let etcd = Etcd::start(1);
    let first = serve(0, names(&etcd).instance("words-0")).await;
    let entry = entries(&etcd, 1).await.remove(0);
    assert_eq!(entry.key_str().unwrap(), "/rpc/words/words-0");
    let second = serve(1, names(&etcd).instance("words-0")).await;
    let client = Client::builder().connect_via(names(&etcd)).await.unwrap();
    for _ in 0..100 {
        assert_eq!(number::call(&client).await.unwrap(), 0);
    }
    first.shutdown().await;
    answer(&client, &[1]).await;
    client.close().await;
    second.shutdown().await;
}

#[tokio::test]
async fn cluster_survives_the_loss_of_any_member() {
    let mut etcd = Etcd::start(3);
    let server = serve(0, names(&etcd)).await;
    let client = Client::builder().connect_via(names(&etcd)).await.unwrap();
    answer(&client, &[0]).await;
    // One of them is the leader, and one has the connections.
    for lost in 0..3 {
        etcd.kill(lost);
        let other = serve(1, names(&etcd)).await;
        answer(&client, &[0, 1]).await;
        other.shutdown().await;
        answer(&client, &[0]).await;
        etcd.restart(lost);
    }
    etcd.freeze(0, true);
    let other = serve(1, names(&etcd)).await;
    answer(&client, &[0, 1]).await;
    other.shutdown().await;
    etcd.freeze(0, false);
    client.close().await;
    server.shutdown().await;
}

#[tokio::test]
async fn compacted_changes_are_listed_anew() {
    let mut etcd = Etcd::start(1);
    let server = serve(0, names(&etcd)).await;
    let client = Client::builder().connect_via(names(&etcd)).await.unwrap();
    answer(&client, &[0]).await;
    etcd.kill(0);
    says(&client, "etcd does not answer").await;
    etcd.restart(0);
    let mut direct = direct(&etcd).await;
    for _ in 0..10 {
        direct.put("/other", "", None).await.unwrap();
    }
    let put = direct.put("/other", "", None).await.unwrap();
    let revision = put.header().unwrap().revision();
    let physical = Some(CompactionOptions::new().with_physical());
    direct.compact(revision, physical).await.unwrap();
    let other = serve(1, names(&etcd)).await;
    answer(&client, &[0, 1]).await;
    client.close().await;
    other.shutdown().await;
    server.shutdown().await;
}

#[tokio::test]
async fn server_is_reached_at_the_best_of_its_addresses() {
    let etcd = Etcd::start(1);
    let socket = ipc();
    let builder = tests::server().state(Number(0)).serve::<crate::number>();
    let bound = builder.bind(["tcp://*:0", &socket]).await.unwrap();
    let server = bound.register(names(&etcd)).spawn().unwrap();
    let entry = entries(&etcd, 1).await.remove(0);
    let value = entry.value_str().unwrap();
    let port = server.endpoint().rsplit(':').next().unwrap();
    assert!(value.contains(&format!("\"tcp://127.0.0.1:{port}\"")), "{value}");
    let local = Client::builder().balancing(Balancing::LocalFirst);
    let client = local.connect_via(names(&etcd)).await.unwrap();
    assert_eq!(client.endpoints().iter().map(|name| &**name).collect::<Vec<_>>(), [&*socket]);
    answer(&client, &[0]).await;
    client.close().await;
    server.shutdown().await;

    let advertised = names(&etcd).advertise(["tcp://words.example:5555"]);
    let server = serve(0, advertised).await;
    let entry = entries(&etcd, 1).await.remove(0);
    assert!(entry.value_str().unwrap().contains("[\"tcp://words.example:5555\"]"));
    server.shutdown().await;
}
