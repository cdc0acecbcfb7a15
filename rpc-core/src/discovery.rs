//! Sources of endpoints: a client that is given a name instead of addresses learns from one of them
//! which servers there are, and again whenever that changes.

#[cfg(feature = "dns")]
pub(crate) mod dns;
pub(crate) mod file;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use futures_core::Stream;
use futures_util::stream;
use tokio::time::{self, Instant};

use crate::util::panics;

/// The shortest interval at which a source is asked. One that never waits leaves time to others on
/// the same thread.
const INTERVAL: Duration = Duration::from_millis(10);

/// The error of a [`Discovery`], for logs and for [`SourceStatus`](crate::SourceStatus).
pub type DiscoveryError = Box<dyn std::error::Error + Send + Sync>;

/// A source of a client's endpoints, such as a name service. Pass it to
/// [`ClientBuilder::connect_via`](crate::ClientBuilder::connect_via).
///
/// `file:///path` and `dns://name:port` are sources that a client has already, and the package
/// `rpc-etcd` has another. The client connects to each endpoint that the last list names:
///
/// - An endpoint that is new in a list gets calls as soon as its server has answered.
/// - An endpoint that is missing gets no more calls. Those that were sent to it are still answered.
/// - An error, or a list without any endpoint, changes nothing: a source that is away takes no
///   server away. [`Client::status`](crate::Client::status) tells it.
/// - Texts that are no endpoints are left out. Of more than 256 endpoints, the client keeps to 256
///   that it chooses at random, and that stay the same from list to list.
///
/// ```
/// use rpc_core::{Client, Discovery, DiscoveryError};
///
/// /// Reads the endpoint from the environment, once.
/// struct FromEnvironment {
///     was_read: bool,
/// }
///
/// impl Discovery for FromEnvironment {
///     fn name(&self) -> String {
///         "environment".to_owned()
///     }
///
///     async fn next(&mut self) -> Result<Vec<String>, DiscoveryError> {
///         if self.was_read {
///             // It never changes.
///             return std::future::pending().await;
///         }
///         self.was_read = true;
///         Ok(vec![std::env::var("WORDS_ENDPOINT")?])
///     }
/// }
///
/// # async fn example() -> Result<(), rpc_core::RpcError> {
/// let source = FromEnvironment { was_read: false };
/// let client = Client::builder().connect_via(source).await?;
/// # Ok(())
/// # }
/// ```
pub trait Discovery: Send + 'static {
    /// Returns the name of the source for errors, logs and
    /// [`SourceStatus`](crate::SourceStatus), without passwords.
    fn name(&self) -> String;

    /// Waits until the endpoints are known or may have changed, and returns all of them, in any
    /// order.
    ///
    /// The client calls this again and again, also after an error, and does nothing if the list is
    /// the same as before. An implementation makes its own pause before it looks again, such as
    /// `tokio::time::sleep`, and never returns if nothing changes any more. It is asked a hundred
    /// times a second at most.
    ///
    /// It runs on the client's I/O thread, which has a tokio runtime, and must not block.
    ///
    /// # Cancellation
    /// The future is dropped only when the client closes.
    ///
    /// # Panics
    /// A panic is reported like an error, and the source is not asked again.
    fn next(&mut self) -> impl Future<Output = Result<Vec<String>, DiscoveryError>> + Send;
}

/// A [`Discovery`] without its type.
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) lists: Pin<Box<dyn Stream<Item = List> + Send>>,
}

/// The endpoints that a source names, sorted, or the reason why it does not.
pub(crate) type List = Result<Vec<String>, String>;

impl Source {
    /// Asks `discovery` again and again, and yields what differs from its last list.
    pub(crate) fn new(discovery: impl Discovery) -> Self {
        let name = discovery.name();
        let asked = Asked { discovery, known: None, next_at: Instant::now() };
        let lists = stream::unfold(Some(asked), |asked| async move {
            let mut asked = asked?;
            match asked.next_list().await {
                Ok(list) => Some((list, Some(asked))),
                Err(panic) => Some((Err(format!("it has panicked: {panic}")), None)),
            }
        });
        Self { name, lists: Box::pin(lists) }
    }
}

/// A [`Discovery`] that is asked again and again.
struct Asked<D> {
    discovery: D,
    /// The last list.
    known: Option<List>,
    next_at: Instant,
}

impl<D: Discovery> Asked<D> {
    /// Returns the next list that differs from the last one.
    ///
    /// # Errors
    /// Returns the text of the panic if the source panics.
    async fn next_list(&mut self) -> Result<List, String> {
        loop {
            time::sleep_until(self.next_at).await;
            self.next_at = Instant::now() + INTERVAL;
            let list = panics::catch_async(async { self.discovery.next().await }).await;
            let list = sorted(list?);
            if self.known.as_ref() != Some(&list) {
                self.known = Some(list.clone());
                return Ok(list);
            }
        }
    }
}

fn sorted(list: Result<Vec<String>, DiscoveryError>) -> List {
    let mut endpoints = list.map_err(|error| error.to_string())?;
    endpoints.sort_unstable();
    endpoints.dedup();
    Ok(endpoints)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}
