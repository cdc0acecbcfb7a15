//! The addresses that servers listen on and clients connect to.

use std::{
    fs,
    net::{Ipv6Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use rpc_core::{ServeError, ServerHandle};
use tests::{soon, unique};

use crate::functions::{add, builder};

async fn serve(endpoint: &str) -> ServerHandle {
    builder(&Arc::default()).bind(endpoint).await.unwrap().spawn().unwrap()
}

/// Makes a call over a connection of its own.
async fn works(endpoint: &str) {
    let client = soon("connecting", tests::client().connect(endpoint)).await.unwrap();
    assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
    client.close().await;
}

/// Returns the error of listening on `endpoint`, with its cause, as `main` prints it.
async fn bind_error(endpoint: &str) -> String {
    let error = builder(&Arc::default()).bind(endpoint).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }), "{error:?}");
    let text = format!("{error:?}");
    assert!(text.contains(endpoint), "{text}");
    text
}

#[tokio::test]
async fn wildcard_host_is_ipv4_and_ipv6() {
    let server = serve("tcp://*:0").await;
    let endpoint = server.endpoint().to_owned();
    let port = endpoint.rsplit(':').next().unwrap();
    works(&endpoint).await;
    works(&format!("tcp://127.0.0.1:{port}")).await;
    works(&format!("tcp://localhost:{port}")).await;
    if TcpListener::bind("[::1]:0").is_ok() {
        works(&format!("tcp://[::1]:{port}")).await;
    }
    let taken = bind_error(&format!("tcp://*:{port}")).await;
    assert!(taken.contains("in use"), "{taken}");
    server.shutdown().await;
}

/// A folder that is removed with everything in it.
struct Folder(PathBuf);

impl Folder {
    /// Makes a folder whose path, with a `/` behind it, has `length` bytes.
    fn with_length(length: usize) -> Self {
        let mut path = std::env::temp_dir().join(unique()).into_os_string().into_string().unwrap();
        path.push('/');
        let missing =
            length.checked_sub(path.len()).expect("the temporary folder has a short path");
        path.push_str(&"d".repeat(missing));
        fs::create_dir_all(&path).unwrap();
        Self(path.into())
    }

