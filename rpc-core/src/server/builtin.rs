//! The functions that every server has, under reserved names.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    args::EncodedArgs,
    codec,
    discover::{FunctionDescription, ServiceDescription},
    error::{Code, Ran, WireError},
    message::{self, Head, MsgId, PROTOCOL_VERSION},
    server::{dispatch::Service, greeted::Client},
};

/// Introduces a client; see `PROTOCOL.md`.
pub(crate) const HELLO: &str = "rpc.hello";

#[derive(Serialize)]
struct Hello<'a> {
    protocol: u32,
    instance: &'a str,
    max_message_size: usize,
    batches: bool,
}

/// The encoded result of the function `method`. `None` if there is no such function.
pub(crate) fn answer(
    service: &Service,
    method: &str,
    params: &[u8],
) -> Option<Result<Vec<u8>, WireError>> {
    let takes = match method {
        HELLO => 1,
        "rpc.ping" | "rpc.discover" => 0,
        _ => return None,
    };
    if let Err(error) = check_params(params, takes) {
        return Some(Err(error));
    }
    let result = match method {
        HELLO => codec::to_vec(&Hello {
            protocol: PROTOCOL_VERSION,
            instance: &service.instance,
            max_message_size: service.max_message_size,
            batches: true,
        }),
        "rpc.discover" => codec::to_vec(&describe(service)),
        _ => codec::to_vec(&()),
    };
    Some(result.map_err(|error| WireError::new(Code::Failed, Ran::Yes, error.to_string())))
}

/// What the arguments are does not matter: later versions may say more in them.
fn check_params(params: &[u8], takes: usize) -> Result<(), WireError> {
    let bad = |text: String| WireError::new(Code::BadArguments, Ran::No, text);
    match message::count_params(params) {
        Some(given) if given <= takes => Ok(()),
        Some(given) => Err(bad(format!("the function takes {takes} arguments, and {given} came"))),
        None => Err(bad("the params are malformed".to_owned())),
    }
}

fn describe(service: &Service) -> ServiceDescription {
    let functions =
        service.registry.signatures().into_iter().map(FunctionDescription::from).collect();
    ServiceDescription {
        protocol: PROTOCOL_VERSION,
        instance: service.instance.clone(),
        max_message_size: service.max_message_size,
        functions,
    }
}

/// What the params of [`HELLO`] say, as far as this version understands them.
pub(crate) fn greeting(params: &[u8]) -> Client {
    codec::from_slice::<(Client,)>(params).map(|(client,)| client).unwrap_or_default()
}

/// The msgid in the params of `rpc.cancel`. `None` if they are malformed: a notification is not
/// answered.
pub(crate) fn cancelled_id(params: &[u8]) -> Option<MsgId> {
    codec::from_slice::<(u32,)>(params).ok().map(|(id,)| MsgId(id))
}

/// The notification that tells clients to go elsewhere.
pub(crate) fn goodbye() -> Bytes {
    EncodedArgs::dynamic("rpc.goodbye".to_owned(), &()).into_message(Head::Notification)
}
