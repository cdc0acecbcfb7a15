//! Access lists: which key may call which functions.

mod accounts;
mod file;
mod limits;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use tokio::sync::watch;

use self::accounts::Accounts;
use crate::{keys::PublicKey, peer::Verified, usage::Account};

pub(crate) use self::limits::Exceeded;
pub use self::{file::AccessError, limits::KeyLimits};

/// A list of the keys that may connect to a server, and of the functions that each may call.
///
/// It is a handle: clones share one list, and a change takes effect at once in every server that has
/// the list. Rights are checked when a request arrives, before its arguments are looked at. What a
/// key may not call ends with [`Denied`](crate::ErrorKind::Denied), whether there is such a function
/// or not. The protocol's own functions need no right, except that `rpc.discover` shows only what
/// the caller may call.
///
/// Functions are given by their wire names. `*` stands for all of them, and a name that ends with
/// `*` for all that begin so: `"orders.*"`.
///
/// ```
/// use rpc_core::{Access, SecretKey};
///
/// let (alice, monitor) = (SecretKey::generate().public(), SecretKey::generate().public());
/// let access = Access::new()
///     .allow("alice", alice, ["count_words", "orders.*"])
///     .allow("monitor", monitor, ["health"]);
/// access.revoke(&alice);
/// ```
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    list: RwLock<List>,
    /// Tells servers that keys may have been removed.
    changed: watch::Sender<()>,
    accounts: Mutex<Accounts>,
}

#[derive(Debug, Clone, Default)]
struct List {
    keys: HashMap<PublicKey, Entry>,
    /// The rights of every other key. `None` if no other may connect.
    others: Option<Rights>,
    limits: HashMap<PublicKey, KeyLimits>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Arc<str>,
    rights: Rights,
}

/// The functions that may be called, by name, or by the beginning of their names with a `*`.
#[derive(Debug, Clone)]
struct Rights(Arc<[String]>);

impl Rights {
    fn new(functions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(functions.into_iter().map(Into::into).collect())
    }

    fn contain(&self, function: &str) -> bool {
        self.0.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(beginning) => function.starts_with(beginning),
            None => function == allowed,
        })
    }
}

impl List {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.others.is_none()
    }

    fn rights(&self, key: &PublicKey) -> Option<&Rights> {
        self.keys.get(key).map(|entry| &entry.rights).or(self.others.as_ref())
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::new()
    }
}

