//! The references of a time series' labels under other numbers.

use super::proto::{Malformed, take_varint};
use super::reference::{MAX_KEPT_BYTES, Reference, put_kept};

/// References as they stand in a source and as they were written for the time series before: that of the next one
/// differs in few places, and only these are looked up.
#[derive(Debug)]
pub(super) struct MappedReferences {
    source: [u8; MAX_KEPT_BYTES],
    source_len: usize,
    mapped: [u8; MAX_KEPT_BYTES],
    mapped_len: usize,
    /// By place in `source`: where in `mapped` the reference is that begins there; [`NONE`] inside of one. Behind
    /// the last reference stands `mapped_len`.
    places: [u8; MAX_KEPT_BYTES + 1],
}

const NONE: u8 = u8::MAX;
/// Bytes that are compared at once.
const WORD: usize = 8;

impl Default for MappedReferences {
    fn default() -> Self {
        Self {
            source: [0; MAX_KEPT_BYTES],
            source_len: 0,
            mapped: [0; MAX_KEPT_BYTES],
            mapped_len: 0,
            places: [NONE; MAX_KEPT_BYTES + 1],
        }
    }
}

impl MappedReferences {
    pub(super) const fn clear(&mut self) {
        self.source_len = 0;
    }

    /// Appends what `source` becomes, if it has the same lengths as the references before. `false`, and nothing is
    /// appended, where not or where a symbol has no reference yet.
    #[inline]
    pub(super) fn put_like_before(
        &mut self,
        to: &mut Vec<u8>,
        source: &[u8],
        references: &[Reference],
    ) -> bool {
        if source.len() != self.source_len || source.len() < WORD {
            return false;
        }
        let start = to.len();
        put_kept(to, &self.mapped, self.mapped_len);
        let mut at = 0;
        loop {
            if self.put_differences(&mut to[start..], source, references, at).is_none() {
                to.truncate(start);
                self.source_len = 0;
                return false;
            }
            if at + WORD >= source.len() {
                return true;
            }
            // The last word overlaps with the one before.
            at = (at + WORD).min(source.len() - WORD);
        }
    }

    /// Writes the references that differ in the word at `at`.
    #[inline]
    fn put_differences(
        &mut self,
        to: &mut [u8],
        source: &[u8],
        references: &[Reference],
        at: usize,
    ) -> Option<()> {
        let new = u64::from_le_bytes(*source.get(at..)?.first_chunk()?);
        let old = u64::from_le_bytes(*self.source.get(at..)?.first_chunk()?);
        let mut differences = new ^ old;
        while differences != 0 {
            let byte = differences.trailing_zeros() as usize / 8;
            let mut place = at + byte;
            if self.places[place] == NONE {
                place = place.checked_sub(1)?;
            }
            let (from, symbol, len) = match *source.get(place..)? {
                [low, ..] if low < 0x80 => (self.places[place], usize::from(low), 1),
                [low, high, ..] if high < 0x80 && self.places[place + 1] == NONE => {
                    (self.places[place], usize::from(low & 0x7f) | usize::from(high) << 7, 2)
                }
                _ => return None,
            };
            let end = self.places[place + len];
            if from == NONE || end == NONE {
                return None;
            }
            let (from, end) = (usize::from(from), usize::from(end));
            let mut block = [0; Reference::BLOCK];
            // A reference that is not known has no length.
            if references.get(symbol)?.write(&mut block) != end - from {
                return None;
            }
            for (n, &byte) in block[..end - from].iter().enumerate() {
                to[from + n] = byte;
                self.mapped[from + n] = byte;
            }
            for (old, new) in self.source[place..place + len].iter_mut().zip(&source[place..]) {
                *old = *new;
            }
            // What comes before is equal by now.
            let done = place + len - at;
            differences = if done >= WORD { 0 } else { differences & (u64::MAX << (8 * done)) };
        }
        Some(())
    }

