//! What the parked queue gives up: what waits in it for too long or is too much.

use promferry_model::Timestamp;

use super::{Interrupted, LEFT, NEW, ParkedLoop, WINDOW_BYTES, lane, settlement_of};
use crate::delivery::limited::by_lane;
use crate::delivery::request::Settlement;
use crate::limits::SLOTS;
use crate::spool::{Backlog, EndpointId, Reason, StoredFragment};
use crate::{Fragment, Lane, LaneSet};

/// Of sixteen parts of the bytes that the parked queue may take: what is more than this many is dropped. What the
/// spool itself would drop has no limit's name. What a pass leaves is stored before what it read is removed, and an
/// eighth is set aside for the segment that grows: so this is less than half.
const KEPT_SIXTEENTHS: u64 = 6;
/// Beyond this many a pass drops what it leaves.
const FULL_SIXTEENTHS: u64 = 13;

impl ParkedLoop {
    /// Drops what is parked for too long, and of what is too much what stands first: what earlier passes left before
    /// what came since, so of each series the oldest.
    pub(super) async fn drop_old(&self, queue: EndpointId) -> Result<(), Interrupted> {
        // A pass that was interrupted leaves segments that are decided in part: of those only what waits counts.
        let backlog = self.spool.backlog(queue).await?;
        let mut excess = excess_over(KEPT_SIXTEENTHS, backlog.waiting_bytes, &backlog);
        let left = LEFT.iter().flat_map(|&bank| lanes_of_bank(bank)).collect();
        self.drop_first(queue, left, &mut excess).await?;
        self.drop_first(queue, lanes_of_bank(NEW).collect(), &mut excess).await
    }

    /// Drops what is too old, and other fragments while there is an excess.
    async fn drop_first(
        &self,
        queue: EndpointId,
        lanes: LaneSet,
        excess: &mut u64,
    ) -> Result<(), Interrupted> {
        let oldest = self.oldest();
        let reason = self.sender.limits.reason();
        loop {
            let fetched = self.spool.fetch(queue, lanes, WINDOW_BYTES).await?;
            let mut kept = LaneSet::EMPTY;
            let mut gone = Vec::new();
            for stored in &fetched {
                let lane = stored.fragment.lane;
                if kept.contains(lane) || !(*excess > 0 || is_before(&stored.fragment, oldest)) {
                    kept.insert(lane);
                    continue;
                }
                *excess = excess.saturating_sub(stored.fragment.body.len() as u64);
                gone.push(stored);
            }
            if !gone.is_empty() {
                let fragments: Vec<Fragment> = gone.iter().map(|stored| stored.fragment.clone()).collect();
                let dropped = |stored: &&StoredFragment| Settlement {
                    dropped: vec![(reason.clone(), stored.fragment.counts)],
                    ..settlement_of(stored)
                };
                let (settled, _) = by_lane(gone.iter().map(dropped).collect());
                self.spool.settle_all(queue, settled).await?;
                self.sender.limits.unparked(&fragments, &[]);
                self.say_given_up(fragments.iter().map(|one| one.counts.values()).sum(), &reason);
            }
            self.rewind(queue, kept).await?;
            if fetched.is_empty() || !kept.is_empty() {
                return Ok(());
            }
        }
    }

    /// Takes out what waits for too long.
    pub(super) fn leave_out_what_is_old(
        &self,
        request: Vec<StoredFragment>,
        reason: &Reason,
        settlements: &mut Vec<Settlement>,
    ) -> Vec<StoredFragment> {
        let oldest = self.oldest();
        let (old, rest) =
            request.into_iter().partition::<Vec<_>, _>(|stored| is_before(&stored.fragment, oldest));
        settlements.extend(old.iter().map(|stored| {
            let dropped = vec![(reason.clone(), stored.fragment.counts)];
            Settlement { dropped, ..settlement_of(stored) }
        }));
        rest
    }

    pub(super) fn say_given_up(&self, values: u64, reason: &Reason) {
        if values == 0 {
            return;
        }
        let text = format!(
            "{}: {values} parked samples are dropped ({reason}): they were not taken for too long or are too \
             many; most series: {}",
            self.sender.endpoint,
            self.most_parked()
        );
        self.sender.notices.error(self.sender.clock.monotonic(), "parked dropped", &text);
    }

    /// What is older is dropped.
    fn oldest(&self) -> Timestamp {
        self.sender.age.oldest(self.sender.limits.options().max_parked_age)
    }
}

/// Whether a pass has to drop what it leaves.
pub(super) fn is_full(backlog: &Backlog) -> bool {
    excess_over(FULL_SIXTEENTHS, backlog.bytes, backlog) > 0
}

/// How much more these bytes are than so many sixteenths of what the queue may take.
fn excess_over(sixteenths: u64, bytes: u64, backlog: &Backlog) -> u64 {
    bytes.saturating_sub(backlog.max_bytes / 16 * sixteenths)
}

fn is_before(fragment: &Fragment, oldest: Timestamp) -> bool {
    fragment.max_timestamp < oldest
}

fn lanes_of_bank(bank: usize) -> impl Iterator<Item = Lane> {
    (0..SLOTS).map(move |slot| lane(bank, slot))
}
