/// A set of series, by the fingerprints of their labels: 4 bytes each and little more.
///
/// Of the 64 bits of a fingerprint 12 choose a part of the set and 32 are kept in it, sorted. A series that is
/// not in a set of a million is taken for one that is once in 17 million times.
#[derive(Debug, Default)]
pub(crate) struct SeriesSet {
    parts: Vec<Vec<u32>>,
    len: usize,
}

const PARTS: usize = 4096;

impl SeriesSet {
    /// Adds a series; says whether it is new.
    pub(crate) fn insert(&mut self, fingerprint: u64) -> bool {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, Vec::new);
        }
        let (part, kept) = place(fingerprint);
        let part = &mut self.parts[part];
        match part.binary_search(&kept) {
            Ok(_) => false,
            Err(at) => {
                // Doubling would leave a quarter of it empty on average.
                if part.len() == part.capacity() {
                    part.reserve_exact(4 + part.len() / 8);
                }
                part.insert(at, kept);
                self.len += 1;
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, fingerprint: u64) {
        let (part, kept) = place(fingerprint);
        if let Some(part) = self.parts.get_mut(part)
            && let Ok(at) = part.binary_search(&kept)
        {
            part.remove(at);
            self.len -= 1;
        }
    }

    pub(crate) fn contains(&self, fingerprint: u64) -> bool {
        let (part, kept) = place(fingerprint);
        self.parts.get(part).is_some_and(|part| part.binary_search(&kept).is_ok())
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let kept: usize = self.parts.iter().map(|part| size_of::<u32>() * part.capacity()).sum();
        kept + size_of::<Vec<u32>>() * self.parts.capacity()
    }
}

const fn place(fingerprint: u64) -> (usize, u32) {
    ((fingerprint >> 32) as usize % PARTS, fingerprint as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn fingerprints(seed: u64) -> impl Iterator<Item = u64> {
        (0u64..).map(move |n| xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), seed))
    }

    #[test]
    fn holds_what_was_put_in_and_not_removed() {
        let mut set = SeriesSet::default();
        let mut model = HashSet::new();
        for (n, fingerprint) in fingerprints(1).take(20_000).enumerate() {
            assert!(set.insert(fingerprint) && !set.insert(fingerprint));
            model.insert(fingerprint);
            if n % 3 == 0 {
                set.remove(fingerprint);
                model.remove(&fingerprint);
            }
        }
        assert_eq!(set.len(), model.len());
        assert!(fingerprints(1).take(20_000).all(|f| set.contains(f) == model.contains(&f)));
        assert!(!fingerprints(2).take(20_000).any(|f| set.contains(f)));
    }

    #[test]
    fn a_million_series_take_less_than_six_megabytes() {
        let mut set = SeriesSet::default();
        for fingerprint in fingerprints(3).take(1_000_000) {
            set.insert(fingerprint);
        }
        assert!(set.memory_bytes() < 6_000_000, "{}", set.memory_bytes());
    }
}
