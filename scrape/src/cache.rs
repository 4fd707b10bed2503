//! The positional series cache: what became of each line of a target's page, in the order of the page.

use hashbrown::HashTable;
use promferry_model::SeriesId;

/// A line's identity: a seeded 128-bit hash over everything that decides which series it is.
pub(crate) type Key = [u64; 2];

/// What the cold path made of a line: a series, or nothing because it was dropped. Refused lines have no
/// outcome; they are asked about again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome(u32);

impl Outcome {
    /// The line is left out.
    pub(crate) const DROPPED: Self = Self(u32::MAX);

    /// The line is this series. The one number that means "dropped" is no series.
    pub(crate) fn series(id: SeriesId) -> Option<Self> {
        u32::try_from(id.index()).ok().filter(|&index| index != u32::MAX).map(Self)
    }

    /// The series, unless the line is left out.
    pub(crate) fn id(self) -> Option<SeriesId> {
        (self != Self::DROPPED).then(|| SeriesId::new(self.0))
    }
}

/// The lines of the last committed page. Keys lie apart from outcomes: a lookup that follows the page touches
/// each array once and in order.
#[derive(Debug, Default)]
pub(crate) struct SeriesCache {
    keys: Vec<Key>,
    outcomes: Vec<Outcome>,
}

impl SeriesCache {
    /// Bytes that an entry takes.
    pub(crate) const ENTRY_BYTES: usize = size_of::<Key>() + size_of::<Outcome>();

    /// Lines known.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Key>() + self.outcomes.capacity() * size_of::<Outcome>()
    }

    /// Forgets every line; each goes through the cold path again.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes the page that `walk` went through the one that is known.
    pub(crate) fn commit(&mut self, walk: &mut Walk) {
        self.keys.truncate(walk.same);
        self.outcomes.truncate(walk.same);
        let length = walk.same + walk.tail_keys.len();
        if self.keys.capacity() < length {
            self.keys.reserve_exact(length - self.keys.len());
            self.outcomes.reserve_exact(length - self.outcomes.len());
        }
        self.keys.append(&mut walk.tail_keys);
        self.outcomes.append(&mut walk.tail_outcomes);
        if self.keys.capacity() > length + length / 4 + 16 {
            self.keys.shrink_to_fit();
            self.outcomes.shrink_to_fit();
        }
    }
}

/// One way through a page: where the next line is expected and, from the first line that is not where it
/// was, the order as it is now. Reused from page to page.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Lines from the start that are where they were.
    same: usize,
    diverged: bool,
    /// The known line that is expected next.
    next: usize,
    tail_keys: Vec<Key>,
    tail_outcomes: Vec<Outcome>,
    /// Key → place in the known order; built when a line is neither expected nor near.
    index: HashTable<u32>,
    indexed: bool,
}

impl Walk {
    /// Starts at the top of a page.
    pub(crate) fn start(&mut self) {
        self.same = 0;
        self.diverged = false;
        self.next = 0;
        self.tail_keys.clear();
        self.tail_outcomes.clear();
        self.index.clear();
        self.indexed = false;
    }

    /// Lines noted so far.
    pub(crate) fn len(&self) -> usize {
        self.same + self.tail_keys.len()
    }

    /// Bytes that the changed part of the order takes once another line is noted.
    pub(crate) fn tail_bytes(&self) -> usize {
        let full = self.tail_keys.len() == self.tail_keys.capacity();
        let lines = if full { (2 * self.tail_keys.len()).max(4) } else { self.tail_keys.capacity() };
        lines * SeriesCache::ENTRY_BYTES
    }

    /// What became of the line before, if it is known; such a line is noted.
    #[inline]
    pub(crate) fn find(&mut self, known: &SeriesCache, key: Key) -> Option<Outcome> {
        if known.keys.get(self.next) == Some(&key) {
            let outcome = known.outcomes[self.next];
            self.next += 1;
            if self.diverged {
                self.tail_keys.push(key);
                self.tail_outcomes.push(outcome);
            } else {
                self.same += 1;
            }
            return Some(outcome);
        }
        self.find_elsewhere(known, key)
    }

    /// Notes a line that was not known.
    pub(crate) fn insert(&mut self, key: Key, outcome: Outcome) {
        self.diverged = true;
        self.tail_keys.push(key);
        self.tail_outcomes.push(outcome);
    }

    /// Gives back memory beyond what `lines` lines need. Ends a page.
    pub(crate) fn shrink_to(&mut self, lines: usize) {
        self.tail_keys.shrink_to(lines);
        self.tail_outcomes.shrink_to(lines);
        if self.index.capacity() > lines {
            self.index = HashTable::new();
            self.indexed = false;
        }
    }

    #[cold]
    fn find_elsewhere(&mut self, known: &SeriesCache, key: Key) -> Option<Outcome> {
        let ahead = known.keys.iter().skip(self.next + 1).take(LOOK_AHEAD).position(|known| *known == key);
        let at = match ahead {
            Some(ahead) => self.next + 1 + ahead,
            None => self.find_by_index(known, key)?,
        };
        let outcome = known.outcomes[at];
        self.next = at + 1;
        self.insert(key, outcome);
        Some(outcome)
    }

    fn find_by_index(&mut self, known: &SeriesCache, key: Key) -> Option<usize> {
        if !self.indexed {
            self.indexed = true;
            self.index.reserve(known.keys.len(), |_| 0);
            for (at, key) in known.keys.iter().enumerate() {
                self.index.insert_unique(key[0], at as u32, |&at| known.keys[at as usize][0]);
            }
        }
        self.index.find(key[0], |&at| known.keys[at as usize] == key).map(|&at| at as usize)
    }
}

/// A few lines that vanished are skipped over without an index.
const LOOK_AHEAD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(n: u64) -> Key {
        [n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n]
    }

    proptest! {
        /// Whatever the order of pages, a committed line is found and keeps its outcome; others are not.
        #[test]
        fn remembers_exactly_the_last_committed_page(pages in prop::collection::vec(
            (prop::collection::vec(0u64..40, 0..60), prop::bool::weighted(0.8)), 1..8,
        )) {
            let mut cache = SeriesCache::default();
            let mut walk = Walk::default();
            let mut expected: HashMap<u64, Outcome> = HashMap::new();
            let mut fresh = 0;
            for (page, committed) in pages {
                walk.start();
                let mut seen = HashMap::new();
                for line in page {
                    let found = walk.find(&cache, key(line));
                    prop_assert_eq!(found, expected.get(&line).copied());
                    let outcome = found.unwrap_or_else(|| {
                        let outcome = seen.get(&line).copied().unwrap_or_else(|| {
                            fresh += 1;
                            Outcome::series(SeriesId::new(fresh)).unwrap()
                        });
                        walk.insert(key(line), outcome);
                        outcome
                    });
                    seen.insert(line, outcome);
                }
                if committed {
                    cache.commit(&mut walk);
                    expected = seen;
                }
            }
        }
    }

    #[test]
    fn an_unchanged_page_needs_no_second_order() {
        let mut cache = SeriesCache::default();
        let mut walk = Walk::default();
        for _ in 0..3 {
            walk.start();
            for line in 0..1000 {
                if walk.find(&cache, key(line)).is_none() {
                    walk.insert(key(line), Outcome::DROPPED);
                }
            }
            cache.commit(&mut walk);
        }
        assert_eq!((walk.same, walk.indexed, cache.len()), (1000, false, 1000));
        assert_eq!(cache.memory_bytes(), 1000 * SeriesCache::ENTRY_BYTES);
    }
}
