//! What `rpc.discover` tells: the service and every function in it.

use serde::{Deserialize, Serialize};

use crate::function::Signature;

/// What a server serves, as [`Client::discover`](crate::Client::discover) gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceDescription {
    /// The version of the wire protocol.
    pub protocol: u32,
    /// A random name for the server's process: another one means that it was restarted.
    pub instance: String,
    /// The longest message that it takes and sends, in bytes.
    pub max_message_size: usize,
    /// Its functions, by name.
    pub functions: Vec<FunctionDescription>,
}

/// A function of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FunctionDescription {
    /// The name on the wire.
    pub name: String,
    /// Its doc comment.
    pub doc: String,
    /// The parameters that travel, in order.
    pub params: Vec<ParamDescription>,
    /// The Rust type of its result.
    pub result: String,
    /// The Rust type of its own error, if it has one.
    pub error: Option<String>,
    /// Where it runs: `pool`, `async` or `inline`.
    pub kind: String,
    /// Whether calling it again does no harm.
    pub idempotent: bool,
    /// How long it may take when the caller does not say, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// A parameter that travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParamDescription {
    /// Its name, for calls by name.
    pub name: String,
    /// Its Rust type.
    #[serde(rename = "type")]
    pub ty: String,
}

impl From<&Signature> for FunctionDescription {
    fn from(signature: &Signature) -> Self {
        let params = signature.params.iter();
        Self {
            name: signature.name.to_owned(),
            doc: signature.doc.to_owned(),
            params: params
                .map(|param| ParamDescription {
                    name: param.name.to_owned(),
                    ty: param.ty.to_owned(),
                })
                .collect(),
            result: signature.output.to_owned(),
            error: signature.error.map(|name| name().to_owned()),
            kind: signature.execution.to_string(),
            idempotent: signature.idempotent,
            timeout_ms: signature
                .timeout
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
