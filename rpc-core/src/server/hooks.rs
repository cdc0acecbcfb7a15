//! Hooks: code of the program that sees every call of a server.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::Span;

use crate::{
    context::Context,
    error::Ran,
    handler::HandlerResult,
    peer::PeerId,
    protocol::error::{Code, WireError},
    util::panics,
};

#[cfg(feature = "curve")]
use crate::keys::PublicKey;

/// Code that a server runs around each call: to check a token, to keep an audit log, to count.
///
/// A hook is added with [`ServerBuilder::hook`](crate::ServerBuilder::hook). Several hooks run in
/// the order in which they were added, and after the function in the opposite order. A server
/// without hooks pays nothing for them.
///
/// The methods run on the thread of the function: a worker, the runtime of async functions, or for
/// inline functions the I/O thread of the server. So `before` may take as long as the function
/// itself, and no longer. A panic is caught.
///
/// Hooks see the calls that run. A reply that is remembered for an idempotency key is sent to a
/// retry without asking them. It is sent only to the same verified key, or to anybody without one if
/// the first caller had none.
///
/// Hooks are no [tower](https://docs.rs/tower) layers. A layer wraps calls into futures, and most
/// functions here run on a worker, where no future is polled. What a layer adds to a call besides
/// (a timeout, a limit, a retry) this library has itself.
///
/// ```
/// use rpc_core::{Refusal, ServedCall, Server, ServerHook};
///
/// struct Token(String);
///
/// impl ServerHook for Token {
///     fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
///         match call.context().metadata("token") {
///             Some(token) if token == self.0 => Ok(()),
///             _ => Err(Refusal::new("unauthenticated", "it has no valid token")),
///         }
///     }
/// }
///
/// let server = Server::builder().hook(Token("secret".to_owned()));
/// ```
pub trait ServerHook: Send + Sync + 'static {
    /// Runs before a function, and before its arguments are decoded.
    ///
    /// # Errors
    /// With a [`Refusal`], the function does not run, and the caller gets that as its error.
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        let _ = call;
        Ok(())
    }

    /// Runs after a function has ended in any way, if [`before`](Self::before) has let it pass. A
    /// later hook may have refused it.
    fn after(&self, call: &ServedCall<'_>, end: &CallEnd<'_>) {
        let _ = (call, end);
    }

    /// Runs when a request is refused before any hook has seen it, on the I/O thread of the server,
    /// which must not wait: there is no such function, the access list or a limit forbids the call,
    /// the request is malformed, or it was given up while it waited for a worker.
    fn refused(&self, request: &RefusedRequest<'_>) {
        let _ = request;
    }
}

impl<T: ServerHook + ?Sized> ServerHook for Arc<T> {
    fn before(&self, call: &ServedCall<'_>) -> Result<(), Refusal> {
        (**self).before(call)
    }

    fn after(&self, call: &ServedCall<'_>, end: &CallEnd<'_>) {
        (**self).after(call, end);
    }

    fn refused(&self, request: &RefusedRequest<'_>) {
        (**self).refused(request);
    }
}

/// A call, as a [`ServerHook`] sees it.
#[derive(Debug)]
pub struct ServedCall<'a> {
    pub(super) context: &'a Context,
    pub(super) size: usize,
    pub(super) is_notification: bool,
    pub(super) waited: Duration,
    pub(super) span: &'a Span,
}

impl ServedCall<'_> {
    /// Returns the context of the call, which has the function, the peer and the metadata.
    #[must_use]
    pub fn context(&self) -> &Context {
        self.context
    }

    /// Returns the length of the request, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns true if the call is a notification, whose caller gets no reply.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.is_notification
    }

    /// Returns the time from the arrival of the request to the start of its function.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Returns the span `rpc.server` of the call, which is not entered yet. It is disabled if no
    /// subscriber wants it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.span
    }
}

/// The end of a call, as a [`ServerHook`] sees it.
#[derive(Debug)]
pub struct CallEnd<'a> {
    pub(super) result: &'a HandlerResult,
    pub(super) took: Duration,
}

impl CallEnd<'_> {
    /// Returns the length of the reply, in bytes. `None` if the call has failed.
    #[must_use]
    pub fn reply_size(&self) -> Option<usize> {
        self.result.as_ref().ok().map(Bytes::len)
    }

    /// Returns the code of the error, as PROTOCOL.md lists them. `failed` is the function's own
    /// error. `None` if the call has succeeded.
    #[must_use]
    pub fn error_code(&self) -> Option<&'static str> {
        self.result.as_ref().err().map(|error| error.code.as_str())
    }

    /// Returns the text of the error. `None` if the call has succeeded.
    #[must_use]
    pub fn error_message(&self) -> Option<&str> {
        self.result.as_ref().err().map(|error| &*error.message)
    }

    /// Returns the time for which the function has run.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }
}

