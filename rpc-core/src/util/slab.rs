//! A table of values by an id that counts up. A lookup is one index operation without hashing, and
//! a value needs no allocation of its own.

/// Values by `u32` id. Ids count up, and are not reused before the counter has wrapped around. So a
/// late answer to an id that has left the table cannot be taken for the answer to another id.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// The value of `id` is at `id % len`. The length is a power of two, and at most half of the
    /// slots are in use.
    slots: Vec<Option<(u32, T)>>,
    next: u32,
    used: usize,
}

/// The length of the first allocation, in slots. It is small because a process may hold a thousand
/// tables with one value each. Since ids count up, every slot of a table is used in turn, and all
/// of them should stay in the cache.
const INITIAL_LEN: usize = 4;

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), next: 0, used: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Inserts a value under the next free id, and returns the id.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if self.used * 2 >= self.slots.len() {
            self.grow();
        }
        loop {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            // An occupied slot belongs to an older id that has stayed in the table while the
            // counter went around all slots. The next id has another slot.
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

    /// Iterates over every value, in no particular order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.slots.iter_mut().flatten().map(|(id, value)| (*id, value))
    }

    /// Consumes an id that no value has, for a message that never enters the table.
    pub(crate) fn skip_id(&mut self) -> u32 {
        loop {
            let id = self.next;
            self.next = self.next.wrapping_add(1);
            // An id that is still in use, after the counter has wrapped around, would receive the
            // answer to this message.
            if self.get_mut(id).is_none() {
                return id;
            }
        }
    }

    fn index(&self, id: u32) -> usize {
        // The length is zero before the first insertion, and every lookup then misses.
        id as usize & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(INITIAL_LEN);
        let slots = std::iter::repeat_with(|| None).take(len).collect();
        let old = std::mem::replace(&mut self.slots, slots);
        for (id, value) in old.into_iter().flatten() {
            // Ids that differed modulo the old length also differ modulo the new one.
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
        let mut slab = Slab::new();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!(slab.remove(a), None);
        let b = slab.insert("b");
        assert_ne!(a, b);
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.get_mut(b), Some(&mut "b"));
    }

    #[test]
    fn empty_slab_has_no_value() {
        let mut slab = Slab::<()>::new();
        assert_eq!(slab.get_mut(7), None);
        assert_eq!(slab.remove(u32::MAX), None);
        assert!(slab.is_empty());
    }

    #[test]
    fn values_survive_growth() {
        let mut slab = Slab::new();
        let ids: Vec<_> = (0..10_000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.len(), 10_000);
        for (n, id) in (0..10_000).zip(ids) {
            assert_eq!(slab.remove(id), Some(n));
        }
        assert!(slab.is_empty());
    }

    #[test]
    fn value_that_stays_keeps_its_id() {
        let mut slab = Slab::new();
        let stays = slab.insert("stays");
        for _ in 0..1_000_000 {
            let id = slab.insert("passes");
            assert_ne!(id, stays);
            slab.remove(id);
        }
        assert_eq!(slab.slots.len(), INITIAL_LEN, "the slab did not grow");
        assert_eq!(slab.get_mut(stays), Some(&mut "stays"));
    }

    #[test]
    fn counter_wraps_around() {
        let mut slab = Slab { slots: Vec::new(), next: u32::MAX, used: 0 };
        assert_eq!(slab.insert(1), u32::MAX);
        assert_eq!(slab.insert(2), 0);
        assert_eq!(slab.get_mut(u32::MAX), Some(&mut 1));
    }

    #[test]
    fn id_in_use_is_skipped() {
        let mut slab = Slab::new();
        assert_eq!(slab.insert("stays"), 0);
        slab.next = 0;
        assert_eq!(slab.skip_id(), 1);
    }
}
