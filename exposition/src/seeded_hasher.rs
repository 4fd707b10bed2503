use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Makes hashes that are wide enough to stand for what they are of, under a seed that whoever writes a page does not
/// know.
#[derive(Debug)]
pub(crate) struct SeededHasher {
    seed: u64,
    bytes: Vec<u8>,
}

/// Stands between texts, in none of which it can stand: it is no byte of UTF-8.
const SEPARATOR: u8 = 0xff;

impl SeededHasher {
    pub(crate) fn new() -> Self {
        Self { seed: RandomState::new().hash_one(0), bytes: Vec::new() }
    }

    pub(crate) fn hash(&self, bytes: &[u8]) -> u128 {
        xxh3_128_with_seed(bytes, self.seed)
    }

    /// Of the name of a family's samples.
    pub(crate) fn hash_name(&mut self, family: &str, suffix: &str) -> u128 {
        self.bytes.clear();
        self.bytes.extend_from_slice(family.as_bytes());
        self.bytes.extend_from_slice(suffix.as_bytes());
        self.hash(&self.bytes)
    }

    /// Of labels, a name and a value each, in their order.
    pub(crate) fn hash_labels<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)>) -> u128 {
        self.bytes.clear();
        for (name, value) in labels {
            for text in [name, value] {
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.push(SEPARATOR);
            }
        }
        self.hash(&self.bytes)
    }
}
