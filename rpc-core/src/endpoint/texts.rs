//! The texts that programs give to clients and servers as endpoints.

/// One or several endpoints, as [`Server::bind`](crate::Server::bind) and
/// [`Client::connect`](crate::Client::connect) take them: a string, or an array, a slice or a `Vec`
/// of strings.
///
/// - `tcp://host:port` is carried by TCP. The host is a name, an IPv4 address, or an IPv6 address
///   in brackets. A link-local address has its interface behind it: `tcp://[fe80::1%eth0]:5555`. To
///   bind, the host `*` stands for every interface, with IPv6 and IPv4, and the port `0` or `*` for
///   any free port.
/// - `ipc:///path/to/socket` is carried by a Unix domain socket. The path has at most 107 bytes on
///   Linux. `ipc://@name` is a name in the abstract namespace of Linux, as in libzmq: it has no
///   file, and no permissions. `ipc://./@name` is a file whose name begins with `@`.
/// - `inproc://name` is carried by memory, between clients and servers of one process.
/// - `amqp://user:password@host:5672/vhost?queue=name` is a queue of a RabbitMQ broker (3.10 or
///   later), with the feature `amqp`, and `amqps://` with the feature `amqps`. Every part but the
///   host has a default: `guest`, `guest`, `5672`, `/` (which is written as `%2f`), `rpc`. Calls run
///   at least once. The chapter "Through a broker" of `docs/GUIDE.md` has the other options.
///
/// A client also takes texts that name endpoints, and then follows their changes as with a
/// [`Discovery`](crate::Discovery):
///
/// - `file:///path` is a file with an endpoint a line. What follows `#` is left out. The file is
///   read twice a second.
/// - `dns://name:port` is every address that the name has in the DNS, and `dns://name` every host and
///   port that its SRV records name, with the feature `dns`. The name is looked up again when the
///   records are no longer valid, every 5 s at the latest: `dns://name:port?refresh=30` sets
///   another number of seconds, and `nameserver=10.0.0.1:53` the server to ask.
///
/// # Errors
/// `bind` fails with [`ServeError::InvalidEndpoint`](crate::ServeError::InvalidEndpoint) for any
/// other text, and `connect` with
/// [`ErrorKind::InvalidEndpoint`](crate::ErrorKind::InvalidEndpoint). Either error says what to
/// write instead.
pub trait Endpoints: sealed::Sealed {
    #[doc(hidden)]
    fn into_texts(self) -> Vec<String>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for &str {}
    impl Sealed for &String {}
    impl Sealed for String {}
    impl<T: AsRef<str>, const N: usize> Sealed for [T; N] {}
    impl<T: AsRef<str>, const N: usize> Sealed for &[T; N] {}
    impl<T: AsRef<str>> Sealed for &[T] {}
    impl<T: AsRef<str>> Sealed for &Vec<T> {}
    impl<T: AsRef<str>> Sealed for Vec<T> {}
}

impl Endpoints for &str {
    fn into_texts(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Endpoints for &String {
    fn into_texts(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl Endpoints for String {
    fn into_texts(self) -> Vec<String> {
        vec![self]
    }
}

impl<T: AsRef<str>, const N: usize> Endpoints for [T; N] {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>, const N: usize> Endpoints for &[T; N] {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>> Endpoints for &[T] {
    fn into_texts(self) -> Vec<String> {
        self.iter().map(|text| text.as_ref().to_owned()).collect()
    }
}

impl<T: AsRef<str>> Endpoints for &Vec<T> {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}

impl<T: AsRef<str>> Endpoints for Vec<T> {
    fn into_texts(self) -> Vec<String> {
        self.as_slice().into_texts()
    }
}