    /// Appends what `source` becomes, one reference after the other; `map` gives each.
    pub(super) fn put(
        &mut self,
        to: &mut Vec<u8>,
        source: &[u8],
        mut map: impl FnMut(usize) -> Result<Reference, Malformed>,
    ) -> Result<(), Malformed> {
        self.clear();
        let start = to.len();
        let mut rest = source;
        self.places = [NONE; MAX_KEPT_BYTES + 1];
        while !rest.is_empty() {
            if let Some(place) = self.places.get_mut(source.len() - rest.len()) {
                *place = (to.len() - start).min(usize::from(NONE)) as u8;
            }
            map(take_reference(&mut rest)?)?.put(to);
        }
        let mapped = &to[start..];
        if source.len() <= MAX_KEPT_BYTES && mapped.len() <= MAX_KEPT_BYTES {
            self.source[..source.len()].copy_from_slice(source);
            self.mapped[..mapped.len()].copy_from_slice(mapped);
            self.places[source.len()] = mapped.len() as u8;
            (self.source_len, self.mapped_len) = (source.len(), mapped.len());
        }
        Ok(())
    }
}

/// Branches and no arithmetic: that one reference's length decides where the next begins is foretold well, as the time
/// series of a page are alike.
#[inline]
pub(super) fn take_reference(refs: &mut &[u8]) -> Result<usize, Malformed> {
    match **refs {
        [low, ref rest @ ..] if low < 0x80 => {
            *refs = rest;
            Ok(usize::from(low))
        }
        [low, high, ref rest @ ..] if high < 0x80 => {
            *refs = rest;
            Ok(usize::from(low & 0x7f) | usize::from(high) << 7)
        }
        _ => usize::try_from(take_varint(refs)?).map_err(|_| Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::proto::put_varint;

    fn encoded(numbers: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|&number| put_varint(&mut bytes, number.into()));
        bytes
    }

    #[test]
    fn each_reference_is_mapped_whatever_came_before() {
        // Lengths of one to three bytes on both sides, shifted against each other.
        let mapped = |n: u32| (n * 7 + 90) % 20_000;
        let references: Vec<_> = (0..20_000).map(|n| Reference::new(mapped(n))).collect();
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut memory = MappedReferences::default();
        let mut series: Vec<u32> = (0..24).collect();
        let mut quick = 0;
        for _ in 0..20_000 {
            match random(20) {
                0 => series.truncate(series.len() - 2),
                1 if series.len() < 150 => series.extend([3, 300]),
                _ => {}
            }
            if series.len() < 4 {
                series = (100..150).collect();
            }
            for _ in 0..random(4) {
                let at = random(series.len() as u64) as usize;
                let below = [128, 140, 16_384, 20_000][random(4) as usize];
                series[at] = random(below) as u32;
            }
            let source = encoded(&series);
            let mut to = vec![9];
            if memory.put_like_before(&mut to, &source, &references) {
                quick += 1;
            } else {
                assert_eq!(to, [9], "nothing is there when it did not work");
                memory.put(&mut to, &source, |n| Ok(references[n])).unwrap();
            }
            let expected: Vec<u32> = series.iter().map(|&n| mapped(n)).collect();
            assert_eq!(to[1..], encoded(&expected));
        }
        assert!(quick > 2_000, "{quick}");
    }

    #[test]
    fn what_is_not_known_or_cut_off_is_not_mapped() {
        let references = [0, 1, 2, 3].map(Reference::new);
        let mut memory = MappedReferences::default();
        let mut to = Vec::new();
        let source = [1, 2, 1, 2, 1, 2, 1, 2, 1, 2];
        memory.put(&mut to, &source, |n| references.get(n).copied().ok_or(Malformed)).unwrap();
        for bad in [[1, 2, 1, 2, 1, 2, 1, 2, 1, 9], [1, 2, 1, 2, 1, 2, 1, 2, 1, 0x81]] {
            let mut to = Vec::new();
            assert!(!memory.put_like_before(&mut to, &bad, &references) && to.is_empty());
            let map = |n| references.get(n).copied().ok_or(Malformed);
            assert!(memory.put(&mut to, &bad, map).is_err());
            memory.put(&mut Vec::new(), &source, map).unwrap();
        }
    }
}
