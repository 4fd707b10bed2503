//! An endpoint that is away for longer than the spool has room for.

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::sim::SimDisk;
use promferry_remote_write::spool::{EndpointOptions, Reason, SpoolCore, SpoolOptions};
use promferry_remote_write::{Counts, LaneSet};

use crate::world::{BODY, fragment};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

#[test]
fn what_the_spool_has_no_room_for_is_counted_when_it_goes_though_older_samples_are_in_flight() {
    let disk = SimDisk::new();
    let options = SpoolOptions { max_bytes: Some(12_000), segment_bytes: 1_500, ..SpoolOptions::default() };
    let open = || {
        let budget = MemoryBudget::unlimited();
        let (mut core, _) = SpoolCore::open(disk.storage(), options.clone(), budget, NOW).unwrap();
        let log = core.open_log("x").unwrap();
        let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
        (core, log, endpoint)
    };
    let (mut core, log, endpoint) = open();
    let append = |core: &mut SpoolCore<_>, ids: std::ops::Range<u32>| {
        for id in ids {
            core.append_all(NOW, &[(log, vec![fragment(id, NOW.as_millis())])]).unwrap();
        }
    };
    append(&mut core, 0..10);
    let in_flight = core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(in_flight.len(), 10);
    let mut dropped = Counts::default();
    for round in 1..40 {
        append(&mut core, 10 * round..10 * (round + 1));
        let stats = core.stats();
        let (stored, stats) = (stats.logs[0].bytes, &stats.endpoints[0]);
        assert!(stats.ledger.balances(), "{stats:?}");
        assert!(
            stats.pending_bytes <= stored + (in_flight.len() * BODY) as u64,
            "more is said to wait than there is: {stats:?}, {stored} bytes"
        );
        let now = stats.ledger.dropped_for(&Reason::SPOOL_FULL);
        assert!(round < 8 || now.samples > dropped.samples, "round {round}: nothing was dropped: {stats:?}");
        dropped = now;
    }
    // What is in flight may still be delivered, unless the process ends.
    let before = core.ledger(endpoint).unwrap();
    for f in &in_flight {
        core.settle(endpoint, f.fragment.lane, f.position, f.fragment.counts, &[]).unwrap();
    }
    let ledger = core.ledger(endpoint).unwrap();
    assert!(ledger.balances());
    assert_eq!(ledger.dropped, before.dropped);
    assert_eq!(core.stats().settle_mismatches, 0);
    drop(core);
    let (core, _, endpoint) = open();
    assert_eq!(core.ledger(endpoint).unwrap(), ledger);
}
