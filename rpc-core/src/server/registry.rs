//! The registry: an immutable map from name to function. It is made from the entries that were
//! collected at link time, and checks them.

use std::{
    any::TypeId,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    error::Ran,
    function::Signature,
    handler::{Declared, Entry, Function, SharedState, StateType},
    protocol::error::{Code, WireError},
    server::error::{MissingState, ServeError},
    util::cut::cut_name,
};

/// The state values of a server, by the type in the `#[state]` parameters.
pub(crate) type States = HashMap<TypeId, SharedState>;

/// The functions that a server offers. Immutable.
#[derive(Debug)]
pub(crate) struct Registry {
    functions: foldhash::HashMap<&'static str, Arc<Function>>,
}

impl Registry {
    /// Iterates over every function that is linked into this program.
    pub(crate) fn linked() -> impl Iterator<Item = &'static Entry> {
        inventory::iter::<&'static Entry>.into_iter().copied()
    }

    /// Makes a registry of `entries`, and checks that names are unique and that every state is
    /// present.
    ///
    /// # Errors
    /// Returns `DuplicateFunction`, `MissingState` or `NoFunctions`.
    pub(crate) fn new(
        entries: impl IntoIterator<Item = &'static Entry>,
        states: &States,
    ) -> Result<Self, ServeError> {
        let mut functions = foldhash::HashMap::<_, Arc<Function>>::default();
        let mut missing = BTreeMap::<_, BTreeSet<_>>::new();
        for entry in entries {
            let name = entry.signature.name;
            let resolved = resolve(entry, states, |state, arc_given| {
                missing.entry((state, arc_given)).or_default().insert(name);
            });
            let function = Arc::new(Function { entry, states: resolved });
            if let Some(other) = functions.insert(name, function) {
                // The user may choose the same function twice, or link it twice.
                if !other.entry.is_same(entry) {
                    return Err(duplicate(other.entry, entry));
                }
            }
        }
        if functions.is_empty() {
            return Err(ServeError::NoFunctions);
        }
        if !missing.is_empty() {
            let missing = missing.into_iter().map(|((state, arc_given), functions)| MissingState {
                state,
                arc_given,
                functions: functions.into_iter().collect(),
            });
            return Err(ServeError::MissingState { missing: missing.collect() });
        }
        Ok(Self { functions })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name)
    }

    /// Returns all signatures, sorted by name.
    pub(crate) fn signatures(&self) -> Vec<&'static Signature> {
        let mut signatures: Vec<_> =
            self.functions.values().map(|function| function.signature()).collect();
        signatures.sort_unstable_by_key(|signature| signature.name);
        signatures
    }

    /// Returns the longest time that a function states for its calls.
    pub(crate) fn longest_call(&self) -> Duration {
        self.signatures().iter().filter_map(|signature| signature.timeout).max().unwrap_or_default()
    }

    /// Returns up to three function names that are similar to `name`, the most similar first.
    pub(crate) fn nearest(&self, name: &str, may_know: impl Fn(&str) -> bool) -> Vec<&'static str> {
        // The comparison takes quadratic time in the lengths, and the name comes from an untrusted
        // peer.
        let name = cut_name(name);
        let mut scored: Vec<_> = self
            .functions
            .keys()
            .map(|known| (strsim::jaro_winkler(name, known), *known))
            .filter(|(score, known)| *score > 0.75 && may_know(known))
            .collect();
        scored.sort_by(|(a, a_name), (b, b_name)| b.total_cmp(a).then(a_name.cmp(b_name)));
        scored.into_iter().take(3).map(|(_, known)| known).collect()
    }

    /// Makes the error for a name that no function has. It says why the function is missing, as far
    /// as that is known, and offers the nearest names, of those that the caller `may_know`.
    pub(crate) fn not_found(&self, name: &str, may_know: impl Fn(&str) -> bool) -> WireError {
        // The name comes from an untrusted peer. It is truncated, so that the response stays small.
        let shown = cut_name(name);
        let near = self.nearest(name, may_know);
        let reason = if Self::linked().any(|entry| entry.signature.name == name) {
            "it is linked into the server, which serves only what its builder chooses with \
             `.serve::<function>()`"
                .to_owned()
        } else if let Some(Declared { file, line, .. }) =
            inventory::iter::<Declared>.into_iter().find(|declared| declared.signature.name == name)
        {
            // A peer is told of no source file.
            tracing::debug!(function = shown, declared = %format_args!("{file}:{line}"));
            "the server's program has only its declaration: link the crate that implements it with \
             `use that_crate as _;`"
                .to_owned()
        } else if near.is_empty() {
            "`rpc.discover` lists what the server has; a crate that its program only depends on is \
             not linked without `use that_crate as _;`"
                .to_owned()
        } else {
            format!("did you mean `{}`?", near.join("` or `"))
        };
        let text = format!("there is no function `{shown}`; {reason}");
        WireError::new(Code::UnknownFunction, Ran::No, text)
    }
}

