//! The built-in functions, which every server has under reserved names.

use crate::{
    codec,
    discover::{FunctionDescription, ServiceDescription},
    error::Ran,
    fingerprint,
    peer::PeerId,
    protocol::{
        PROTOCOL_VERSION,
        control::{self, Window},
        error::{Code, WireError},
        msgpack,
    },
    server::service::Service,
};

/// Runs the built-in function `method` for a peer, and returns its encoded result. Returns `None` if
/// there is no such function. `window` is for the answer to a hello.
pub(crate) fn call(
    service: &Service,
    peer: &PeerId,
    method: &str,
    params: &[u8],
    window: Option<Window>,
) -> Option<Result<Vec<u8>, WireError>> {
    let takes = match method {
        control::HELLO => 1,
        control::PING | control::DISCOVER => 0,
        _ => return None,
    };
    if let Err(error) = check_params(params, takes) {
        return Some(Err(error));
    }
    let result = match method {
        control::HELLO => {
            control::server_hello(&service.instance, service.max_message_size, window)
        }
        control::DISCOVER => codec::to_vec(&describe(service, peer)),
        _ => codec::to_vec(&()),
    };
    Some(result.map_err(|error| WireError::new(Code::Failed, Ran::Yes, error.to_string())))
}

/// Checks the number of arguments and nothing else: later protocol versions may extend their
/// content.
fn check_params(params: &[u8], takes: usize) -> Result<(), WireError> {
    let bad = |text: String| WireError::new(Code::BadArguments, Ran::No, text);
    match msgpack::count_params(params) {
        Some(given) if given <= takes => Ok(()),
        Some(given) => Err(bad(format!("the function takes {takes} arguments, and {given} came"))),
        None => Err(bad("the params are malformed".to_owned())),
    }
}

fn describe(service: &Service, peer: &PeerId) -> ServiceDescription {
    let signatures = service.registry.signatures();
    let describe = |signature| {
        let description = FunctionDescription::from(signature);
        FunctionDescription { fingerprint: fingerprint::of(&description), ..description }
    };
    let shown = signatures.into_iter().filter(|it| service.gate.permits(peer, it.name));
    let functions = shown.map(describe).collect();
    ServiceDescription {
        protocol: PROTOCOL_VERSION,
        instance: service.instance.clone(),
        max_message_size: service.max_message_size,
        functions,
    }
}
