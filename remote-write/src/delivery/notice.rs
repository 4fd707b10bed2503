use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
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
}

const INTERVAL: Duration = Duration::from_secs(60);

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

    /// Says that it works again, if trouble was said before.
    pub(super) fn recovered(&self, endpoint: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let was_waiting = said.remove("retry").is_some() | said.remove("denied").is_some();
        if was_waiting {
            tracing::info!("{endpoint}: accepts data again");
        }
    }

    fn due(&self, now: Duration, kind: &'static str) -> Option<String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(kind) {
            Some(said) if now < said.at + INTERVAL => {
                said.unsaid += 1;
                None
            }
            known => {
                let unsaid = known.map_or(0, |said| said.unsaid);
                said.insert(kind, Said { at: now, unsaid: 0 });
                Some(if unsaid == 0 {
                    String::new()
                } else {
                    format!(" ({unsaid} more like it since last said)")
                })
            }
        }
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
