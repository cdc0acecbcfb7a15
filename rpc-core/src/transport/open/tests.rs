//! Tests of hosts with several addresses, on every engine. The addresses are given directly,
//! because a test has no names for them.

use std::net::TcpListener;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use super::*;
use crate::protocol::DEFAULT_MAX_MESSAGE_SIZE;

fn configs() -> Vec<TransportConfig> {
    let engines = [
        Engine::Zeromq,
        #[cfg(feature = "omq")]
        Engine::Omq,
    ];
    let max_message_size = DEFAULT_MAX_MESSAGE_SIZE;
    engines
        .map(|engine| TransportConfig {
            engine,
            max_message_size,
            #[cfg(feature = "curve")]
            curve: None,
        })
        .to_vec()
}

/// A listener whose queue is full, so that Linux drops the packets that would open a connection.
struct BlackHole {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    async fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        let wait = Duration::from_millis(200);
        while let Ok(connected) = time::timeout(wait, TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
        }
        Self { listener, _waiting: waiting }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

/// Listens on several addresses of this machine with the same port.
async fn listen_on(addresses: &[SocketAddr], config: &TransportConfig) -> (Box<dyn Listener>, u16) {
    let mut binding = open(config);
    let port = binding.bind_tcp(addresses).await.unwrap();
    (binding.listen(), port)
}

/// Waits for `connecting` while the listener runs.
async fn with<T>(listener: &mut Box<dyn Listener>, connecting: impl Future<Output = T>) -> T {
    let run = async {
        loop {
            // Only connections that have ended are reported, because nobody sends anything.
            listener.recv().await;
        }
    };
    tokio::select! {
        connected = connecting => connected,
        () = run => unreachable!("it runs for ever"),
    }
}

fn loopback(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, host], port))
}

/// A time that is far longer than each step takes.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn silent_address_does_not_keep_the_next_from_being_tried() {
    let silent = BlackHole::new().await;
    for config in configs() {
        let (mut listener, port) = listen_on(&[loopback(1, 0)], &config).await;
        let addresses = [silent.address(), loopback(1, port)];
        let started = Instant::now();
        let connected = with(&mut listener, connect_to_any(&addresses, &config, later())).await;
        assert!(connected.is_ok(), "{config:?}");
        // The head start of the silent address is a quarter of a second.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn error_says_why_each_address_failed() {
    let silent = BlackHole::new().await;
    // Its port is taken, and nobody listens there.
    let refusing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    refusing.bind(&loopback(1, 0).into()).unwrap();
    let refusing = refusing.local_addr().unwrap().as_socket().unwrap();
    for config in configs() {
        let by = Instant::now() + Duration::from_secs(1);
        let Err(error) = connect_to_any(&[silent.address(), refusing], &config, by).await else {
            panic!("nobody is there")
        };
        let error = error.to_string();
        assert!(error.starts_with(&format!("{}: ", silent.address())), "{error}");
        assert!(error.contains(&format!("; {refusing}: Connection refused")), "{error}");
    }
}

#[cfg(target_os = "linux")] // Other systems have one address on the loopback interface.
#[tokio::test]
async fn server_listens_on_all_addresses_of_a_host() {
    for config in configs() {
        let (mut listener, port) = listen_on(&[loopback(2, 0), loopback(3, 0)], &config).await;
        for host in [2, 3] {
            let address = [loopback(host, port)];
            let connected = with(&mut listener, connect_to_any(&address, &config, later())).await;
            assert!(connected.is_ok(), "{config:?}");
        }
        listener.stop_accepting();
        // Both addresses are given up.
        for host in [2, 3] {
            while TcpStream::connect(loopback(host, port)).await.is_ok() {
                time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn address_that_is_taken_is_named() {
    let holder = TcpListener::bind(loopback(2, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    for config in configs() {
        let addresses = [loopback(3, port), loopback(2, port)];
        let error = open(&config).bind_tcp(&addresses).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("127.0.0.2:{port}: Address")), "{error}");
    }
}
