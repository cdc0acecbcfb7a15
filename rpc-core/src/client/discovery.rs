//! The lists of a client's sources of endpoints, and the changes that they cause. No I/O, no clock.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher,
    sync::Arc,
};

use foldhash::fast::RandomState;
use futures_core::Stream;
use futures_util::{StreamExt, stream};

use crate::{
    client::endpoints::{Change, EndpointState},
    discovery::{List, Source},
    endpoint::{Endpoint, redacted},
};

/// The maximum number of endpoints of a source that a client connects to. Each takes a connection,
/// and 256 are enough to spread the load of one client.
const MAX_ENDPOINTS: usize = 256;

/// Returns the changes that the lists of `sources` cause.
pub(crate) fn changes(sources: Vec<Source>) -> impl Stream<Item = Change> + Send {
    let mut known = Known::new(sources.iter().map(|source| source.name.as_str().into()).collect());
    let lists = sources.into_iter().enumerate();
    let lists = lists.map(|(index, source)| source.lists.map(move |list| (index, list)));
    stream::select_all(lists)
        .flat_map(move |(source, list)| stream::iter(known.handle_list(source, list)))
}

/// The endpoints that the sources of a client name.
struct Known {
    names: Vec<Arc<str>>,
    /// The last list of each source.
    lists: Vec<HashSet<String>>,
    endpoints: HashMap<String, Arc<EndpointState>>,
    /// Decides which endpoints a client keeps to if there are very many. It is a hash, so that it
    /// decides the same for the next list.
    order: RandomState,
}

impl Known {
    fn new(names: Vec<Arc<str>>) -> Self {
        let lists = vec![HashSet::new(); names.len()];
        Self { names, lists, endpoints: HashMap::new(), order: RandomState::default() }
    }