    fn files(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that is left behind does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn ipc_paths_can_be_as_long_as_a_socket_allows() {
    const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
    for file_name in [1, 2, 3, 8, 16, 17, 18, 40] {
        let folder = Folder::with_length(LONGEST - 1 - file_name);
        let path = format!("{}/{}", folder.0.display(), "s".repeat(file_name));
        assert_eq!(path.len(), LONGEST);
        let endpoint = format!("ipc://{path}");
        // The second time, the file of a server that was killed is there.
        for _ in 0..2 {
            let server = serve(&endpoint).await;
            assert_eq!(folder.files(), 1, "only the socket is left");
            works(&endpoint).await;
            let taken = bind_error(&endpoint).await;
            assert!(taken.contains("in use"), "{taken}");
            server.shutdown().await;
            soon("the file is removed", async {
                while folder.files() > 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            })
            .await;
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        }
        let error = builder(&Arc::default()).bind(format!("{endpoint}s")).await.unwrap_err();
        assert!(error.to_string().contains(&format!("allows {LONGEST}")), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn abstract_sockets_have_no_file() {
    let (one, two) = (format!("ipc://@{}", unique()), format!("ipc://@{}", unique()));
    let server = builder(&Arc::default()).bind([&one, &two]).await.unwrap().spawn().unwrap();
    assert_eq!(server.endpoints(), [&*one, &*two]);
    works(&one).await;
    works(&two).await;
    assert!(!Path::new(one.strip_prefix("ipc://").unwrap()).exists());
    let taken = bind_error(&one).await;
    assert!(taken.contains("in use"), "{taken}");
    // The name is that of libzmq: all bytes behind the `@`, and no zero behind them.
    let names = fs::read_to_string("/proc/net/unix").unwrap();
    let name = one.strip_prefix("ipc://").unwrap();
    assert!(names.lines().any(|line| line.ends_with(&format!(" {name}"))), "{names}");
    server.shutdown().await;
    // The name is free again, once the engine has closed its listener.
    let again = async {
        loop {
            match builder(&Arc::default()).bind(&one).await {
                Ok(server) => return server.spawn().unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let server = soon("binding again", again).await;
    works(&one).await;
    server.shutdown().await;
}

/// Returns a link-local address of this machine and its interface, if there is one.
fn link_local() -> Option<(Ipv6Addr, String)> {
    let interfaces = fs::read_to_string("/proc/net/if_inet6").ok()?;
    interfaces.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let bits = u128::from_str_radix(columns.next()?, 16).ok()?;
        let address = Ipv6Addr::from(bits);
        Some((address, columns.next_back()?.to_owned())).filter(|_| address.is_unicast_link_local())
    })
}

#[tokio::test]
async fn link_local_address_works_with_its_zone() {
    let server = serve("tcp://*:0").await;
    let port = server.endpoint().rsplit(':').next().unwrap();
    // Not every machine has such an address.
    if let Some((address, zone)) = link_local() {
        works(&format!("tcp://[{address}%{zone}]:{port}")).await;
        let endpoint = format!("tcp://[{address}%{zone}]:0");
        match builder(&Arc::default()).bind(&endpoint).await {
            Ok(server) => {
                let server = server.spawn().unwrap();
                assert!(server.endpoint().starts_with(endpoint.trim_end_matches('0')));
                works(server.endpoint()).await;
                server.shutdown().await;
            }
            // The engine `omq` drops the zone, and must not listen elsewhere instead.
            Err(error) => {
                assert!(format!("{error:?}").contains("cannot listen on an address with a zone"));
            }
        }
    }
    let error = bind_error("tcp://[fe80::1%no-such-if]:0").await;
    assert!(error.contains("no network interface `no-such-if`"), "{error}");
    server.shutdown().await;
}

#[tokio::test]
async fn bind_error_says_what_is_wrong_with_the_address() {
    let folder = Folder::with_length(60);
    let folder = folder.0.display();
    let file = format!("{folder}/file");
    fs::write(&file, "").unwrap();
    fs::create_dir(format!("{folder}/inner")).unwrap();
    let cases = [
        (format!("ipc://{folder}/inner"), "a folder is there: name a file in it".to_owned()),
        (format!("ipc://{file}"), "a file that is no socket is there".to_owned()),
        (format!("ipc://{file}/socket"), format!("{file} is no folder")),
        (
            format!("ipc://{folder}/missing/socket"),
            format!("{folder}/missing does not exist: make it first"),
        ),
        (
            "tcp://no-such-host.invalid:5555".to_owned(),
            "the host name `no-such-host.invalid` was not found".to_owned(),
        ),
    ];
    for (endpoint, expected) in cases {
        let error = bind_error(&endpoint).await;
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn connect_error_names_the_host_that_was_not_found() {
    let endpoint = "tcp://no-such-host.invalid:5555";
    let connect =
        tests::client().connect_timeout(std::time::Duration::from_millis(500)).connect(endpoint);
    let error = format!("{:#}", soon("connecting", connect).await.unwrap_err());
    assert!(error.contains("was not found"), "{error}");
}

#[tokio::test]
async fn socket_files_are_for_their_user_unless_asked_otherwise() {
    use std::os::unix::fs::PermissionsExt as _;

    for (builder, expected) in [(tests::server(), 0o600), (tests::server().ipc_mode(0o660), 0o660)]
    {
        let endpoint = tests::ipc();
        let server = builder.serve::<add>().bind(&endpoint).await.unwrap().spawn().unwrap();
        let path = endpoint.strip_prefix("ipc://").unwrap();
        let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected);
        let client = tests::client().connect(&endpoint).await.unwrap();
        assert_eq!(add::call(&client, 1, 2).await.unwrap(), 3);
        server.shutdown().await;
    }
}
