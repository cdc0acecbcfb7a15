//! The policies by which a client spreads its calls over its servers.

use std::{fmt, str::FromStr};

/// The policy by which a client spreads its calls over its servers. See
/// [`ClientBuilder::balancing`](crate::ClientBuilder::balancing).
///
/// Whatever the policy, these get a call only if no other server can take it: a server that is
/// overloaded or owes the answer to a ping, one that has as many calls of this client as it takes,
/// and the one at which an earlier try of the call has failed.
///
/// A call with an [affinity key](crate::Call::affinity_key) goes where its key belongs under every
/// policy.
///
/// Each policy has a name, which [`Display`](fmt::Display) and [`FromStr`] write and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Balancing {
    /// Of two servers chosen at random, the one with fewer calls of this client in flight:
    /// `least-loaded`. It gives a slow server less, and is the default.
    #[default]
    LeastLoaded,
    /// The servers in turn: `round-robin`. Each gets as many calls as any other, however long they
    /// take.
    RoundRobin,
    /// As `LeastLoaded`, but servers on this machine before all others: `local-first`. These are
    /// the ones at `ipc://`, at `inproc://`, and at a loopback address. Others get calls only if no
    /// local one can take them.
    LocalFirst,
}

const ALL: [(Balancing, &str); 3] = [
    (Balancing::LeastLoaded, "least-loaded"),
    (Balancing::RoundRobin, "round-robin"),
    (Balancing::LocalFirst, "local-first"),
];

impl fmt::Display for Balancing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ALL.iter().filter(|(policy, _)| policy == self).try_for_each(|(_, name)| f.pad(name))
    }
}

impl FromStr for Balancing {
    type Err = UnknownBalancing;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = ALL.iter().find(|(_, known)| *known == name);
        known.map(|(policy, _)| *policy).ok_or(UnknownBalancing)
    }
}

/// The error of a text that is not the name of a [`Balancing`] policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a balancing policy is `least-loaded`, `round-robin` or `local-first`")]
#[non_exhaustive]
pub struct UnknownBalancing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (policy, _) in ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        let error = "random".parse::<Balancing>().unwrap_err();
        assert!(ALL.iter().all(|(_, name)| error.to_string().contains(name)), "{error}");
    }
}
