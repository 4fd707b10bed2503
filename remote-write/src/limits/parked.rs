use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// How many lanes new samples in the parked queue take. A series keeps to one as long as something of it is
/// parked.
pub(crate) const SLOTS: usize = 16;

/// The most jobs and metrics that are counted by name; the rest is counted together.
const MAX_NAMES: usize = 512;

/// The most series that are accounted for as parked, in 26 MB; what an endpoint does not take of more than that
/// is dropped under the limit's name.
pub(super) const MAX_PARKED_SERIES: usize = 900_000;

/// The series of which something is parked or about to be.
#[derive(Debug, Default)]
pub(super) struct ParkedSeries {
    series: HashMap<u64, Parked>,
    /// Series parked, by job and metric.
    names: BTreeMap<String, u64>,
    promoted: usize,
}

#[derive(Clone, Copy, Debug)]
struct Parked {
    /// Time series in the parked queue's fragments, or on their way there.
    entries: u32,
    /// Those of them that are on their way there.
    coming: u32,
    /// Those that were there when the pass began and were not read in it yet.
    unread: u32,
    slot: u8,
    /// Whether the endpoint takes it now: it stays parked until all of it that is parked is delivered.
    promoted: bool,
    /// Whether this pass found it refused: what follows of it is not tested.
    refused: bool,
}

impl ParkedSeries {
    /// Something is on its way to the queue; the slot, if the series is parked.
    pub(super) fn add(&mut self, fingerprint: u64) -> Option<usize> {
        let parked = self.series.get_mut(&fingerprint)?;
        parked.entries = parked.entries.saturating_add(1);
        parked.coming = parked.coming.saturating_add(1);
        Some(usize::from(parked.slot))
    }

    /// The first of a series is on its way to the queue; returns the slot, `None` when no more series can be
    /// parked.
    pub(super) fn begin(&mut self, fingerprint: u64, slot: usize, labels: &[(&str, &str)]) -> Option<usize> {
        if self.series.len() >= MAX_PARKED_SERIES {
            return None;
        }
        let parked =
            Parked { entries: 1, coming: 1, unread: 0, slot: slot as u8, promoted: false, refused: false };
        self.series.insert(fingerprint, parked);
        let name = name_of(labels);
        if self.names.len() < MAX_NAMES || self.names.contains_key(&name) {
            *self.names.entry(name).or_insert(0) += 1;
        } else {
            *self.names.entry("others".to_owned()).or_insert(0) += 1;
        }
        Some(slot)
    }

    /// Something of the series is in the queue. Says whether there is an account of it, at least of this.
    pub(super) fn find(&mut self, fingerprint: u64, slot: usize, labels: &[(&str, &str)]) -> bool {
        if self.series.contains_key(&fingerprint) {
            return true;
        }
        let begun = self.begin(fingerprint, slot, labels).is_some();
        self.arrived(fingerprint, true);
        begun
    }

    /// What was on its way is in the queue now, or will not be. Says whether it was the last of a series that
    /// the endpoint takes.
    pub(super) fn arrived(&mut self, fingerprint: u64, stored: bool) -> bool {
        let Some(parked) = self.series.get_mut(&fingerprint) else { return false };
        parked.coming = parked.coming.saturating_sub(1);
        if !stored {
            parked.entries = parked.entries.saturating_sub(1);
        }
        self.leave_if_last(fingerprint)
    }

    /// Something that was taken from the queue is in it again.
    pub(super) fn stay(&mut self, fingerprint: u64) {
        if let Some(parked) = self.series.get_mut(&fingerprint) {
            parked.entries = parked.entries.saturating_add(1);
        }
    }

    /// One less is parked of the series; says whether it was the last and the endpoint takes the series.
    pub(super) fn remove(&mut self, fingerprint: u64) -> bool {
        let Some(parked) = self.series.get_mut(&fingerprint) else { return false };
        parked.entries = parked.entries.saturating_sub(1);
        parked.unread = parked.unread.saturating_sub(1);
        self.leave_if_last(fingerprint)
    }

    /// The queue is about to be read from its beginning to its end as it is now.
    pub(super) fn begin_pass(&mut self) {
        for parked in self.series.values_mut() {
            parked.unread = parked.entries.saturating_sub(parked.coming);
            parked.refused = false;
        }
    }

    /// These slots were read from their beginning to their end: what should have been there and was not is not
    /// parked any more. Returns the series that the endpoint takes and of which nothing is left.
    pub(super) fn end_pass(&mut self, slots: Range<usize>) -> Vec<u64> {
        let mut gone = Vec::new();
        for (fingerprint, parked) in &mut self.series {
            if slots.contains(&usize::from(parked.slot)) {
                parked.entries = parked.entries.saturating_sub(std::mem::take(&mut parked.unread));
                if parked.entries == 0 && parked.coming == 0 {
                    gone.push(*fingerprint);
                }
            }
        }
        gone.retain(|fingerprint| self.leave_if_last(*fingerprint));
        gone
    }

