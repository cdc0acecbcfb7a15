//! The setters for metadata: small pairs that travel with a call.

use crate::{
    client::{Call, ClientBuilder, Map, Notify, Streaming},
    context::Context,
    function::{RemoteFn, RemoteStream},
    protocol::metadata::Value,
};

/// Implements the setters. `$metadata` is where they are stored.
macro_rules! metadata {
    ($($(#[$attr:meta])* ($($generics:tt)*) $ty:ty: $what:literal, |$self:ident| $metadata:expr;)*) => {$(
        impl $($generics)* $ty {
            #[doc = concat!("Sends a text with ", $what, ", in place of an earlier one of the same")]
            /// name. The function, and the hooks around it, read it with [`Context::metadata`].
            ///
            /// This is for what does not belong to the arguments of a function: a token, a tenant,
            /// the id of a request. It is not handed on to the calls that the function makes, unless
            /// they say so with [`Call::forward_metadata`]. A server of plain MessagePack-RPC gets
            /// none.
            ///
            /// A call has at most 32 pairs, whose names and values have at most 4,096 bytes
            /// together. With more, it ends as
            /// [`BadArguments`](crate::ErrorKind::BadArguments), and nothing is sent.
            $(#[$attr])*
            pub fn metadata(mut $self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
                $metadata.set(name.as_ref(), Value::Text(value.as_ref()));
                $self
            }

            #[doc = concat!("Sends bytes with ", $what, ". See [`metadata`](Self::metadata).")]
            $(#[$attr])*
            pub fn metadata_bytes(
                mut $self,
                name: impl AsRef<str>,
                value: impl AsRef<[u8]>,
            ) -> Self {
                $metadata.set(name.as_ref(), Value::Bytes(value.as_ref()));
                $self
            }
        }
    )*};
}

/// Implements the forwarding of metadata, for calls that a function makes.
macro_rules! forward {
    ($(($($generics:tt)*) $ty:ty, |$self:ident| $metadata:expr;)*) => {$(
        impl $($generics)* $ty {
            /// Sends on what the caller of a function has sent under these names, if it has.
            ///
            /// ```
            /// # use rpc_core::{Client, Context, RpcError, remote};
            /// # #[remote(idempotent)]
            /// # fn price(item: u32) -> u64;
            /// async fn price_for_caller(cx: &Context, prices: &Client) -> Result<u64, RpcError> {
            ///     price::call(prices, 7).forward_metadata(cx, ["tenant", "request-id"]).await
            /// }
            /// ```
            pub fn forward_metadata<N: AsRef<str>>(
                mut $self,
                context: &Context,
                names: impl IntoIterator<Item = N>,
            ) -> Self {
                for name in names {
                    if let Some(value) = context.value(name.as_ref()) {
                        $metadata.set(name.as_ref(), value);
                    }
                }
                $self
            }
        }
    )*};
}

metadata! {
    (<F: RemoteFn>) Call<F>: "the call", |self| self.raw.options.extras().metadata;
    (<F: RemoteFn, I: Iterator>) Map<F, I>: "each call", |self| self.options.extras().metadata;
    (<F: RemoteStream>) Streaming<F>: "the call", |self| self.raw.options.extras().metadata;
    () Notify: "the notification", |self| self.raw.options.extras().metadata;
    #[must_use]
    () ClientBuilder: "all calls and notifications", |self| self.config.metadata;
}

forward! {
    (<F: RemoteFn>) Call<F>, |self| self.raw.options.extras().metadata;
    (<F: RemoteFn, I: Iterator>) Map<F, I>, |self| self.options.extras().metadata;
    (<F: RemoteStream>) Streaming<F>, |self| self.raw.options.extras().metadata;
    () Notify, |self| self.raw.options.extras().metadata;
}
