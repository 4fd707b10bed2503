use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use super::refused::{self, Judged};
use super::request::{Part, Sender, Settlement, halves};
use crate::encode;
use crate::limits::{ProbeTurn, Sorting, Way};
use crate::refusal::{Meaning, Refusal};
use crate::spool::{Reason, Settled};
use crate::{Fragment, Lane};

/// A request to be made, and what is known about its series.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) kind: Kind,
    pub(super) parts: Vec<Part>,
}

/// What is known about the series of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing yet.
    Unsorted,
    /// The endpoint should take them; when they were sorted a lasting limit was in force or not.
    Sorted { limited: bool },
    /// The endpoint may take them.
    Test,
    /// They were held out.
    Probe,
}

impl Kind {
    /// What is known about the parts of a request that is made in parts: what was found out about some of them
    /// meanwhile may be about the others, too.
    pub(super) const fn of_parts(self) -> Self {
        match self {
            Self::Sorted { .. } => Self::Unsorted,
            kind => kind,
        }
    }
}

impl Group {
    pub(super) fn new(parts: Vec<Part>) -> Self {
        Self { kind: Kind::Unsorted, parts }
    }
}

impl Sender {
    /// Sorts a group's series by what is known about them: what is to be parked or dropped goes to the
    /// settlements, what needs a request of its own to the front of `work`. Returns what is to be sent now.
    pub(super) fn sort_out(
        &self,
        way: Way,
        group: Group,
        work: &mut VecDeque<Group>,
        settlements: &mut [Settlement],
    ) -> Option<Group> {
        let limited = way == Way::Parked || self.limits.is_limited();
        match group.kind {
            Kind::Unsorted if way == Way::Queue && !self.limits.is_sorting() => {
                return Some(Group { kind: Kind::Sorted { limited: false }, ..group });
            }
            Kind::Sorted { .. } | Kind::Probe => return Some(group),
            Kind::Unsorted | Kind::Test => {}
        }
        let mut turn = match group.kind {
            Kind::Unsorted => self.limits.begin_request(),
            _ => ProbeTurn::default(),
        };
        let (mut go, mut test, mut probe) = (Vec::new(), Vec::new(), Vec::new());
        for Part { of, fragment } in group.parts {
            let Ok(sorting) = self.limits.sort(way, &fragment, &mut turn) else {
                // That it can't be read is found where it is encoded.
                go.push(Part { of, fragment });
                continue;
            };
            let Sorting { go: takes, test: may_take, probe: held, parked, dropped } = sorting;
            go.extend(takes.map(|fragment| Part { of, fragment }));
            test.extend(may_take.map(|fragment| Part { of, fragment }));
            probe.extend(held.map(|fragment| Part { of, fragment }));
            settlements[of].park(parked);
            settlements[of].dropped.extend(dropped);
        }
        let mut groups = Vec::with_capacity(3);
        for (kind, parts) in [(Kind::Sorted { limited }, go), (Kind::Test, test), (Kind::Probe, probe)] {
            if !parts.is_empty() {
                groups.push(Group { kind, parts });
            }
        }
        let mut groups = groups.into_iter();
        let first = groups.next();
        for group in groups.rev() {
            work.push_front(group);
        }
        let first = first?;
        if first.kind == Kind::Test { self.cut_to_size(way, first, work) } else { Some(first) }
    }

    /// A test that is larger than the next one should be is split, unsent.
    fn cut_to_size(&self, way: Way, test: Group, work: &mut VecDeque<Group>) -> Option<Group> {
        if values(&test.parts) <= self.limits.test_size(way) {
            return Some(test);
        }
        match halves(test.parts) {
            Ok((first, second)) => {
                work.push_front(Group { kind: Kind::Test, parts: second });
                work.push_front(Group { kind: Kind::Test, parts: first });
                None
            }
            Err(part) => Some(Group { kind: Kind::Test, parts: vec![part] }),
        }
    }

    /// What the endpoint took tells what it knows.
    pub(super) fn learn(&self, way: Way, kind: Kind, parts: &[Part]) {
        for part in parts {
            self.limits.delivered(way, &part.fragment);
        }
        match kind {
            Kind::Test => self.limits.tested(way, values(parts), true),
            Kind::Probe => self.limits.probed_held(&fragments(parts), true),
            Kind::Unsorted | Kind::Sorted { .. } => {}
        }
    }