/// A request that was refused before any hook has seen it.
#[derive(Debug)]
pub struct RefusedRequest<'a> {
    pub(super) function: &'a str,
    pub(super) peer: &'a PeerId,
    pub(super) error: &'a WireError,
}

impl RefusedRequest<'_> {
    /// Returns the name of the function, as the peer has sent it: there may be no such function.
    /// Empty if the request could not be read.
    #[must_use]
    pub fn function(&self) -> &str {
        self.function
    }

    /// Returns the identity of the peer. See [`Context::peer`].
    #[must_use]
    pub fn peer(&self) -> &[u8] {
        self.peer.as_bytes()
    }

    /// Returns the key that the peer has proved to have. See [`Context::peer_key`].
    #[cfg(feature = "curve")]
    #[must_use]
    pub fn peer_key(&self) -> Option<PublicKey> {
        self.peer.verification().map(|verified| PublicKey::from_bytes(verified.key))
    }

    /// Returns the name that the access list gave the key. See [`Context::peer_name`].
    #[cfg(feature = "curve")]
    #[must_use]
    pub fn peer_name(&self) -> Option<&str> {
        self.peer.verification()?.name.as_deref()
    }

    /// Returns the code of the error, as PROTOCOL.md lists them.
    #[must_use]
    pub fn error_code(&self) -> &'static str {
        self.error.code.as_str()
    }

    /// Returns the text of the error.
    #[must_use]
    pub fn error_message(&self) -> &str {
        &self.error.message
    }
}

/// The reason why a [`ServerHook`] does not let a call pass.
///
/// The caller gets an error of the kind [`Remote`](crate::ErrorKind::Remote), whose
/// [`code`](crate::RpcError::code) is that of the refusal, and whose `ran` is `No`. A code that the
/// protocol has, such as `denied` or `overloaded`, gives the kind that belongs to it: a call that is
/// `overloaded` is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    code: &'static str,
    message: String,
}

impl Refusal {
    /// Makes a refusal with a code, which is a word for programs, and a message for people.
    ///
    /// # Panics
    /// Panics if the code is `failed`, which stands for the function's own error.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        assert!(code != Code::Failed.as_str(), "`failed` is the function's own error");
        Self { code, message: message.into() }
    }
}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        Self::new(Code::Other(refusal.code), Ran::No, refusal.message)
    }
}

/// The hooks of a server, in the order in which they were added.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Vec<Arc<dyn ServerHook>>);

impl Hooks {
    pub(crate) fn add(&mut self, hook: impl ServerHook) {
        self.0.push(Arc::new(hook));
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn add_first(&mut self, hook: impl ServerHook) {
        self.0.insert(0, Arc::new(hook));
    }

    /// Returns the hooks for a server. `None` if there is none.
    pub(crate) fn into_shared(self) -> Option<Arc<Self>> {
        (!self.0.is_empty()).then(|| Arc::new(self))
    }

    /// Runs the hooks before a function. `passed` counts those that let the call pass.
    ///
    /// # Errors
    /// Returns the error of the caller if a hook refuses the call, or panics.
    pub(super) fn before(
        &self,
        call: &ServedCall<'_>,
        passed: &mut usize,
    ) -> Result<(), WireError> {
        for hook in &self.0 {
            panics::catch(|| hook.before(call)).map_err(|text| panicked(&text))??;
            *passed += 1;
        }
        Ok(())
    }

    /// Runs the hooks after a function that `passed` of them let pass, the last one first.
    pub(super) fn after(&self, call: &ServedCall<'_>, end: &CallEnd<'_>, passed: usize) {
        for hook in self.0.iter().take(passed).rev() {
            let _ = panics::catch(|| hook.after(call, end)).map_err(|text| panicked(&text));
        }
    }

    pub(super) fn refused(&self, request: &RefusedRequest<'_>) {
        for hook in &self.0 {
            let _ = panics::catch(|| hook.refused(request)).map_err(|text| panicked(&text));
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hooks", self.0.len())
    }
}

fn panicked(text: &str) -> WireError {
    tracing::error!(panic = text, "a hook of the server panicked");
    WireError::new(Code::Panicked, Ran::No, format!("a hook of the server panicked: {text}"))
}
