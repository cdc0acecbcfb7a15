//! The registry: an immutable map from name to function. It is made from the entries that were
//! collected at link time, and checks them.

use std::{any::TypeId, collections::HashMap, sync::Arc};

use crate::{
    error::Ran,
    function::Signature,
    handler::{Entry, Function, SharedState, StateType},
    protocol::error::{Code, WireError},
    server::error::ServeError,
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
        for entry in entries {
            let name = entry.signature.name;
            let function = Arc::new(Function { entry, states: resolve(entry, states)? });
            if let Some(other) = functions.insert(name, function) {
                // The user may choose the same function twice.
                if !std::ptr::eq(other.entry, entry) {
                    return Err(duplicate(other.entry, entry));
                }
            }
        }
        if functions.is_empty() {
            return Err(ServeError::NoFunctions);
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

    /// Returns up to three function names that are similar to `name`, the most similar first.
    pub(crate) fn nearest(&self, name: &str) -> Vec<&'static str> {
        // The comparison takes quadratic time in the lengths, and the name comes from an untrusted
        // peer.
        let name: String = name.chars().take(64).collect();
        let mut scored: Vec<_> = self
            .functions
            .keys()
            .map(|known| (strsim::jaro_winkler(&name, known), *known))
            .filter(|(score, _)| *score > 0.75)
            .collect();
        scored.sort_by(|(a, a_name), (b, b_name)| b.total_cmp(a).then(a_name.cmp(b_name)));
        scored.into_iter().take(3).map(|(_, known)| known).collect()
    }

    /// Makes the error for a name that no function has. It offers the nearest names.
    pub(crate) fn not_found(&self, name: &str) -> WireError {
        let nearest = self.nearest(name);
        // The name comes from an untrusted peer. It is truncated, so that the response stays small.
        let shown: String = name.chars().take(64).collect();
        let text = match nearest.as_slice() {
            [] => format!("there is no function `{shown}`"),
            near => {
                format!("there is no function `{shown}`; did you mean `{}`?", near.join("` or `"))
            }
        };
        WireError::new(Code::UnknownFunction, Ran::No, text)
    }
}

fn resolve(entry: &'static Entry, states: &States) -> Result<Box<[SharedState]>, ServeError> {
    let find = |wanted: &StateType| {
        states.get(&(wanted.id)()).cloned().ok_or_else(|| ServeError::MissingState {
            function: entry.signature.name.to_owned(),
            state: (wanted.name)(),
        })
    };
    entry.states.iter().map(find).collect()
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
        Box::leak(Box::new(Entry::new(signature, Handler::Sync(handler), states, "src/a.rs", line)))
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
    fn same_function_may_be_chosen_twice() {
        let f = entry("f", 1, &[]);
        let registry = Registry::new([f, f], &States::new()).unwrap();
        assert_eq!(registry.signatures().len(), 1);
    }

    #[test]
    fn missing_state_error_names_function_and_type() {
        let error = Registry::new([entry("f", 1, &STATES)], &States::new()).unwrap_err();
        assert!(matches!(error, ServeError::MissingState { .. }));
        assert!(
            error.to_string().contains("`f`") && error.to_string().contains("String"),
            "{error}"
        );

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
        assert_eq!(registry.nearest("count_word")[0], "count_words");
        assert_eq!(registry.nearest("devide"), ["divide"]);
        assert_eq!(registry.nearest("zzz"), Vec::<&str>::new());
        registry.nearest(&"x".repeat(1_000_000));
    }
}
