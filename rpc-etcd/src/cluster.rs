//! Connections to the members of an etcd cluster, one after the other.

use std::{future::Future, io, net::IpAddr, time::Duration};

use etcd_client::{Client, ConnectOptions, Error};
use tokio::{net::UdpSocket, time};

/// The time that a member has for an answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// The interval at which a silent connection is checked, so that a watch on a member that is frozen
/// or cut off ends.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// The members of a cluster. A connection is to one of them at a time: a client that is given all of
/// them goes on sending requests to those that are down.
#[derive(Debug)]
pub(crate) struct Cluster {
    members: Vec<String>,
    login: Option<(String, String)>,
    /// The member to which the next connection goes.
    next: usize,
}

impl Cluster {
    pub(crate) fn new(members: Vec<String>, login: Option<(String, String)>) -> Self {
        Self { members, login, next: 0 }
    }

    pub(crate) fn members(&self) -> &[String] {
        &self.members
    }

    /// Connects to the next member. Without a login, the first request shows whether it is there.
    pub(crate) async fn connect(&mut self) -> Result<Client, Error> {
        let member = self.members[self.next % self.members.len()].clone();
        self.next = self.next.wrapping_add(1);
        let mut options = ConnectOptions::new()
            .with_connect_timeout(TIMEOUT)
            .with_keep_alive(KEEPALIVE, TIMEOUT)
            .with_keep_alive_while_idle(true)
            // A member without a leader must not answer, and another may have one.
            .with_require_leader(true);
        if let Some((user, password)) = &self.login {
            options = options.with_user(user, password);
        }
        within(Client::connect([member], Some(options))).await
    }

    /// Returns the address from which this machine reaches the cluster.
    pub(crate) async fn local_address(&self) -> io::Result<IpAddr> {
        let mut last = io::Error::other("there is no member");
        for member in &self.members {
            let socket = UdpSocket::bind("[::]:0").await;
            let socket = match socket {
                Ok(socket) => socket,
                Err(_) => UdpSocket::bind("0.0.0.0:0").await?,
            };
            // This sends nothing: it only chooses a route.
            match socket.connect(member).await {
                Ok(()) => return Ok(socket.local_addr()?.ip().to_canonical()),
                Err(cause) => last = cause,
            }
        }
        Err(last)
    }
}

/// Limits the time of a request.
pub(crate) async fn within<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let in_time = time::timeout(TIMEOUT, request).await;
    in_time.unwrap_or_else(|_| Err(Error::IoError(io::ErrorKind::TimedOut.into())))
}

/// Returns the text of an error with its causes.
pub(crate) fn explain(error: &Error) -> String {
    // The text of a status contains all of it in the form for programmers.
    let (mut text, mut source) = match error {
        Error::GRpcStatus(status) => {
            (status.message().to_owned(), std::error::Error::source(status))
        }
        error => (error.to_string(), std::error::Error::source(error)),
    };
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
