use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;

use crate::encode::DuplicateSeries;

/// Names series that are not sent because others leave under their labels: in the log one for each target that was there
/// first, once a minute at most and again after an hour; and the latest for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct DuplicateNotices(Mutex<Noticed>);

#[derive(Debug, Default)]
struct Noticed {
    latest: VecDeque<DuplicateSeries>,
    said: Option<Duration>,
    /// When it was said of a target last that it was there first.
    said_of: HashMap<SmolStr, Duration>,
    unsaid: u64,
}

const KEPT: usize = 20;
const INTERVAL: Duration = Duration::from_secs(60);
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(3600);

impl DuplicateNotices {
    pub(crate) fn say(&self, now: Duration, duplicate: DuplicateSeries) {
        let mut noticed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |said: &Duration| now < *said + SAID_AGAIN_AFTER;
        noticed.said_of.retain(|_, said| is_old(said));
        let is_due = noticed.said.is_none_or(|said| now >= said + INTERVAL);
        if is_due && !noticed.said_of.contains_key(&duplicate.owner) {
            let DuplicateSeries { labels, owner } = &duplicate;
            // A URL's query may hold a token.
            let owner = owner.split('?').next().unwrap_or_default();
            let more = match std::mem::take(&mut noticed.unsaid) {
                0 => String::new(),
                unsaid => format!(" ({unsaid} more like it since last said)"),
            };
            tracing::warn!(
                "two targets write the same series: {labels} is not sent to every endpoint, because with external \
                 labels and write relabelling it has the same labels as a series of {owner} that was there first; \
                 give the targets labels that tell them apart{more}"
            );
            noticed.said = Some(now);
            noticed.said_of.insert(duplicate.owner.clone(), now);
        } else {
            noticed.unsaid += 1;
        }
        if noticed.latest.len() == KEPT {
            noticed.latest.pop_front();
        }
        noticed.latest.push_back(duplicate);
    }

    pub(crate) fn latest(&self) -> Vec<DuplicateSeries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).latest.iter().cloned().collect()
    }
}
