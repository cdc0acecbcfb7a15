//! The accounts of the keys that are connected.

use std::{collections::HashMap, sync::Arc, time::Instant};

use crate::{keys::PublicKey, usage::Account};

/// The number of accounts that are kept at least. A key that connects again finds its account, so
/// that it does not get around the limit of its rate.
const KEPT: usize = 64;

/// The accounts of keys. Those that nobody needs are dropped when the table has doubled.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    by_key: HashMap<PublicKey, Arc<Account>>,
    /// The number of accounts that were needed when the table was last searched.
    needed: usize,
}

impl Accounts {
    /// Returns the account of a key, which all its connections share.
    pub(super) fn get(&mut self, key: PublicKey, now: Instant) -> Arc<Account> {
        if let Some(account) = self.by_key.get(&key) {
            return Arc::clone(account);
        }
        if self.by_key.len() >= 2 * self.needed + KEPT {
            let is_needed = |it: &Arc<Account>| Arc::strong_count(it) > 1 || !it.is_idle(now);
            self.by_key.retain(|_, account| is_needed(account));
            self.needed = self.by_key.len();
        }
        let account = Arc::new(Account::new(key.as_bytes()));
        self.by_key.insert(key, Arc::clone(&account));
        account
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn accounts_are_kept_while_they_are_needed() {
        let (mut accounts, now) = (Accounts::default(), Instant::now());
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            PublicKey::from_bytes(key)
        };
        let connected = accounts.get(key(0), now);
        accounts.get(key(1), now).take_turn(1, now).unwrap();
        for number in 2..10_000 {
            accounts.get(key(number), now);
            assert!(accounts.by_key.len() <= 2 * 2 + KEPT);
        }
        assert!(Arc::ptr_eq(&accounts.get(key(0), now), &connected));
        assert!(accounts.get(key(1), now).take_turn(1, now).is_err(), "it has had its turn");
        let later = now + Duration::from_secs(1);
        drop(connected);
        for number in 10_000..10_000 + KEPT + 5 {
            accounts.get(key(number), later);
        }
        assert!(!accounts.by_key.contains_key(&key(0)) && !accounts.by_key.contains_key(&key(1)));
    }
}
