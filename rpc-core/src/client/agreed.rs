//! The functions whose parameters are known to agree with those of a server. No I/O.
//!
//! Arguments travel by position. If the caller's declaration has the same parameters in another
//! order, they may be taken for one another without an error. So the first calls of a function on
//! a link state the names of the parameters, until the server has answered one of them well.

use foldhash::HashSet;

use crate::function::Signature;

/// The functions of one link that agree. There are no more than the program has.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    /// The function that was called last, because it is often called again.
    last: usize,
    all: HashSet<usize>,
}

impl Agreed {
    /// Returns true if nothing is to be compared any more.
    pub(crate) fn contains(&mut self, signature: &'static Signature) -> bool {
        let key = key(signature);
        if key == self.last {
            return true;
        }
        let contains = signature.params.is_empty() || self.all.contains(&key);
        if contains {
            self.last = key;
        }
        contains
    }

    pub(crate) fn insert(&mut self, signature: &'static Signature) {
        self.all.insert(key(signature));
    }
}

/// Identifies a function by the place of its signature.
fn key(signature: &'static Signature) -> usize {
    std::ptr::from_ref(signature).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Param;

    #[test]
    fn function_agrees_once_it_was_answered() {
        static PARAMS: [Param; 1] = [Param::new("a", "u8")];
        static ONE: Signature = Signature::new("one", "", &PARAMS);
        static OTHER: Signature = Signature::new("other", "", &PARAMS);
        static NONE: Signature = Signature::new("none", "", &[]);
        let mut agreed = Agreed::default();
        assert!(!agreed.contains(&ONE));
        agreed.insert(&ONE);
        for _ in 0..2 {
            assert!(agreed.contains(&ONE));
            assert!(!agreed.contains(&OTHER));
            assert!(agreed.contains(&NONE), "it has no parameters");
        }
    }
}
