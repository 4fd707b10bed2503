//! One bit for each series of a target.

use promferry_model::SeriesId;

/// A set of series ids. Ids are small and dense, so a bit each is the smallest way to remember a set.
#[derive(Clone, Debug, Default)]
pub(crate) struct SeriesSet(Vec<u64>);

impl SeriesSet {
    /// Adds `id`; says whether it was new.
    #[inline]
    pub(crate) fn insert(&mut self, id: SeriesId) -> bool {
        let (word, bit) = place(id);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    /// Takes `id` out.
    pub(crate) fn remove(&mut self, id: SeriesId) {
        let (word, bit) = place(id);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Whether `id` is in the set.
    pub(crate) fn contains(&self, id: SeriesId) -> bool {
        let (word, bit) = place(id);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Takes all out, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Becomes a copy of `other`, keeping the memory.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.0.clear();
        self.0.extend_from_slice(&other.0);
    }

    /// How many are in the set.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The ids in the set, smallest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| ids(at, word))
    }

    /// The ids that are in this set and not in `other`, smallest first.
    pub(crate) fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = SeriesId> + 'a {
        self.0.iter().enumerate().flat_map(|(at, &word)| ids(at, word & !other.0.get(at).unwrap_or(&0)))
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

fn place(id: SeriesId) -> (usize, u64) {
    (id.index() / 64, 1 << (id.index() % 64))
}

fn ids(at: usize, mut word: u64) -> impl Iterator<Item = SeriesId> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(SeriesId::new(at as u32 * 64 + bit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(a in prop::collection::btree_set(0u32..300, 0..60), b in prop::collection::btree_set(0u32..300, 0..60)) {
            let set = |ids: &BTreeSet<u32>| {
                let mut set = SeriesSet::default();
                for &id in ids {
                    assert!(set.insert(SeriesId::new(id)));
                    assert!(!set.insert(SeriesId::new(id)));
                }
                set
            };
            let (left, mut right) = (set(&a), set(&b));
            prop_assert_eq!(right.len(), b.len());
            let numbers = |ids: &mut dyn Iterator<Item = SeriesId>| ids.map(|id| id.index() as u32).collect::<Vec<_>>();
            prop_assert_eq!(numbers(&mut left.iter()), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(numbers(&mut left.difference(&right)), a.difference(&b).copied().collect::<Vec<_>>());
            right.copy_from(&left);
            prop_assert_eq!(numbers(&mut left.difference(&right)), Vec::<u32>::new());
        }
    }
}
