//! A table of what is in flight, by an id that counts up: one index, no hashing, no allocation per
//! entry.

/// Values by `u32` id. Ids count up and are not reused until the counter has gone round, so that a
/// late reply to an id that has left the table cannot be taken for another's.
#[derive(Debug)]
pub(crate) struct IdTable<T> {
    /// The entry for `id` is at `id % len`. The length is a power of two, and at most half is in
    /// use.
    slots: Vec<Option<(u32, T)>>,
    next: u32,
    used: usize,
}

/// Small, because there are clients that have one call at a time, and a thousand such clients in a
/// process: ids count up, so that their calls go through all of it, and it should stay in the
/// processor's cache.
const FIRST_LEN: usize = 4;

impl<T> IdTable<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), next: 0, used: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Takes the next id that is free.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if self.used * 2 >= self.slots.len() {
            self.grow();
        }
        loop {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            // A slot that is in use belongs to an id that has stayed for a whole round: its
            // neighbour will do.
            let index = self.index(id);
            if self.slots[index].is_none() {
                self.slots[index] = Some((id, value));
                self.used += 1;
                return id;
            }
        }
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let index = self.index(id);
        match self.slots.get_mut(index)? {
            Some((found, value)) if *found == id => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let index = self.index(id);
        let slot = self.slots.get_mut(index)?;
        if slot.as_ref().is_none_or(|(found, _)| *found != id) {
            return None;
        }
        self.used -= 1;
        slot.take().map(|(_, value)| value)
    }

    /// Every entry, in no particular order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots.iter_mut().flatten().map(|(id, value)| (*id, value))
    }

    /// The id that comes next, for a message that never enters the table.
    pub(crate) fn skip_id(&mut self) -> u32 {
        loop {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            // One that has stayed for a whole round would get the other's answer.
            if self.get_mut(id).is_none() {
                return id;
            }
        }
    }

    fn index(&self, id: u32) -> usize {
        // The length is zero before the first insertion; every lookup then misses.
        id as usize & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(FIRST_LEN);
        let old =
            std::mem::replace(&mut self.slots, std::iter::repeat_with(|| None).take(len).collect());
        for (id, value) in old.into_iter().flatten() {
            // Ids that differed modulo the old length differ modulo the new one.
            let index = self.index(id);
            self.slots[index] = Some((id, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_and_are_not_reused() {
        let mut table = IdTable::new();
        let a = table.insert("a");
        assert_eq!(table.remove(a), Some("a"));
        assert_eq!(table.remove(a), None);
        let b = table.insert("b");
        assert_ne!(a, b);
        assert_eq!(table.get_mut(a), None);
        assert_eq!(table.get_mut(b), Some(&mut "b"));
    }

    #[test]
    fn an_empty_table_misses() {
        let mut table = IdTable::<()>::new();
        assert_eq!(table.get_mut(7), None);
        assert_eq!(table.remove(u32::MAX), None);
        assert!(table.is_empty());
    }

    #[test]
    fn entries_survive_growth() {
        let mut table = IdTable::new();
        let ids: Vec<_> = (0..10_000).map(|n| table.insert(n)).collect();
        assert_eq!(table.len(), 10_000);
        for (n, id) in (0..10_000).zip(ids) {
            assert_eq!(table.remove(id), Some(n));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn one_that_stays_does_not_grow_the_table_and_keeps_its_id() {
        let mut table = IdTable::new();
        let stays = table.insert("stays");
        for _ in 0..1_000_000 {
            let id = table.insert("passes");
            assert_ne!(id, stays);
            table.remove(id);
        }
        assert_eq!(table.slots.len(), FIRST_LEN);
        assert_eq!(table.get_mut(stays), Some(&mut "stays"));
    }

    #[test]
    fn the_counter_goes_round() {
        let mut table = IdTable { slots: Vec::new(), next: u32::MAX, used: 0 };
        assert_eq!(table.insert(1), u32::MAX);
        assert_eq!(table.insert(2), 0);
        assert_eq!(table.get_mut(u32::MAX), Some(&mut 1));
    }

    #[test]
    fn an_id_that_is_in_use_is_skipped() {
        let mut table = IdTable::new();
        assert_eq!(table.insert("stays"), 0);
        table.next = 0;
        assert_eq!(table.skip_id(), 1);
    }
}
