//! A target among others: those of its address and those of its labels.

use promferry_model::{Sink, Timestamp};

use super::{Assignment, Order, TargetLoop};
use crate::alike::{self, Likeness};
use crate::gate::{GateLimits, Membership, Pass};
use crate::notices::Event;
use crate::{Schedule, Target};

/// A target's place among others.
pub(super) struct Place {
    /// Those of its address.
    membership: Membership,
    /// They are more than may be scraped at once.
    is_crowded: bool,
    /// Those of its labels.
    _likeness: Likeness,
}

/// What came of waiting at an address that is shared.
pub(super) enum Entered {
    /// The scrape goes on at its moment.
    Now(Option<Pass>),
    /// It does at a later one.
    After(Pass, Timestamp),
    /// There is something else to do; the scrape of this moment waits still.
    Changed(Timestamp),
}

impl<S: Sink> TargetLoop<'_, S> {
    pub(super) fn schedule(&self, target: &Target) -> Schedule {
        let (interval, identity, seed) =
            (target.scrape_interval(), target.identity(), self.context.phase_seed);
        match &self.place {
            Some(Place { is_crowded: true, .. }) => Schedule::spread(interval, identity, seed),
            _ => Schedule::new(interval, identity, seed),
        }
    }

    /// Takes the target's place among those of its address and of its labels.
    pub(super) fn take_place(&mut self, assignment: &Assignment) {
        let Assignment { job, target, .. } = assignment;
        let context = self.context;
        let membership = match self.place.take() {
            Some(Place { membership, .. }) if *membership.address() == target.connect_address() => membership,
            _ => context.gates.join(target),
        };
        let likeness = context.alike.enter(&job.name, target);
        if likeness.is_alike()
            && let Some(more) = context.notices.due(Event::TargetsAlike)
        {
            let (labels, rule) = (target.public_labels(), alike::rule_for(target));
            tracing::warn!(
                job = %job.name, target = target.url_without_query(), %labels,
                "targets differ in how they are reached and not in their labels: only one of them can write a series, \
                 the others' are refused; add a rule such as {rule}{more}"
            );
        }
        if target.ignores_gateway_labels()
            && let Some(more) = context.notices.due(Event::LabelsIgnored)
        {
            tracing::warn!(
                job = %job.name, target = target.url_without_query(),
                "discovery brought __host__ or __header_…, which only rules of relabel_configs may set: ignored{more}"
            );
        }
        self.place = Some(Place { membership, is_crowded: false, _likeness: likeness });
        self.spread(assignment);
    }

    pub(super) fn spread(&mut self, assignment: &Assignment) {
        if let Some(place) = &mut self.place {
            let limits = GateLimits::of(&assignment.job, &assignment.target);
            place.is_crowded = place.membership.shared().is_some_and(|gate| gate.is_crowded(limits));
        }
    }

    /// Waits until the target's address takes another scrape. A target that waits for longer than an interval keeps
    /// its place in line.
    pub(super) async fn enter(&mut self, assignment: &Assignment, due: Timestamp, is_first: bool) -> Entered {
        let shared = self.place.as_ref().and_then(|place| place.membership.shared());
        let Some(gate) = shared.filter(|_| assignment.over_target_limit.is_none()).cloned() else {
            return Entered::Now(None);
        };
        let Assignment { job, target, .. } = assignment;
        let mut entering = Box::pin(gate.enter(GateLimits::of(job, target)));
        let (mut latest, schedule) = (due, self.schedule(target));
        loop {
            let next = schedule.next_after(latest).since(self.context.clock.now());
            tokio::select! {
                biased;
                pass = entering.as_mut() => {
                    return if latest == due { Entered::Now(Some(pass)) } else { Entered::After(pass, latest) };
                }
                () = self.shared.changed.notified() => {
                    let now = self.shared.assignment();
                    if now.order != Order::Scrape || now.revision != assignment.revision {
                        return Entered::Changed(latest);
                    }
                }
                () = tokio::time::sleep(next) => {
                    let (moment, mut missed) = schedule.latest(latest, self.context.clock.now());
                    if is_first && latest == due {
                        // The prompt first scrape becomes that of the target's own moment.
                        missed = missed.saturating_sub(1);
                    }
                    latest = moment;
                    self.shared.stats.missed("gateway", missed);
                    gate.count_missed(missed);
                    if missed > 0 && let Some(more) = self.context.notices.due(Event::GatewayFull) {
                        tracing::warn!(
                            job = %job.name, target = target.url_without_query(), address = %target.connect_address(),
                            "an address does not take as many scrapes as are due{more}: where it asks for pauses \
                             (promferry_gateway_throttled_total) or gateway.requests_per_second is the limit, raise \
                             the scrape_interval; else gateway.max_in_flight, if the server takes more"
                        );
                    }
                }
                settled = self.tickets.next() => self.settle(settled),
            }
        }
    }
}
