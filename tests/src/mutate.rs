//! A mutator that turns good messages into bad ones, and always the same ones for the same seed.

use fastrand::Rng;

/// Bytes with a special meaning: markers of every family, false lengths, and their neighbors.
const TELLING: [u8; 24] = [
    0x00, 0x01, 0x02, 0x03, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x91, 0x94, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1,
    0xc4, 0xc7, 0xca, 0xce, 0xd9, 0xdb, 0xdd, 0xff,
];

/// A generator of bodies that are mutations of the given seeds.
#[derive(Debug)]
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    random: Rng,
}

impl Mutator {
    /// Creates a mutator that starts from `seeds`.
    ///
    /// # Panics
    /// Panics if there are no seeds.
    #[must_use]
    pub fn new(seeds: Vec<Vec<u8>>, seed: u64) -> Self {
        assert!(!seeds.is_empty());
        Self { seeds, random: Rng::with_seed(seed) }
    }

    /// Returns the next body: one of the seeds after one to eight changes or, rarely, noise.
    pub fn next_body(&mut self) -> Vec<u8> {
        if self.random.u8(..) < 8 {
            return self.noise(64);
        }
        let mut body = self.any_seed();
        for _ in 0..self.random.usize(1..=8) {
            self.change(&mut body);
        }
        body
    }

    fn change(&mut self, body: &mut Vec<u8>) {
        let at = self.random.usize(..=body.len());
        match self.random.u8(..10) {
            0 => body.truncate(at),
            1 => body.insert(at, self.random.u8(..)),
            2 => body.insert(at, self.telling()),
            3 => {
                let other = self.any_seed();
                let from = self.random.usize(..=other.len());
                let end = self.random.usize(from..=other.len());
                body.splice(at..at, other[from..end].iter().copied());
            }
            4 => {
                let end = self.random.usize(at..=body.len());
                body.drain(at..end);
            }
            // A length that promises more bytes than there are. The next case is a deep nesting.
            5 => drop(body.splice(at..at, [self.telling(), 0xff, 0xff, 0xff, 0xff])),
            6 => {
                let deep = vec![0x91; self.random.usize(..300)];
                body.splice(at..at, deep);
            }
            kind => {
                let telling = self.telling();
                let random = self.random.u8(..);
                let Some(byte) = body.get_mut(at) else { return };
                match kind {
                    7 => *byte ^= 1 << (random % 8),
                    8 => *byte = telling,
                    _ => *byte = random,
                }
            }
        }
    }

    fn noise(&mut self, longest: usize) -> Vec<u8> {
        let len = self.random.usize(..=longest);
        (0..len).map(|_| self.random.u8(..)).collect()
    }

    fn telling(&mut self) -> u8 {
        TELLING[self.random.usize(..TELLING.len())]
    }

    fn any_seed(&mut self) -> Vec<u8> {
        let index = self.random.usize(..self.seeds.len());
        self.seeds[index].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_bodies() {
        let bodies = |seed| {
            let mut mutator = Mutator::new(vec![b"one".to_vec(), b"another".to_vec()], seed);
            (0..1_000).map(|_| mutator.next_body()).collect::<Vec<_>>()
        };
        assert_eq!(bodies(1), bodies(1));
        assert_ne!(bodies(1), bodies(2));
    }
}