impl Access {
    /// Makes a list in which nobody may do anything.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            list: RwLock::default(),
            changed: watch::Sender::new(()),
            accounts: Mutex::default(),
        }))
    }

    /// Lets a key call `functions`, as [`grant`](Self::grant) does.
    #[must_use]
    pub fn allow(
        self,
        name: impl Into<Arc<str>>,
        key: PublicKey,
        functions: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.grant(name, key, functions);
        self
    }

    /// Lets every key that the list does not name call `functions`.
    ///
    /// Anybody can make a key. This encrypts what is sent, and does not tell who sends it.
    #[must_use]
    pub fn allow_any_key(self, functions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.write().others = Some(Rights::new(functions));
        self
    }

    /// Limits what a key may send, as [`set_limits`](Self::set_limits) does.
    ///
    /// ```
    /// # use rpc_core::{Access, KeyLimits, SecretKey};
    /// # let alice = SecretKey::generate().public();
    /// let access = Access::new()
    ///     .allow("alice", alice, ["count_words"])
    ///     .limit(&alice, KeyLimits::new().max_in_flight(100));
    /// ```
    #[must_use]
    pub fn limit(self, key: &PublicKey, limits: KeyLimits) -> Self {
        self.set_limits(key, limits);
        self
    }

    /// Limits what a key may send, over all its connections to all servers that have the list, in
    /// place of its limits before. They stay with the key when it is revoked and granted again.
    ///
    /// Without limits, all keys that call a server at the same time share it fairly.
    pub fn set_limits(&self, key: &PublicKey, limits: KeyLimits) {
        self.write().limits.insert(*key, limits);
    }

    /// Lets a key call `functions`, in place of what it was allowed before. The name is for logs,
    /// and for [`Context::peer_name`](crate::Context::peer_name).
    pub fn grant(
        &self,
        name: impl Into<Arc<str>>,
        key: PublicKey,
        functions: impl IntoIterator<Item = impl Into<String>>,
    ) {
        let entry = Entry { name: name.into(), rights: Rights::new(functions) };
        self.write().keys.insert(key, entry);
    }

    /// Removes a key from the list. Returns false if the list did not name it.
    ///
    /// Unless [any key](Self::allow_any_key) may connect, its connections are then closed, its calls
    /// that run are cancelled, and those that wait are not started.
    #[allow(clippy::must_use_candidate)] // The key is removed either way.
    pub fn revoke(&self, key: &PublicKey) -> bool {
        let found = self.write().keys.remove(key).is_some();
        self.0.changed.send_replace(());
        found
    }

    /// Replaces the whole list by a copy of `list`. Keys that it does not contain are
    /// [revoked](Self::revoke).
    pub fn replace(&self, list: &Access) {
        let list = list.read().clone();
        self.replace_list(list);
    }

    fn replace_list(&self, list: List) {
        *self.write() = list;
        self.0.changed.send_replace(());
    }

    /// Returns true if a key may connect.
    pub(crate) fn admits(&self, key: &PublicKey) -> bool {
        self.read().rights(key).is_some()
    }

    /// Returns true if a key may call a function.
    pub(crate) fn permits(&self, key: &PublicKey, function: &str) -> bool {
        self.read().rights(key).is_some_and(|rights| rights.contain(function))
    }

    /// Checks whether a peer may send a request of `bytes` at `now`, and counts the call.
    pub(crate) fn check_limits(
        &self,
        peer: &Verified,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Exceeded> {
        let limits = self.read().limits.get(&PublicKey::from_bytes(peer.key)).copied();
        limits.map_or(Ok(()), |limits| limits.check(&peer.account, bytes, now))
    }

    /// Returns the account of a key, which all its connections share.
    pub(crate) fn account(&self, key: PublicKey, now: Instant) -> Arc<Account> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        let mut accounts = self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.get(key, now)
    }

    /// Returns the name of a key. `None` if the list does not name it.
    pub(crate) fn name(&self, key: &PublicKey) -> Option<Arc<str>> {
        self.read().keys.get(key).map(|entry| Arc::clone(&entry.name))
    }

    /// Returns true if nobody may connect.
    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Returns a receiver that is told when keys may have been removed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        // A poisoned lock can be ignored, because nothing panics while it is held.
        self.0.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.0.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    #[test]
    fn rights_are_names_and_beginnings_of_names() {
        let access =
            Access::new().allow("a", key(1), ["add", "orders.*"]).allow("b", key(2), ["*"]);
        let table = [
            ("add", true),
            ("add_all", false),
            ("ad", false),
            ("orders.take", true),
            ("orders.", true),
            ("orders", false),
            ("", false),
        ];
        for (function, allowed) in table {
            assert_eq!(access.permits(&key(1), function), allowed, "{function}");
            assert!(access.permits(&key(2), function), "{function}");
            assert!(!access.permits(&key(3), function), "{function}");
        }
        assert!(access.admits(&key(1)) && !access.admits(&key(3)));
    }

    #[test]
    fn changes_take_effect_in_all_clones() {
        let access = Access::new();
        assert!(access.is_empty());
        let clone = access.clone().allow("a", key(1), ["add"]);
        let mut changes = clone.changes();
        assert_eq!(access.name(&key(1)).as_deref(), Some("a"));
        assert!(access.revoke(&key(1)) && !access.revoke(&key(1)));
        assert!(changes.has_changed().unwrap() && !clone.admits(&key(1)));
        changes.mark_unchanged();
        access.grant("a", key(1), ["add"]);
        clone.replace(&Access::new().allow("b", key(2), ["add"]));
        assert!(changes.has_changed().unwrap());
        assert!(!access.admits(&key(1)) && access.admits(&key(2)));
        let access = access.allow_any_key(["ping"]);
        assert!(access.permits(&key(9), "ping") && !access.permits(&key(9), "add"));
        assert!(!access.permits(&key(2), "ping"), "it has rights of its own");
    }
}
