use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::words::in_minutes;

/// Says each kind of trouble when it begins and when it has another cause, once a minute at most; while it lasts as it
/// is, again after an hour, with how often it happened since.
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
    /// Since when.
    began: Duration,
    /// When it happened last.
    last: Duration,
    /// What was said of it since it began.
    causes: HashSet<String>,
}

const INTERVAL: Duration = Duration::from_secs(60);
/// The same is said again after this long.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// What did not happen for this long begins anew when it does.
const OVER_AFTER: Duration = Duration::from_secs(600);
/// Causes of one kind of trouble that are said while it lasts.
const CAUSES_SAID: usize = 10;
/// Kinds of trouble that are over when a request was taken.
const ENDED_BY_SUCCESS: [&str; 2] = ["retry", "denied"];

impl Notices {
    pub(super) fn warn(&self, now: Duration, kind: &'static str, text: &str) {
        if let Some(more) = self.due(now, kind, cause(text)) {
            tracing::warn!("{text}{more}");
        }
    }

    pub(super) fn error(&self, now: Duration, kind: &'static str, text: &str) {
        if let Some(more) = self.due(now, kind, cause(text)) {
            tracing::error!("{text}{more}");
        }
    }

    /// Says that it works again, if trouble was said before; once a minute at most, as trouble is.
    pub(super) fn recovered(&self, now: Duration, endpoint: &str) {
        let mut began: Option<Duration> = None;
        for said in
            self.said().iter_mut().filter_map(|(kind, said)| ENDED_BY_SUCCESS.contains(kind).then_some(said))
        {
            if std::mem::replace(&mut said.lasts, false) {
                began = Some(began.map_or(said.began, |other| other.min(said.began)));
            }
            said.causes.clear();
        }
        let Some(began) = began else { return };
        // Each recovery is one of its own.
        if let Some(said) = self.said().get_mut("recovered") {
            said.causes.clear();
        }
        if let Some(more) = self.due(now, "recovered", String::new()) {
            let lasted = in_minutes(now.saturating_sub(began));
            tracing::info!("{endpoint}: accepts data again after {lasted}{more}");
        }
    }

    /// What to add about those times that were not said; nothing when it is not to be said now.
    fn due(&self, now: Duration, kind: &'static str, cause: String) -> Option<String> {
        let mut said = self.said();
        let Some(known) = said.get_mut(kind) else {
            let causes = HashSet::from([cause]);
            said.insert(kind, Said { at: now, unsaid: 0, lasts: true, began: now, last: now, causes });
            return Some(String::new());
        };
        if now >= known.last + OVER_AFTER || now >= known.at + SAID_AGAIN_AFTER {
            known.causes.clear();
        }
        if !known.lasts || now >= known.last + OVER_AFTER {
            known.began = now;
        }
        (known.last, known.lasts) = (now, true);
        let is_new = known.causes.len() < CAUSES_SAID && !known.causes.contains(&cause);
        if now < known.at + INTERVAL || !is_new {
            known.unsaid += 1;
            return None;
        }
        known.causes.insert(cause);
        known.at = now;
        match std::mem::take(&mut known.unsaid) {
            0 => Some(String::new()),
            unsaid => Some(format!(" ({unsaid} more like it since last said)")),
        }
    }

    fn said(&self) -> MutexGuard<'_, HashMap<&'static str, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a text another one: its words but those with digits, such as ids, and of a series no more than its name.
fn cause(text: &str) -> String {
    let mut depth = 0_usize;
    let mut outside = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    let words = outside.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_said_once_a_minute_with_what_was_left_out() {
        let notices = Notices::default();
        let due =
            |second, kind, cause: &str| notices.due(Duration::from_secs(second), kind, cause.to_owned());
        assert_eq!(due(0, "retry", "503").as_deref(), Some(""));
        assert_eq!(due(1, "retry", "503"), None);
        assert_eq!(due(2, "refused", "label").as_deref(), Some(""));
        assert_eq!(due(59, "retry", "no route"), None);
        // The same is not said while it lasts, another cause is.
        assert_eq!(due(61, "retry", "503"), None);
        assert_eq!(due(62, "retry", "no route").as_deref(), Some(" (3 more like it since last said)"));
        assert_eq!(due(63, "retry", "503"), None);
        for second in (70..3600).step_by(300) {
            assert_eq!(due(second, "retry", "503"), None);
        }
        assert_eq!(due(3700, "retry", "503").as_deref(), Some(" (13 more like it since last said)"));
        // After a time without it, it has begun anew.
        assert_eq!(due(4400, "retry", "503").as_deref(), Some(""));
    }

    #[test]
    fn what_was_well_again_is_said_when_it_begins_anew() {
        let notices = Notices::default();
        let due = |second| notices.due(Duration::from_secs(second), "retry", "503".to_owned());
        assert!(due(0).is_some());
        notices.recovered(Duration::from_secs(10), "amp");
        assert_eq!(due(20), None);
        assert!(due(61).is_some());
        // Since what was not said, too.
        assert_eq!(notices.said()["retry"].began, Duration::from_secs(20));
    }

    #[test]
    fn numbers_and_labels_make_no_other_cause() {
        let text =
            |n: u32| format!("amp: {n} samples of up{{job=\"a{n}\", {{}} }} are dropped; again in {n} s");
        assert_eq!(cause(&text(1)), cause(&text(25)));
        let denied = |id| format!("amp: answered 403 Forbidden (request id {id}): no policy allows it");
        assert_eq!(cause(&denied("e8dc9e49-f5ef")), cause(&denied("7a94be42-81fb")));
        assert_ne!(cause("answered Bad Gateway"), cause("answered Service Unavailable"));
    }
}
