//! The answer to `rpc.discover`: a description of the service and of its functions.

use serde::{Deserialize, Serialize};

use crate::function::Signature;

/// The description of a server, as [`Client::discover`](crate::Client::discover) returns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceDescription {
    /// The version of the wire protocol.
    pub protocol: u32,
    /// The random name of this run of the server. A different name means that the server was
    /// restarted.
    pub instance: String,
    /// The longest message that the server accepts and sends, in bytes.
    pub max_message_size: usize,
    /// The functions that the server serves, sorted by name.
    pub functions: Vec<FunctionDescription>,
}

/// The description of a function that a server serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FunctionDescription {
    /// The name on the wire.
    pub name: String,
    /// The doc comment, its lines joined by `\n`. Empty if there is none.
    pub doc: String,
    /// The parameters that callers pass, in order.
    pub params: Vec<ParamDescription>,
    /// The Rust type of the result, as it is written in the source.
    pub result: String,
    /// The path of the function's own error type. `None` if the function does not return a
    /// `Result`.
    pub error: Option<String>,
    /// The way in which the server runs the function: `pool` for
    /// [`Execution::Blocking`](crate::Execution::Blocking), `async` or `inline`.
    pub kind: String,
    /// True if a repeated call does no harm.
    pub idempotent: bool,
    /// The time that a request without a timeout may take, in milliseconds. `None` if it is
    /// unlimited.
    pub timeout_ms: Option<u64>,
    /// A hash of the name, of the parameters with their order and types, of the result and of the
    /// error, as 16 hexadecimal digits. Types that are written differently and are the same on the
    /// wire, such as `&str` and `String`, are the same here. Empty if the server does not state it.
    #[serde(default)]
    pub fingerprint: String,
}

/// The description of a parameter that callers pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ParamDescription {
    /// The name of the parameter, for calls by name.
    pub name: String,
    /// The Rust type of the parameter, as it is written in the source.
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
            fingerprint: String::new(),
        }
    }
}
