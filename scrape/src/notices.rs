//! What is logged once a minute at most, however many targets it happens to.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Something that may happen to all targets at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    ClockSetBack,
    NotStored,
    LoopPanic,
    StorePanic,
    GatewayFull,
    LabelsIgnored,
    TargetsAlike,
}

/// When each [`Event`] was said last, and how often it happened since.
#[derive(Debug, Default)]
pub(crate) struct Notices(Mutex<HashMap<Event, (Instant, u64)>>);

const BETWEEN: Duration = Duration::from_secs(60);

impl Notices {
    /// Whether to say it now: what to add about those times that were not said.
    pub(crate) fn due(&self, event: Event) -> Option<String> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match said.get_mut(&event) {
            Some((at, unsaid)) if now - *at < BETWEEN => {
                *unsaid += 1;
                None
            }
            known => {
                let unsaid = known.map_or(0, |(_, unsaid)| *unsaid);
                said.insert(event, (now, 0));
                Some(if unsaid == 0 { String::new() } else { format!(" ({unsaid} more since last said)") })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_event_is_due_once_a_minute_with_the_number_of_those_between() {
        let notices = Notices::default();
        assert_eq!(notices.due(Event::NotStored).as_deref(), Some(""));
        assert_eq!(notices.due(Event::NotStored), None);
        assert_eq!(notices.due(Event::ClockSetBack).as_deref(), Some(""));
        tokio::time::advance(BETWEEN / 2).await;
        assert_eq!(notices.due(Event::NotStored), None);
        tokio::time::advance(BETWEEN / 2).await;
        assert_eq!(notices.due(Event::NotStored).as_deref(), Some(" (2 more since last said)"));
        assert_eq!(notices.due(Event::NotStored), None);
    }
}
