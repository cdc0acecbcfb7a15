use super::*;

#[test]
fn endpoint_text_round_trips() {
    for text in [
        "tcp://127.0.0.1:5555",
        "tcp://0.0.0.0:5555",
        "tcp://[::1]:1",
        "tcp://[::]:1",
        "tcp://[fe80::1%eth0]:5555",
        "tcp://[fe80::1%2]:5555",
        "tcp://a.example:80",
        "tcp://with_underscore:65535",
        "ipc:///tmp/x",
        "ipc://relative/x",
        "ipc:///with space/x ",
        "ipc://./@file",
        "ipc://@abstract",
        "ipc://@@",
        "inproc://x",
    ] {
        assert_eq!(Endpoint::to_connect(text).unwrap().to_string(), text);
        assert_eq!(Endpoint::to_bind(text).unwrap().to_string(), text);
    }
}

#[test]
fn wildcards_are_for_binding_only() {
    assert_eq!(Endpoint::to_bind("tcp://*:*").unwrap().to_string(), "tcp://*:0");
    assert_eq!(Endpoint::to_bind("tcp://[::]:0").unwrap().to_string(), "tcp://[::]:0");
    for text in ["tcp://*:5555", "tcp://127.0.0.1:0", "tcp://127.0.0.1:00", "tcp://127.0.0.1:*"] {
        Endpoint::to_connect(text).unwrap_err();
    }
}

#[test]
fn bound_wildcard_can_be_connected_to() {
    let bound = Endpoint::to_bind("tcp://*:0").unwrap().with_port(5555);
    assert_eq!(Endpoint::to_connect(&bound.to_string()), Ok(bound));
}

#[test]
fn longest_ipc_address_is_that_of_the_operating_system() {
    for start in ["/tmp/", "@"] {
        let longest = format!("{start}{}", "x".repeat(MAX_IPC - start.len()));
        Endpoint::to_bind(&format!("ipc://{longest}")).unwrap();
        let error = Endpoint::to_bind(&format!("ipc://{longest}x")).unwrap_err();
        let expected = format!("has {} bytes", MAX_IPC + 1);
        assert!(error.contains(&expected), "{error}");
    }
    let socket = |len| std::os::unix::net::SocketAddr::from_pathname("x".repeat(len));
    socket(MAX_IPC).unwrap();
    socket(MAX_IPC + 1).unwrap_err();
}

/// The texts that are no endpoints, and a part of the error that says what is wrong or what to
/// write.
const MALFORMED: [(&str, &str); 63] = [
    ("", "`tcp://host:port`"),
    ("localhost", "`tcp://host:port`"),
    ("localhost:5555", "missing: `tcp://localhost:5555`"),
    ("[::1]:5555", "missing: `tcp://[::1]:5555`"),
    (":5555", "`tcp://host:port`"),
    ("tcp:localhost:5555", "`tcp://host:port`"),
    ("tcp:/localhost:5555", "`tcp://host:port`"),
    ("/run/app.sock", "missing: `ipc:///run/app.sock`"),
    ("./app.sock", "missing: `ipc://./app.sock`"),
    ("://localhost:5555", "no transport ``"),
    ("http://x:1", "no transport `http`"),
    ("udp://x:1", "no transport `udp`"),
    ("TCP://localhost:5555", "as `tcp`, not as `TCP`"),
    ("Ipc:///tmp/x", "as `ipc`, not as `Ipc`"),
    (" tcp://localhost:5555", "as `tcp`, not as ` tcp`"),
    ("tcp://localhost:5555 ", "white space"),
    ("tcp://localhost:5555\n", "white space"),
    ("tcp://local host:5555", "white space"),
    ("tcp://localhost: 5555", "white space"),
    ("tcp://local\0host:5555", "control character"),
    ("tcp://", "host and the port are missing"),
    ("tcp://localhost", "port is missing: `tcp://localhost:5555`"),
    ("tcp://localhost:", "port is missing: `tcp://localhost:5555`"),
    ("tcp://[::1]", "port is missing: `tcp://[::1]:5555`"),
    ("tcp://[::1]:", "port is missing: `tcp://[::1]:5555`"),
    ("tcp://*", "port is missing: `tcp://*:5555`"),
    ("tcp://:5555", "host is missing"),
    ("tcp:///localhost:5555", "no host name"),
    ("tcp://localhost:65536", "`65536` is no port from 0 to 65535"),
    ("tcp://localhost:-1", "`-1` is no port"),
    ("tcp://localhost:+80", "`+80` is no port"),
    ("tcp://localhost:http", "`http` is no port"),
    ("tcp://localhost:0x50", "`0x50` is no port"),
    ("tcp://localhost:5555/", "remove `/`"),
    ("tcp://localhost:5555/path?query", "remove `/path?query`"),
    ("tcp://localhost:5555?query", "remove `?query`"),
    ("tcp://localhost:5555#part", "remove `#part`"),
    ("tcp://localhost/path", "remove `/path`"),
    ("tcp://user@localhost:5555", "remove `user@`"),
    ("tcp://user:password@localhost:5555", "remove `user:password@`"),
    ("tcp://eth0;localhost:5555", "remove `eth0;`"),
    ("tcp://::1", "in brackets"),
    ("tcp://::1:5555", "in brackets"),
    ("tcp://fe80::1%eth0:5555", "in brackets"),
    ("tcp://a:1:2", "in brackets"),
    ("tcp://[::1:5555", "`]` is missing"),
    ("tcp://[::1]5555", "`:` between `[::1]` and the port"),
    ("tcp://[]:5555", "no IPv6 address"),
    ("tcp://[::g]:5555", "`::g` is no IPv6 address"),
    ("tcp://[127.0.0.1]:5555", "no IPv6 address"),
    ("tcp://[*]:5555", "no IPv6 address"),
    ("tcp://[fe80::1]:5555", "`tcp://[fe80::1%eth0]:5555`"),
    ("tcp://[fe80::1%]:5555", "`tcp://[fe80::1%eth0]:5555`"),
    ("tcp://[::1%lo]:5555", "remove `%lo`"),
    ("tcp://256.0.0.1:5555", "no IPv4 address"),
    ("tcp://127.0.0.01:5555", "no IPv4 address"),
    ("ipc://", "path is missing"),
    ("ipc://*", "wildcard path"),
    ("ipc:///run/", "as in `ipc:///run/app.sock`"),
    ("ipc://..", "as in `ipc://../app.sock`"),
    ("ipc:///run/app.sock\n", "line break"),
    ("ipc://@", "name is missing: `ipc://@name`"),
    ("inproc://", "name is missing: `inproc://name`"),
];

#[test]
fn error_says_what_to_write() {
    for (text, expected) in MALFORMED {
        for parsed in [Endpoint::to_bind(text), Endpoint::to_connect(text)] {
            let error = parsed.unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

#[test]
fn wildcard_is_refused_to_clients() {
    for (text, expected) in [
        ("tcp://*:5555", "server's host, not `*`"),
        ("tcp://localhost:0", "port that the server listens on"),
        ("tcp://localhost:*", "port that the server listens on"),
    ] {
        let error = Endpoint::to_connect(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