    /// The endpoint takes the series now.
    pub(super) fn promote(&mut self, fingerprint: u64) {
        if let Some(parked) = self.series.get_mut(&fingerprint) {
            self.promoted += usize::from(!parked.promoted);
            parked.promoted = true;
        }
    }

    /// It does not after all.
    pub(super) fn demote(&mut self, fingerprint: u64) {
        if let Some(parked) = self.series.get_mut(&fingerprint) {
            self.promoted -= usize::from(parked.promoted);
            parked.promoted = false;
        }
    }

    /// This pass found the series refused.
    pub(super) fn refuse(&mut self, fingerprint: u64) {
        if let Some(parked) = self.series.get_mut(&fingerprint) {
            parked.refused = true;
        }
    }

    /// Whether there are series that the endpoint takes now.
    pub(super) const fn has_promoted(&self) -> bool {
        self.promoted > 0
    }

    pub(super) fn is_promoted(&self, fingerprint: u64) -> bool {
        self.series.get(&fingerprint).is_some_and(|parked| parked.promoted)
    }

    pub(super) fn is_refused(&self, fingerprint: u64) -> bool {
        self.series.get(&fingerprint).is_some_and(|parked| parked.refused)
    }

    /// Lets a series go of which nothing is parked or about to be; says whether the endpoint takes it.
    fn leave_if_last(&mut self, fingerprint: u64) -> bool {
        let Entry::Occupied(parked) = self.series.entry(fingerprint) else { return false };
        if parked.get().entries > 0 || parked.get().coming > 0 {
            return false;
        }
        let promoted = parked.remove().promoted;
        self.promoted -= usize::from(promoted);
        if self.series.is_empty() {
            *self = Self::default();
        }
        promoted
    }

    /// The jobs and metrics of which the most series were parked since nothing was.
    pub(super) fn most(&self, count: usize) -> Vec<(String, u64)> {
        let mut names: Vec<_> = self.names.iter().map(|(name, series)| (name.clone(), *series)).collect();
        names.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        names.truncate(count);
        names
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // A control byte for each slot of the table.
        self.series.capacity() * (size_of::<(u64, Parked)>() + 1)
    }
}

fn name_of(labels: &[(&str, &str)]) -> String {
    let of = |wanted: &str| labels.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
    format!("{} of job {}", of("__name__"), of("job"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(metric: &'static str) -> [(&'static str, &'static str); 2] {
        [("__name__", metric), ("job", "api")]
    }

    #[test]
    fn a_series_is_parked_until_all_of_it_has_gone() {
        let mut parked = ParkedSeries::default();
        assert_eq!(parked.add(1), None);
        assert_eq!(parked.begin(1, 3, &labels("a")), Some(3));
        parked.begin(2, 5, &labels("b"));
        parked.begin(3, 5, &labels("b"));
        assert_eq!(parked.add(1), Some(3));
        for series in [1, 1, 2, 3] {
            assert!(!parked.arrived(series, true));
        }
        parked.promote(1);
        assert!(parked.has_promoted());
        assert!(!parked.remove(1) && parked.remove(1), "two entries");
        assert!(!parked.has_promoted());
        assert_eq!(parked.add(1), None);
        assert!(!parked.remove(2), "gone without having been taken");
        assert_eq!(parked.len(), 1);
        assert_eq!(parked.most(1), [("b of job api".to_owned(), 2)]);
    }

    #[test]
    fn a_pass_finds_out_what_is_not_there_any_more_and_leaves_what_is_coming() {
        let mut parked = ParkedSeries::default();
        for series in 0..4 {
            parked.begin(series, series as usize, &labels("a"));
            parked.arrived(series, true);
            parked.add(series);
            parked.arrived(series, series != 3);
            parked.promote(series);
        }
        // The spool gave up one of the two entries of series 0, both of 1 and 2; one of 2 is on its way.
        parked.add(2);
        parked.begin_pass();
        assert!(!parked.remove(0));
        parked.add(0);
        assert!(parked.remove(3), "its second one was not stored");
        assert_eq!(parked.end_pass(0..2), [1]);
        assert!(parked.is_promoted(0) && parked.is_promoted(2));
        assert!(parked.end_pass(2..4).is_empty());
        assert!(!parked.arrived(2, true) && parked.remove(2));
        assert!(!parked.arrived(0, true) && parked.remove(0));
        assert_eq!(parked.len(), 0);
    }

    #[test]
    fn what_stays_is_parked_still() {
        let mut parked = ParkedSeries::default();
        parked.begin(1, 0, &labels("a"));
        parked.arrived(1, true);
        parked.begin_pass();
        parked.refuse(1);
        assert!(parked.is_refused(1));
        parked.stay(1);
        assert!(!parked.remove(1));
        assert!(parked.end_pass(0..SLOTS).is_empty());
        assert_eq!(parked.len(), 1);
        parked.begin_pass();
        assert!(!parked.is_refused(1));
    }
}
