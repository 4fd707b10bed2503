use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promferry_model::Timestamp;

use super::stats::EndpointStats;
use crate::Protocol;
use crate::spool::{EndpointId, ProtocolChoice, Spool};

/// Which message an endpoint is sent: the configured one until it is refused, then the one that is taken.
///
/// Where 2.0 is configured and refused, 1.0 is sent instead, which is remembered over restarts. Once a day one
/// request asks again: whatever is answered to it but a success, it is sent again as 1.0.
pub(super) struct Negotiation {
    configured: Protocol,
    fallback: bool,
    url_hash: u64,
    state: Mutex<State>,
    stats: Arc<EndpointStats>,
    memory: Option<(Spool, EndpointId)>,
}

/// How an attempt is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) protocol: Protocol,
    /// Whether it only asks if 2.0 is taken by now.
    pub(super) probe: bool,
}

#[derive(Debug)]
struct State {
    protocol: Protocol,
    probing: bool,
    probe_at: Timestamp,
}

/// How long 1.0 is sent before 2.0 is tried again.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// The same after a probe that was answered neither with yes nor with no.
const INCONCLUSIVE_INTERVAL: Duration = Duration::from_secs(10 * 60);

impl Negotiation {
    /// Starts with what an earlier run found out at this URL, if it did; `url_hash` is of nothing that is secret in it.
    pub(super) fn new(
        configured: Protocol,
        fallback: bool,
        url_hash: u64,
        known: Option<ProtocolChoice>,
        now: Timestamp,
        stats: Arc<EndpointStats>,
    ) -> Self {
        let fallback = fallback && configured == Protocol::V2;
        let known = known.filter(|choice| fallback && choice.url_hash == url_hash);
        let protocol = known.map_or(configured, |choice| choice.protocol);
        // A clock that was set back must not put the next probe off for longer than from now.
        let chosen_at = known.map_or(now, |choice| choice.chosen_at.min(now));
        stats.set_protocol(protocol, protocol != configured);
        let state = State { protocol, probing: false, probe_at: chosen_at.saturating_add(PROBE_INTERVAL) };
        Self { configured, fallback, url_hash, state: Mutex::new(state), stats, memory: None }
    }

    /// Where choices are remembered.
    pub(super) fn remember_in(mut self, spool: Spool, endpoint: EndpointId) -> Self {
        self.memory = Some((spool, endpoint));
        self
    }

    /// The message that is sent now.
    pub(super) fn protocol(&self) -> Protocol {
        self.state().protocol
    }

    /// How the next attempt is to be made. One that is a probe has to be followed by [`taken`](Self::taken),
    /// [`refused`](Self::refused) or [`inconclusive`](Self::inconclusive).
    pub(super) fn offer(&self, now: Timestamp) -> Offer {
        let mut state = self.state();
        let probe =
            self.fallback && state.protocol == Protocol::V1 && !state.probing && now >= state.probe_at;
        if probe {
            state.probing = true;
            return Offer { protocol: Protocol::V2, probe };
        }
        Offer { protocol: state.protocol, probe }
    }

    /// The endpoint took this message.
    pub(super) fn taken(&self, offer: Offer, now: Timestamp) {
        // Only what was to find it out decides: other requests may have been on their way since before.
        if offer.probe {
            self.choose(offer.protocol, now);
        }
    }

    /// The endpoint does not know this message; what to try instead, if there is anything.
    pub(super) fn refused(&self, offer: Offer, now: Timestamp) -> Option<Offer> {
        match (self.fallback, offer.protocol) {
            (false, _) => None,
            (true, Protocol::V2) => {
                self.choose(Protocol::V1, now);
                Some(Offer { protocol: Protocol::V1, probe: false })
            }
            (true, Protocol::V1) => Some(Offer { protocol: Protocol::V2, probe: true }),
        }
    }

