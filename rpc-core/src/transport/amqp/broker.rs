//! A connection to a broker, with one channel.

use std::{
    error::Error as StdError,
    net::{Shutdown, TcpStream as StdStream},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_compat::CompatExt;
use futures_util::{StreamExt, stream::BoxStream};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    runtime::default_runtime,
    tcp::{AsyncTcpStream, TLSConfig},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::{net::TcpStream, runtime::Handle, time};

use super::short;
use crate::{
    endpoint::{Host, amqp::AmqpAddress},
    transport::{TransportError, race, resolve},
};

/// The largest frame, in bytes. lapin allocates 64 of them for a connection.
const FRAME_MAX: u32 = 16 * 1024;
/// The time for closing a connection in good order.
const CLOSING: Duration = Duration::from_secs(1);

/// The largest message that RabbitMQ takes by default, in bytes. A larger one ends the channel.
pub(super) const MAX_MESSAGE: usize = 128 * 1024 * 1024;

/// A connection to a broker, whose channel confirms what is published. Dropping it closes the
/// connection.
pub(super) struct Broker {
    pub(super) channel: Arc<Channel>,
    connection: Option<Connection>,
    socket: Option<Socket>,
    address: AmqpAddress,
}

impl Broker {
    /// Connects to a broker. Fails at the latest at `by`.
    pub(super) async fn open(address: &AmqpAddress, by: Instant) -> Result<Self, TransportError> {
        let stream = time::timeout_at(by.into(), connect_tcp(address, by))
            .await
            .map_err(|_| "it did not accept the connection in time")??;
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let socket = Socket(stream.try_clone()?);
        let opened = time::timeout_at(by.into(), open(address, TcpStream::from_std(stream)?)).await;
        // If this is given up, dropping the socket ends the thread of lapin.
        let (connection, channel) = opened
            .map_err(|_| "it accepted the connection, but is no AMQP broker, or is busy")??;
        Ok(Self {
            channel: Arc::new(channel),
            connection: Some(connection),
            socket: Some(socket),
            address: address.clone(),
        })
    }

    /// Returns the events of the connection.
    pub(super) fn events(&self) -> BoxStream<'static, lapin::Event> {
        self.connection.as_ref().expect("it is open").events_listener().boxed()
    }

    /// Declares a queue. Returns its name, which the broker chooses if `name` is empty.
    pub(super) async fn declare(
        &self,
        name: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> Result<String, TransportError> {
        let declared = self.channel.queue_declare(short(name), options, arguments);
        let queue = declared.await.map_err(|error| self.explain(error))?;
        Ok(queue.name().to_string())
    }

    /// Begins to consume a queue.
    pub(super) async fn consume(
        &self,
        queue: &str,
        options: BasicConsumeOptions,
    ) -> Result<Consumer, TransportError> {
        let consumed =
            self.channel.basic_consume(short(queue), short(""), options, FieldTable::default());
        consumed.await.map_err(|error| self.explain(error))
    }

    /// Says what an error means, and what can be done.
    pub(super) fn explain(&self, error: lapin::Error) -> TransportError {
        explain(&self.address, error)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let socket = self.socket.take();
        if let (Ok(runtime), Some(connection)) = (Handle::try_current(), connection) {
            runtime.spawn(async move {
                // The socket is shut down after that, whatever came of it.
                let _ = time::timeout(CLOSING, connection.close(200, short("bye"))).await;
                drop(socket);
            });
        }
    }
}

/// A second handle of a socket, which shuts the connection down when it is dropped.
struct Socket(StdStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // An error means that it is closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

async fn connect_tcp(address: &AmqpAddress, by: Instant) -> Result<TcpStream, TransportError> {
    let host = match address.host.parse() {
        Ok(ip) => Host::Address(ip),
        Err(_) => Host::Name(address.host.clone()),
    };
    let addresses = resolve::addresses(&host, address.port).await?;
    let left = by.saturating_duration_since(Instant::now());
    let head_start = race::head_start(addresses.len(), left);
    race::first(
        &addresses,
        head_start,
        |address| async move { Ok(TcpStream::connect(address).await?) },
    )
    .await
}

/// Logs in on a connection that was made.
async fn open(
    address: &AmqpAddress,
    stream: TcpStream,
) -> Result<(Connection, Channel), TransportError> {
    let explain = |error| explain(address, error);
    let stream = Mutex::new(Some(stream));
    let certificates = address.ca.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the certificates in {}: {error}", path.display()))
    });
    let certificates = certificates.transpose()?;
    let tls = address.tls.then_some(certificates);
    let connector = async move |uri: AMQPUri, _| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        // lapin would connect a second time if it were told to retry.
        let stream = stream.ok_or_else(|| std::io::Error::other("the connection was lost"))?;
        let stream = AsyncTcpStream::Plain(stream.compat());
        let Some(certificates) = &tls else { return Ok(stream) };
        let config = TLSConfig { identity: None, cert_chain: certificates.as_deref() };
        Ok(stream.into_tls(&uri.authority.host, config).await?)
    };
    let name = format!("rpc-core, queue {}", address.queue);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = default_runtime().map_err(explain)?;
    let connection = Connection::connector(uri(address), runtime, connector, properties);
    let connection = connection.await.map_err(explain)?;
    let channel = connection.create_channel().await.map_err(explain)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(explain)?;
    Ok((connection, channel))
}

fn uri(address: &AmqpAddress) -> AMQPUri {
    AMQPUri {
        scheme: if address.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: address.user.clone(),
                password: address.password.0.clone(),
            },
            host: address.host.clone(),
            port: address.port,
        },
        vhost: address.vhost.clone(),
        query: AMQPQueryString {
            frame_max: Some(FRAME_MAX),
            heartbeat: Some(address.heartbeat),
            ..AMQPQueryString::default()
        },
    }
}

fn explain(address: &AmqpAddress, error: lapin::Error) -> TransportError {
    let AmqpAddress { user, vhost, queue, .. } = address;
    let ErrorKind::ProtocolError(protocol) = error.kind() else {
        return match StdError::source(&error) {
            Some(source) => source.to_string().into(),
            None => error.into(),
        };
    };
    let hint = match protocol.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
            if protocol.get_message().as_str().contains("Login") =>
        {
            format!("the broker refuses the user `{user}`: check the password")
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            format!("the user `{user}` may not do this: check its permissions")
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
            format!("the broker has no vhost `{vhost}`, or `{user}` may not use it")
        }
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => {
            format!("there is no queue `{queue}`: a server makes it when it binds")
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => format!(
            "the queue `{queue}` exists with other options: delete it, or write the options that \
             it has"
        ),
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => {
            format!("the queue `{queue}` belongs to another connection")
        }
        _ => return error.into(),
    };
    format!("{hint} ({})", protocol.get_message()).into()
}

/// Publishes a body to a queue, and waits until the broker has confirmed it.
pub(super) async fn publish(
    channel: &Channel,
    queue: &str,
    body: &[u8],
    options: BasicPublishOptions,
    properties: BasicProperties,
) -> Result<lapin::Confirmation, lapin::Error> {
    channel.basic_publish(short(""), short(queue), options, body, properties).await?.await
}