    /// A lasting limit was the answer to a group.
    pub(super) fn divide_limited(
        &self,
        way: Way,
        group: Group,
        refusal: &Refusal,
        work: &mut VecDeque<Group>,
        settlements: &mut [Settlement],
    ) {
        if group.kind != Kind::Probe || self.limits.is_limited() {
            self.limits.limited(refusal);
        }
        match group.kind {
            Kind::Unsorted | Kind::Sorted { limited: false } => {
                work.push_front(Group { kind: Kind::Unsorted, ..group });
            }
            Kind::Sorted { limited: true } => {
                // What was believed of one of them at least does not hold any more.
                self.limits.doubt(way, group.parts.iter().map(|part| &part.fragment));
                work.push_front(Group { kind: Kind::Test, ..group });
            }
            Kind::Test => {
                let values = values(&group.parts);
                self.limits.tested(way, values, false);
                if values > 1 && self.limits.may_test(way) {
                    match halves(group.parts) {
                        Ok((first, second)) => {
                            work.push_front(Group { kind: Kind::Test, parts: second });
                            work.push_front(Group { kind: Kind::Test, parts: first });
                        }
                        Err(part) => self.park(way, vec![part], settlements),
                    }
                } else {
                    self.park(way, group.parts, settlements);
                }
            }
            Kind::Probe => {
                // They may be taken for what they are, once there is room for them.
                self.limits.probed_held(&fragments(&group.parts), false);
                self.park(way, group.parts, settlements);
            }
        }
    }

    /// Holds out what was refused for what it is, and will be again.
    pub(super) fn hold_out(&self, kind: Kind, probed: &[Fragment], judged: &Judged) {
        let lasting = |found: &&refused::Found| {
            found.class.lasting && matches!(found.class.meaning, Meaning::Samples | Meaning::Exemplars)
        };
        let mut named = false;
        for found in judged.found.iter().filter(lasting) {
            self.limits.hold_out(found.fingerprint, &found.class.reason);
            named = true;
        }
        if kind == Kind::Probe && !named {
            self.limits.probed_held(probed, false);
        }
    }

    fn park(&self, way: Way, parts: Vec<Part>, settlements: &mut [Settlement]) {
        for Part { of, fragment } in parts {
            match self.limits.park(way, &fragment) {
                Ok(Sorting { parked, dropped, .. }) => {
                    settlements[of].park(parked);
                    settlements[of].dropped.extend(dropped);
                }
                Err(_) => settlements[of].dropped.push((Reason::CORRUPT, fragment.counts)),
            }
        }
    }
}

impl Settlement {
    /// Counts what goes to the parked queue, where it may stay for an hour.
    pub(super) fn park(&mut self, fragments: Vec<Fragment>) {
        for fragment in fragments {
            self.dropped.push((Reason::PARKED, fragment.counts));
            self.parked.push(encode::compressed(fragment));
        }
    }
}

/// What became of a request's fragments: once a lane, up to the last of it; and what of each lane goes to the
/// parked queue.
pub(super) fn by_lane(settlements: Vec<Settlement>) -> (Vec<Settled>, Vec<(Lane, Vec<Fragment>)>) {
    let mut lanes: BTreeMap<Lane, Settled> = BTreeMap::new();
    let mut parked: BTreeMap<Lane, Vec<Fragment>> = BTreeMap::new();
    for Settlement { lane, position, delivered, dropped, parked: later, .. } in settlements {
        if !later.is_empty() {
            parked.entry(lane).or_default().extend(later);
        }
        match lanes.entry(lane) {
            Entry::Vacant(entry) => {
                entry.insert(Settled { lane, position, delivered, dropped });
            }
            Entry::Occupied(mut entry) => {
                let settled = entry.get_mut();
                settled.position = settled.position.max(position);
                settled.delivered += delivered;
                settled.dropped.extend(dropped);
            }
        }
    }
    (lanes.into_values().collect(), parked.into_iter().collect())
}

fn values(parts: &[Part]) -> usize {
    parts.iter().map(|part| part.fragment.counts.values()).sum::<u64>() as usize
}

pub(super) fn fragments(parts: &[Part]) -> Vec<Fragment> {
    parts.iter().map(|part| part.fragment.clone()).collect()
}
