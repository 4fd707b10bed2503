use std::collections::{BTreeMap, HashMap};

/// How many lanes new samples in the parked queue take. A series keeps to one as long as something of it is
/// parked.
pub(crate) const SLOTS: usize = 16;

/// The most jobs and metrics that are counted by name; the rest is counted together.
const MAX_NAMES: usize = 512;

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
    slot: u8,
    /// Whether the endpoint takes it now: it stays parked until all of it that is parked is delivered.
    promoted: bool,
}

impl ParkedSeries {
    /// Adds to a series that is parked; its slot.
    pub(super) fn add(&mut self, fingerprint: u64) -> Option<usize> {
        let parked = self.series.get_mut(&fingerprint)?;
        parked.entries = parked.entries.saturating_add(1);
        Some(usize::from(parked.slot))
    }

    /// Parks a series that was not; returns the slot.
    pub(super) fn begin(&mut self, fingerprint: u64, slot: usize, labels: &[(&str, &str)]) -> usize {
        self.series.insert(fingerprint, Parked { entries: 1, slot: slot as u8, promoted: false });
        let name = name_of(labels);
        if self.names.len() < MAX_NAMES || self.names.contains_key(&name) {
            *self.names.entry(name).or_insert(0) += 1;
        } else {
            *self.names.entry("others".to_owned()).or_insert(0) += 1;
        }
        slot
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

    /// Whether there are series that the endpoint takes now.
    pub(super) const fn has_promoted(&self) -> bool {
        self.promoted > 0
    }

    pub(super) fn is_promoted(&self, fingerprint: u64) -> bool {
        self.series.get(&fingerprint).is_some_and(|parked| parked.promoted)
    }

    /// One less is parked of the series; says whether it was the last and the endpoint takes the series.
    pub(super) fn remove(&mut self, fingerprint: u64) -> bool {
        let Some(parked) = self.series.get_mut(&fingerprint) else { return false };
        parked.entries = parked.entries.saturating_sub(1);
        if parked.entries > 0 {
            return false;
        }
        let promoted = parked.promoted;
        self.promoted -= usize::from(promoted);
        self.series.remove(&fingerprint);
        if self.series.is_empty() {
            self.clear();
        }
        promoted
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
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

    #[test]
    fn a_series_is_parked_until_all_of_it_has_gone() {
        let labels = |metric| [("__name__", metric), ("job", "api")];
        let mut parked = ParkedSeries::default();
        assert_eq!(parked.add(1), None);
        assert_eq!(parked.begin(1, 3, &labels("a")), 3);
        parked.begin(2, 5, &labels("b"));
        parked.begin(3, 5, &labels("b"));
        assert_eq!(parked.add(1), Some(3));
        parked.promote(1);
        assert!(parked.has_promoted());
        assert!(!parked.remove(1) && parked.remove(1), "two entries");
        assert!(!parked.has_promoted());
        assert_eq!(parked.add(1), None);
        assert!(!parked.remove(2), "gone without having been taken");
        assert_eq!(parked.len(), 1);
        assert_eq!(parked.most(1), [("b of job api".to_owned(), 2)]);
    }
}
