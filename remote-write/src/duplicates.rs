use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::encode::DuplicateSeries;

/// Names series that are not sent because others leave under their labels: in the log once a minute, and the
/// latest for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct DuplicateNotices(Mutex<Noticed>);

#[derive(Debug, Default)]
struct Noticed {
    latest: VecDeque<DuplicateSeries>,
    said: Option<Duration>,
    unsaid: u64,
}

const KEPT: usize = 20;
const INTERVAL: Duration = Duration::from_secs(60);

impl DuplicateNotices {
    pub(crate) fn say(&self, now: Duration, duplicate: DuplicateSeries) {
        let mut noticed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.said.is_none_or(|said| now >= said + INTERVAL) {
            let DuplicateSeries { labels, owner } = &duplicate;
            let more = match std::mem::take(&mut noticed.unsaid) {
                0 => String::new(),
                unsaid => format!(" ({unsaid} more like it since last said)"),
            };
            tracing::warn!(
                "{labels}: not sent to every endpoint, because with external labels and write relabelling it \
                 has the same labels as a series of {owner} that was there first{more}"
            );
            noticed.said = Some(now);
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
