//! The targets of a client: endpoints, and sources of endpoints.

use std::sync::Arc;

#[cfg(feature = "dns")]
use crate::discovery::dns::DnsDiscovery;

use crate::{
    client::endpoints::EndpointState,
    discovery::{Source, file::FileDiscovery},
    endpoint::{Endpoint, redacted, texts::Endpoints},
    error::{ErrorKind, Ran, RpcError},
};

/// The endpoints and the sources of endpoints that a client is given.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) endpoints: Vec<Arc<EndpointState>>,
    pub(super) sources: Vec<Source>,
}

impl From<Source> for Targets {
    fn from(source: Source) -> Self {
        Self { endpoints: Vec::new(), sources: vec![source] }
    }
}

impl Targets {
    /// Parses the texts that a program gives.
    pub(super) fn parse(endpoints: impl Endpoints) -> Result<Self, RpcError> {
        let texts = endpoints.into_texts();
        let invalid = |name: Arc<str>, reason: &str| {
            RpcError::new(ErrorKind::InvalidEndpoint, Ran::No, reason).at(&name)
        };
        if texts.is_empty() {
            return Err(invalid("".into(), "no endpoint was given"));
        }
        let mut targets = Self { endpoints: Vec::new(), sources: Vec::new() };
        for text in texts {
            let name = || Arc::from(redacted(&text));
            if let Some(source) = source(&text) {
                let source = source.map_err(|reason| invalid(name(), &reason))?;
                targets.sources.push(source);
            } else {
                let address = Endpoint::to_connect(&text);
                let address = address.map_err(|reason| invalid(name(), &reason))?;
                targets.endpoints.push(EndpointState::new(name(), address));
            }
        }
        Ok(targets)
    }

    /// Returns the names of all of them, for errors.
    pub(super) fn names(&self) -> String {
        let endpoints = self.endpoints.iter().map(|endpoint| &*endpoint.name);
        let sources = self.sources.iter().map(|source| source.name.as_str());
        endpoints.chain(sources).collect::<Vec<_>>().join(", ")
    }
}

/// Parses the text of a source that a client has by itself. Returns `None` for any other text. An
/// error says what to write instead.
fn source(text: &str) -> Option<Result<Source, String>> {
    let (scheme, rest) = text.split_once("://")?;
    match scheme {
        "file" => Some(FileDiscovery::parse(rest).map(Source::new)),
        #[cfg(feature = "dns")]
        "dns" => Some(DnsDiscovery::parse(rest).map(Source::new)),
        #[cfg(not(feature = "dns"))]
        "dns" => {
            Some(Err("this program is built without lookups: add the feature `dns` of rpc-core"
                .to_owned()))
        }
        _ => None,
    }
}