    /// What to configure where the endpoint refuses the only message that it may be sent.
    pub(super) fn advice(&self) -> Option<&'static str> {
        match (self.configured, self.fallback) {
            (Protocol::V1, _) => Some(
                "if it takes remote write 2.0 alone, `protobuf_message: auto` sends whichever message is taken",
            ),
            (Protocol::V2, false) => {
                Some("if it takes remote write 1.0 alone, `protobuf_fallback: true` sends that instead")
            }
            (Protocol::V2, true) => None,
        }
    }

    /// A probe was answered neither with yes nor with no.
    pub(super) fn inconclusive(&self, offer: Offer, now: Timestamp) {
        if offer.probe {
            let mut state = self.state();
            state.probing = false;
            state.probe_at = now.saturating_add(INCONCLUSIVE_INTERVAL);
        }
    }

    fn choose(&self, protocol: Protocol, now: Timestamp) {
        let mut state = self.state();
        *state = State { protocol, probing: false, probe_at: now.saturating_add(PROBE_INTERVAL) };
        self.stats.set_protocol(protocol, protocol != self.configured);
        if let Some((spool, endpoint)) = &self.memory {
            let choice = ProtocolChoice { protocol, chosen_at: now, url_hash: self.url_hash };
            spool.choose_protocol(*endpoint, choice);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const V1: Offer = Offer { protocol: Protocol::V1, probe: false };
    const V2: Offer = Offer { protocol: Protocol::V2, probe: false };
    const PROBE: Offer = Offer { protocol: Protocol::V2, probe: true };

    fn after(duration: Duration) -> Timestamp {
        NOW.saturating_add(duration)
    }

    fn negotiation(configured: Protocol, fallback: bool, known: Option<ProtocolChoice>) -> Negotiation {
        Negotiation::new(configured, fallback, 1, known, NOW, Arc::default())
    }

    #[test]
    fn nothing_is_tried_that_is_not_configured() {
        let fixed = negotiation(Protocol::V1, true, None);
        assert_eq!(fixed.refused(V1, NOW), None);
        assert_eq!(fixed.offer(after(10 * PROBE_INTERVAL)), V1);
        let forbidden = negotiation(Protocol::V2, false, None);
        assert_eq!(forbidden.refused(V2, NOW), None);
        assert_eq!(forbidden.offer(after(10 * PROBE_INTERVAL)), V2);
    }

    #[test]
    fn a_refused_2_0_is_asked_for_again_once_a_day_by_one_request() {
        let negotiation = negotiation(Protocol::V2, true, None);
        assert_eq!(negotiation.offer(NOW), V2);
        assert_eq!(negotiation.refused(V2, NOW), Some(V1));
        assert_eq!(negotiation.offer(after(PROBE_INTERVAL - Duration::from_millis(1))), V1);
        let day = after(PROBE_INTERVAL);
        assert_eq!(negotiation.offer(day), PROBE);
        assert_eq!(negotiation.offer(day), V1, "one at a time");
        assert_eq!(negotiation.refused(PROBE, day), Some(V1));
        assert_eq!(negotiation.offer(day), V1);
        let next = after(2 * PROBE_INTERVAL);
        assert_eq!(negotiation.offer(next), PROBE);
        negotiation.inconclusive(PROBE, next);
        assert_eq!(negotiation.offer(next), V1);
        let later = after(2 * PROBE_INTERVAL + INCONCLUSIVE_INTERVAL);
        assert_eq!(negotiation.offer(later), PROBE);
        negotiation.taken(PROBE, later);
        assert_eq!(negotiation.offer(later), V2);
    }

    #[test]
    fn an_endpoint_that_takes_only_2_0_by_now_gets_it() {
        let negotiation = negotiation(Protocol::V2, true, None);
        negotiation.refused(V2, NOW);
        assert_eq!(negotiation.refused(V1, NOW), Some(PROBE));
        assert_eq!(negotiation.protocol(), Protocol::V1, "not before it was taken");
        negotiation.taken(PROBE, NOW);
        assert_eq!(negotiation.protocol(), Protocol::V2);
        negotiation.taken(V1, NOW);
        assert_eq!(negotiation.protocol(), Protocol::V2, "that one was on its way before");
    }

    #[test]
    fn what_an_earlier_run_found_out_holds_where_it_was_found_out() {
        let choice = ProtocolChoice { protocol: Protocol::V1, chosen_at: NOW, url_hash: 1 };
        assert_eq!(negotiation(Protocol::V2, true, Some(choice)).protocol(), Protocol::V1);
        assert_eq!(negotiation(Protocol::V2, false, Some(choice)).protocol(), Protocol::V2);
        let elsewhere = ProtocolChoice { url_hash: 2, ..choice };
        assert_eq!(negotiation(Protocol::V2, true, Some(elsewhere)).protocol(), Protocol::V2);
        let v2 = ProtocolChoice { protocol: Protocol::V2, ..choice };
        assert_eq!(negotiation(Protocol::V1, true, Some(v2)).protocol(), Protocol::V1);
        let ahead = ProtocolChoice { chosen_at: after(30 * PROBE_INTERVAL), ..choice };
        assert_eq!(negotiation(Protocol::V2, true, Some(ahead)).offer(after(PROBE_INTERVAL)), PROBE);
    }
}