/// Returns the states of a function. Each one that is missing is reported to `missing`, with true
/// if the server was given an `Arc` of it.
fn resolve(
    entry: &'static Entry,
    states: &States,
    mut missing: impl FnMut(&'static str, bool),
) -> Box<[SharedState]> {
    let find = |wanted: &StateType| {
        let found = states.get(&(wanted.id)()).cloned();
        if found.is_none() {
            missing((wanted.name)(), states.contains_key(&(wanted.shared_id)()));
        }
        found
    };
    entry.states.iter().filter_map(find).collect()
}

fn duplicate(a: &'static Entry, b: &'static Entry) -> ServeError {
    // The linker decides the order of registration. The message should not depend on it.
    let (first, second) = if (a.file, a.line) <= (b.file, b.line) { (a, b) } else { (b, a) };
    ServeError::DuplicateFunction {
        name: first.signature.name.to_owned(),
        first: format!("{}:{}", first.file, first.line),
        second: format!("{}:{}", second.file, second.line),
    }
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)] // All handlers have the same signature.
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::handler::{Handler, HandlerResult, Invocation};

    static STATES: [StateType; 1] = [StateType::of::<String>()];

    fn entry(name: &'static str, line: u32, states: &'static [StateType]) -> &'static Entry {
        fn handler(_: &Invocation) -> HandlerResult {
            Ok(Bytes::new())
        }
        let signature = Box::leak(Box::new(Signature::new(name, "", &[])));
        Box::leak(Box::new(Entry::new(
            signature,
            Handler::Sync(handler),
            states,
            "src/a.rs",
            line,
            "a",
        )))
    }

    /// Makes a function that does nothing.
    pub(crate) fn function() -> Arc<Function> {
        Arc::new(Function { entry: entry("f", 1, &[]), states: Box::new([]) })
    }

    #[test]
    fn duplicate_error_names_both_locations() {
        let (first, second) = (entry("f", 1, &[]), entry("f", 2, &[]));
        let error = Registry::new([second, entry("g", 3, &[]), first], &States::new()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("two functions are named `f`: src/a.rs:1 and src/a.rs:2;"),
            "{text}"
        );
    }

    #[test]
    fn same_function_may_be_chosen_or_linked_twice() {
        let f = entry("f", 1, &[]);
        for again in [f, entry("f", 1, &[])] {
            let registry = Registry::new([f, again], &States::new()).unwrap();
            assert_eq!(registry.signatures().len(), 1);
        }
        // A macro can make two functions at one place, in different modules.
        let elsewhere = Entry::new(f.signature, f.handler, &[], f.file, f.line, "b");
        Registry::new([f, Box::leak(Box::new(elsewhere))], &States::new()).unwrap_err();
    }

    #[test]
    fn every_missing_state_is_named_with_its_functions() {
        static MORE: [StateType; 2] = [StateType::of::<String>(), StateType::of::<u8>()];
        let entries = [entry("g", 2, &MORE), entry("f", 1, &STATES), entry("h", 3, &[])];
        let error = Registry::new(entries, &States::new()).unwrap_err();
        assert!(matches!(&error, ServeError::MissingState { missing } if missing.len() == 2));
        let text = error.to_string();
        let expected = "state of type `alloc::string::String` is missing, which `f`, `g` need; \
                        state of type `u8` is missing, which `g` needs; give it to the builder";
        assert!(text.starts_with(expected), "{text}");

        let arc: SharedState = Arc::new(Arc::new(Arc::new("given".to_owned())));
        let states = States::from([(TypeId::of::<Arc<String>>(), arc)]);
        let error = Registry::new([entry("f", 1, &STATES)], &states).unwrap_err().to_string();
        assert!(error.contains("needs (an `Arc` of it was given"), "{error}");

        let state: SharedState = Arc::new(Arc::new("given".to_owned()));
        let states = States::from([(TypeId::of::<String>(), state)]);
        let registry = Registry::new([entry("f", 1, &STATES)], &states).unwrap();
        let found = registry.find("f").unwrap();
        assert_eq!(**found.states[0].downcast_ref::<Arc<String>>().unwrap(), "given");
    }

    #[test]
    fn empty_registry_is_an_error() {
        assert!(matches!(Registry::new([], &States::new()), Err(ServeError::NoFunctions)));
    }

    #[test]
    fn similar_names_are_found() {
        let names = ["count_words", "count_lines", "divide", "echo"];
        let registry =
            Registry::new(names.map(|name| entry(name, 1, &[])), &States::new()).unwrap();
        assert_eq!(registry.nearest("count_word", |_| true)[0], "count_words");
        assert_eq!(registry.nearest("devide", |_| true), ["divide"]);
        assert_eq!(registry.nearest("zzz", |_| true), Vec::<&str>::new());
        registry.nearest(&"x".repeat(1_000_000), |_| true);
    }
}
