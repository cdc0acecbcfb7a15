//! Clients that find their servers by a name in the DNS, whose records change.

mod server;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_core::{Client, ErrorKind, ServerHandle, remote};
use tests::{
    Gate,
    follow::{self, Callers, says},
    soon,
};

use crate::server::DnsServer;

struct Host(&'static str);

#[remote(inline, idempotent)]
fn host(#[state] host: &Host) -> String {
    host.0.to_owned()
}

#[remote]
async fn hold(#[state] gate: Arc<Gate>, #[state] host: &Host) -> String {
    let _inside = gate.enter();
    gate.pass_async().await;
    host.0.to_owned()
}

/// Serves on each of these addresses of this machine, on the same port.
async fn serve(gate: &Arc<Gate>, addresses: &[&'static str]) -> (Vec<ServerHandle>, u16) {
    let bind = async |address: &'static str, port: u16| {
        let builder = tests::server().shared_state(Arc::clone(gate)).state(Host(address));
        builder.bind(format!("tcp://{address}:{port}")).await
    };
    'another_port: loop {
        let first = bind(addresses[0], 0).await.unwrap();
        let port = first.endpoint().rsplit(':').next().unwrap().parse().unwrap();
        let mut servers = vec![first];
        for address in &addresses[1..] {
            match bind(address, port).await {
                Ok(server) => servers.push(server),
                Err(_) => continue 'another_port,
            }
        }
        return (servers.into_iter().map(|server| server.spawn().unwrap()).collect(), port);
    }
}

/// Calls until exactly the servers at these addresses have answered.
async fn answer(client: &Client, addresses: &[&str]) {
    let addresses: Vec<_> = addresses.iter().map(|address| (*address).to_owned()).collect();
    follow::answer(&addresses, || host::call(client)).await;
}

#[tokio::test]
async fn calls_follow_the_addresses_of_a_name() {
    let gate: Arc<Gate> = Arc::default();
    let all = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "[::1]"];
    let (servers, port) = serve(&gate, &all).await;
    let dns = DnsServer::start().await;
    dns.set_addresses("words.test.", &["127.0.0.1"]);
    let text = format!("dns://words.test:{port}?nameserver={}", dns.address);
    let client = tests::client().connect(&text).await.unwrap();
    let callers = Callers::start(1, {
        let client = client.clone();
        move || host::call(&client).retries(0)
    });
    answer(&client, &["127.0.0.1"]).await;
    let held = tokio::spawn(hold::call(&client));
    gate.entered(1).await;
    let begin = Instant::now();
    dns.set_addresses("words.test.", &["127.0.0.1", "127.0.0.2", "127.0.0.3", "::1"]);
    answer(&client, &all).await;
    let (up, begin) = (begin.elapsed(), Instant::now());
    dns.set_addresses("words.test.", &["127.0.0.2"]);
    answer(&client, &["127.0.0.2"]).await;
    println!("the load followed up within {up:?}, and down within {:?}", begin.elapsed());
    assert!(!held.is_finished(), "the record has gone, and the call runs on");
    gate.open();
    assert_eq!(soon("the call", held).await.unwrap().unwrap(), "127.0.0.1");
    assert!(callers.stop().await > 100);
    assert_eq!(client.status().retries, 0);
    client.close().await;
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn trouble_with_names_takes_no_server_away() {
    let gate: Arc<Gate> = Arc::default();
    let (servers, port) = serve(&gate, &["127.0.0.1"]).await;
    let dns = DnsServer::start().await;
    let text = format!("dns://words.test:{port}?nameserver={}", dns.address);
    let short = tests::client().connect_timeout(Duration::from_millis(300));
    let error = short.connect(&text).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    let told = format!("{error:#}");
    assert!(told.contains("the name `words.test` has no address"), "{told}");

    let client = tests::client().connect_lazy(&text).unwrap();
    says(&client, "has no address").await;
    dns.set_addresses("words.test.", &["127.0.0.1"]);
    answer(&client, &["127.0.0.1"]).await;
    // The record disappears, and then the server of names has a fault.
    dns.set_addresses("words.test.", &[]);
    says(&client, "has no address").await;
    answer(&client, &["127.0.0.1"]).await;
    dns.set_fails(true);
    says(&client, "the lookup of `words.test` has failed").await;
    answer(&client, &["127.0.0.1"]).await;
    dns.set_fails(false);
    let many: Vec<_> = (0..1_000).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect();
    dns.set_addresses("words.test.", &many.iter().map(String::as_str).collect::<Vec<_>>());
    says(&client, "it names 1000 endpoints, of which 256 are used").await;
    assert_eq!(client.endpoints().len(), 256);
    client.close().await;
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn srv_records_name_hosts_and_ports() {
    let gate: Arc<Gate> = Arc::default();
    let (mut servers, first) = serve(&gate, &["127.0.0.1"]).await;
    let (others, second) = serve(&gate, &["127.0.0.2"]).await;
    servers.extend(others);
    let dns = DnsServer::start().await;
    dns.set_addresses("a.test.", &["127.0.0.1"]);
    dns.set_addresses("b.test.", &["127.0.0.2"]);
    let name = "_rpc._tcp.words.test.";
    let spare = (20, second, "b.test.");
    dns.set_services(name, &[(10, first, "a.test."), spare, (10, 1, "no-such-host.test.")]);
    let text = format!("dns://_rpc._tcp.words.test?nameserver={}", dns.address);
    let client = tests::client().connect(&text).await.unwrap();
    answer(&client, &["127.0.0.1"]).await;
    dns.set_services(name, &[(10, first, "a.test."), (10, second, "b.test.")]);
    answer(&client, &["127.0.0.1", "127.0.0.2"]).await;
    dns.set_services(name, &[spare]);
    answer(&client, &["127.0.0.2"]).await;
    client.close().await;
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn name_is_looked_up_about_once_a_second() {
    let dns = DnsServer::start().await;
    let text = format!("dns://words.test:1?nameserver={}&refresh=3600", dns.address);
    dns.set_addresses("words.test.", &["127.0.0.1"]);
    let client = tests::client().connect_lazy(&text).unwrap();
    // The records are valid for one second.
    let asks = async {
        while dns.questions() < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let began = std::time::Instant::now();
    soon("lookups", asks).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "three lookups, of A and AAAA each");
    client.close().await;
}
