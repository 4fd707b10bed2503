use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Says each kind of trouble at most once a minute, with how often it happened since.
#[derive(Debug, Default)]
pub(super) struct Notices {
    said: Mutex<HashMap<&'static str, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Duration,
    unsaid: u64,
    /// It happened since it last was well.
    lasts: bool,
}

const INTERVAL: Duration = Duration::from_secs(60);
/// Kinds of trouble that are over when a request was taken.
const ENDED_BY_SUCCESS: [&str; 2] = ["retry", "denied"];

impl Notices {
    pub(super) fn warn(&self, now: Duration, kind: &'static str, text: &str) {
        if let Some(more) = self.due(now, kind) {
            tracing::warn!("{text}{more}");
        }
    }

    pub(super) fn error(&self, now: Duration, kind: &'static str, text: &str) {
        if let Some(more) = self.due(now, kind) {
            tracing::error!("{text}{more}");
        }
    }

    /// Says that it works again, if trouble was said before; once a minute at most, as trouble is.
    pub(super) fn recovered(&self, now: Duration, endpoint: &str) {
        let mut had_trouble = false;
        for said in
            self.said().iter_mut().filter_map(|(kind, said)| ENDED_BY_SUCCESS.contains(kind).then_some(said))
        {
            had_trouble |= std::mem::replace(&mut said.lasts, false);
        }
        if had_trouble && let Some(more) = self.due(now, "recovered") {
            tracing::info!("{endpoint}: accepts data again{more}");
        }
    }

    fn due(&self, now: Duration, kind: &'static str) -> Option<String> {
        let mut said = self.said();
        match said.get_mut(kind) {
            Some(said) if now < said.at + INTERVAL => {
                (said.unsaid, said.lasts) = (said.unsaid + 1, true);
                None
            }
            known => {
                let unsaid = known.map_or(0, |said| said.unsaid);
                said.insert(kind, Said { at: now, unsaid: 0, lasts: true });
                Some(if unsaid == 0 {
                    String::new()
                } else {
                    format!(" ({unsaid} more like it since last said)")
                })
            }
        }
    }

    fn said(&self) -> MutexGuard<'_, HashMap<&'static str, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_said_once_a_minute_with_what_was_left_out() {
        let notices = Notices::default();
        let at = Duration::from_secs;
        assert_eq!(notices.due(at(0), "retry").as_deref(), Some(""));
        assert_eq!(notices.due(at(1), "retry"), None);
        assert_eq!(notices.due(at(2), "refused").as_deref(), Some(""));
        assert_eq!(notices.due(at(59), "retry"), None);
        assert_eq!(notices.due(at(61), "retry").as_deref(), Some(" (2 more like it since last said)"));
    }
}
