//! Targets whose series would be the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use promferry_model::hash_labels;
use xxhash_rust::xxh3::xxh3_64;

use crate::Target;

/// How many targets there are with the same labels on their series, by a hash of job and labels.
#[derive(Clone, Default)]
pub(crate) struct Alike(Arc<Mutex<HashMap<u64, u32>>>);

impl Alike {
    /// Counts a target until what this gives is dropped.
    pub(crate) fn enter(&self, job: &str, target: &Target) -> Likeness {
        let key = hash_labels(target.public_labels(), xxh3_64(job.as_bytes()));
        let mut counts = self.lock();
        let count = counts.entry(key).or_default();
        *count += 1;
        Likeness { key, is_alike: *count > 1, alike: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One target among those of its labels.
pub(crate) struct Likeness {
    key: u64,
    is_alike: bool,
    alike: Alike,
}

impl Likeness {
    /// Whether another was there before.
    pub(crate) fn is_alike(&self) -> bool {
        self.is_alike
    }
}

impl Drop for Likeness {
    fn drop(&mut self) {
        let mut counts = self.alike.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// A rule that tells such targets apart by what they probably differ in.
pub(crate) fn rule_for(target: &Target) -> &'static str {
    if target.host().is_some() {
        "{source_labels: [__host__], target_label: instance}"
    } else if target.url().contains('?') {
        "{source_labels: [__param_target], target_label: instance}"
    } else if target.path() == "/metrics" {
        "{source_labels: [__address__], target_label: instance}"
    } else {
        "{source_labels: [__metrics_path__], target_label: instance}"
    }
}