    /// Takes the next list of a source, and returns what changes.
    fn handle_list(&mut self, source: usize, list: List) -> Vec<Change> {
        let name = Arc::clone(&self.names[source]);
        let mut changes = Vec::new();
        let (texts, mut failure) = match list {
            Ok(texts) => (texts, None),
            Err(cause) => (Vec::new(), Some(cause)),
        };
        let mut addresses = HashMap::new();
        for text in texts {
            match Endpoint::to_connect(&text) {
                Ok(address) => drop(addresses.insert(text, address)),
                Err(reason) => {
                    let text: String = redacted(&text).chars().take(200).collect();
                    failure = Some(format!("it names `{text}`, which is no endpoint: {reason}"));
                }
            }
        }
        if addresses.len() > MAX_ENDPOINTS {
            let count = addresses.len();
            let reason = format!("it names {count} endpoints, of which {MAX_ENDPOINTS} are used");
            failure = Some(reason);
            let mut chosen: Vec<_> = addresses.into_iter().collect();
            chosen.sort_by_key(|(text, _)| self.order.hash_one(text));
            addresses = chosen.into_iter().take(MAX_ENDPOINTS).collect();
        }
        if addresses.is_empty() {
            failure.get_or_insert_with(|| "it names no endpoint".to_owned());
        } else {
            self.lists[source] = addresses.keys().cloned().collect();
        }
        for (text, address) in addresses {
            self.endpoints.entry(text).or_insert_with_key(|text| {
                let endpoint = EndpointState::new(redacted(text).into(), address);
                changes.push(Change::Insert(Arc::clone(&endpoint)));
                endpoint
            });
        }
        let lists = &self.lists;
        self.endpoints.retain(|text, endpoint| {
            let is_named = lists.iter().any(|list| list.contains(text));
            if !is_named {
                changes.push(Change::Remove(Arc::clone(endpoint)));
            }
            is_named
        });
        let count = self.lists[source].len();
        if let Some(failure) = &failure {
            tracing::warn!(source = %name, endpoints = count, "{failure}");
        } else {
            tracing::debug!(source = %name, endpoints = count, "its endpoints are known");
        }
        let failure = failure.map(Arc::from);
        changes.push(Change::Source { index: source, endpoints: count, failure });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tested(Known);

    impl Tested {
        fn new(sources: usize) -> Self {
            Self(Known::new((0..sources).map(|n| n.to_string().into()).collect()))
        }

        /// Returns the changes in text form, in a fixed order, and the failure of the source.
        fn list(&mut self, source: usize, list: Result<&[&str], &str>) -> (Vec<String>, String) {
            let list = list.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
            let (mut texts, mut told) = (Vec::new(), None);
            for change in self.0.handle_list(source, list.map_err(Into::into)) {
                match change {
                    Change::Insert(endpoint) => texts.push(format!("+{}", endpoint.name)),
                    Change::Remove(endpoint) => texts.push(format!("-{}", endpoint.name)),
                    Change::Source { index, failure, .. } => {
                        assert_eq!(index, source);
                        told = Some(failure.unwrap_or_default().to_string());
                    }
                }
            }
            texts.sort_unstable();
            (texts, told.unwrap())
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn endpoints_follow_the_list() {
        let mut tested = Tested::new(1);
        assert_eq!(
            tested.list(0, Ok(&["tcp://a:1", "tcp://b:1"])).0,
            texts(&["+tcp://a:1", "+tcp://b:1"])
        );
        assert_eq!(
            tested.list(0, Ok(&["tcp://b:1", "tcp://c:1", "tcp://c:1"])).0,
            texts(&["+tcp://c:1", "-tcp://a:1"])
        );
        assert_eq!(tested.list(0, Ok(&["tcp://c:1", "tcp://b:1"])), (vec![], String::new()));
    }

    #[test]
    fn errors_and_empty_lists_take_nothing_away() {
        let mut tested = Tested::new(1);
        assert_eq!(tested.list(0, Ok(&[])), (vec![], "it names no endpoint".to_owned()));
        tested.list(0, Ok(&["tcp://a:1"]));
        assert_eq!(tested.list(0, Err("it is away")), (vec![], "it is away".to_owned()));
        assert_eq!(tested.list(0, Ok(&[])).0, texts(&[]));
        let (changes, failure) = tested.list(0, Ok(&["garbage", "amqp://u:secret@", "tcp://b:1"]));
        assert_eq!(changes, texts(&["+tcp://b:1", "-tcp://a:1"]));
        assert!(failure.contains("no endpoint: ") && !failure.contains("secret"), "{failure}");
        assert_eq!(tested.list(0, Ok(&["garbage"])).0, texts(&[]), "all of it is garbage");
    }

    #[test]
    fn endpoint_of_two_sources_is_one() {
        let mut tested = Tested::new(2);
        tested.list(0, Ok(&["tcp://a:1", "tcp://b:1"]));
        assert_eq!(tested.list(1, Ok(&["tcp://a:1"])).0, texts(&[]));
        assert_eq!(tested.list(0, Ok(&["tcp://b:1"])).0, texts(&[]), "the second still has it");
        assert_eq!(tested.list(1, Ok(&["tcp://c:1"])).0, texts(&["+tcp://c:1", "-tcp://a:1"]));
    }

    #[test]
    fn of_a_thousand_endpoints_the_same_few_are_used() {
        let mut tested = Tested::new(1);
        let all: Vec<_> = (1..=1_000).map(|port| format!("tcp://a:{port}")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let (changes, failure) = tested.list(0, Ok(&all));
        assert_eq!(changes.len(), MAX_ENDPOINTS);
        assert_eq!(failure, "it names 1000 endpoints, of which 256 are used");
        assert_eq!(tested.list(0, Ok(&all)).0, texts(&[]));
        // One in four of those that leave was used, and is replaced.
        let (changes, _) = tested.list(0, Ok(&all[100..]));
        assert!(changes.len() < 150, "{}", changes.len());
    }
}
