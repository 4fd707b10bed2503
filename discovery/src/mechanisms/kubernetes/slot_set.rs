//! Sets of small numbers.

/// A set of slots of a [`Table`](super::table::Table), a bit each.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlotSet {
    words: Vec<u64>,
    len: usize,
}

impl SlotSet {
    /// Whether it was not there yet.
    pub(crate) fn insert(&mut self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        let was_there = self.contains(slot);
        if was_there {
            let (word, bit) = place(slot);
            self.words[word] &= !bit;
            self.len -= 1;
        }
        was_there
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        let (word, bit) = place(slot);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// The first one that is not below `from`.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let (first, bit) = place(from);
        // The bits below `from` do not count in the word that it is in.
        let mut mask = !(bit - 1);
        for (word, bits) in self.words.iter().enumerate().skip(first) {
            let bits = bits & mask;
            if bits != 0 {
                return Some(word as u32 * u64::BITS + bits.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.next(0), |slot| self.next(slot + 1))
    }
}

fn place(slot: u32) -> (usize, u64) {
    ((slot / u64::BITS) as usize, 1 << (slot % u64::BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_comes_in_order() {
        let mut set = SlotSet::default();
        for slot in [200, 3, 63, 64, 3] {
            set.insert(slot);
        }
        assert_eq!((set.len(), set.iter().collect::<Vec<_>>()), (4, vec![3, 63, 64, 200]));
        assert!(set.remove(63) && !set.remove(63) && !set.remove(9999));
        assert_eq!(
            (set.next(4), set.next(65), set.next(201), set.next(9999)),
            (Some(64), Some(200), None, None)
        );
        for slot in [3, 64, 200] {
            assert!(set.remove(slot));
        }
        assert!(set.is_empty() && set.next(0).is_none());
    }
}
