use bytes::Bytes;
use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, LedgerSnapshot, RecoveryReport, SpoolCore, SpoolOptions,
};
use promferry_remote_write::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};

use crate::input::take_byte;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const RECORDS: u8 = 8;

/// One file of a small spool is damaged, then the spool is opened, read to its end, settled and opened again. The
/// first byte says which file, the second what the rest is: its new content, bytes to be flipped (place and mask), or
/// what stands there from a place on.
pub fn spool(data: &[u8]) {
    let mut data = data;
    let (file, how) = (usize::from(take_byte(&mut data)), take_byte(&mut data));
    let disk = filled();
    let files = disk.files();
    let Some((path, content)) = files.iter().nth(file % files.len().max(1)) else { return };
    let mut content = content.clone();
    match how % 3 {
        0 => content = data.to_vec(),
        1 => {
            for flip in data.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([flip[0], flip[1]]));
                if let Some(length) = content.len().checked_sub(1) {
                    content[at.min(length)] ^= flip[2];
                }
            }
        }
        _ => {
            let at = usize::from(u16::from_le_bytes([take_byte(&mut data), take_byte(&mut data)]));
            content.truncate(at);
            content.extend_from_slice(data);
        }
    }
    disk.put(path, &content);

    let Some((mut core, endpoint, _)) = open(&disk) else { return };
    drain(&mut core, endpoint);
    let ledger = ledger(&core, endpoint);
    assert!(ledger.pending.is_zero(), "{path}: {ledger:?}");
    core.close(NOW);
    drop(core);
    let Some((mut core, endpoint, report)) = open(&disk) else { panic!("{path}: it opens once only") };
    assert_eq!(self::ledger(&core, endpoint), ledger, "{path}: {report:?}");
    drain(&mut core, endpoint);
}

/// Three segments, a cursor and a key file; two records are settled.
fn filled() -> SimDisk {
    let disk = SimDisk::new();
    let Some((mut core, endpoint, _)) = open(&disk) else { panic!("an empty spool can be opened") };
    let Ok(log) = core.open_log("profile") else { panic!("a log can be opened") };
    for id in 0..RECORDS {
        let fragment = Fragment {
            lane: Lane::of_hash(u64::from(id % 3)),
            protocol: Protocol::V1,
            compression: Compression::None,
            counts: Counts { samples: u64::from(id) + 1, histograms: u64::from(id % 2), exemplars: 0 },
            raw_len: 200,
            min_timestamp: NOW,
            max_timestamp: NOW,
            body: Bytes::from(vec![id; 200]),
        };
        if let Err(error) = core.append_all(NOW, &[(log, vec![fragment])]) {
            panic!("a healthy disk refuses: {error}");
        }
    }
    let Ok(fetched) = core.fetch(NOW, endpoint, LaneSet::ALL, 450) else { panic!("it is attached") };
    for stored in fetched.iter().take(2) {
        let _ = core.settle(endpoint, stored.fragment.lane, stored.position, stored.fragment.counts, &[]);
    }
    core.close(NOW);
    disk.restart();
    disk
}

fn open(disk: &SimDisk) -> Option<(SpoolCore<SimStorage>, EndpointId, RecoveryReport)> {
    let options = SpoolOptions { segment_bytes: 900, ..SpoolOptions::default() };
    let (mut core, report) = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).ok()?;
    let log = core.open_log("profile").ok()?;
    let endpoint = core.attach("endpoint", log, EndpointOptions::default()).ok()?;
    Some((core, endpoint, report))
}

/// Fetches and settles until nothing more comes. Each fragment comes at most once.
fn drain(core: &mut SpoolCore<SimStorage>, endpoint: EndpointId) {
    let mut left = usize::from(RECORDS) * 2;
    loop {
        let Ok(fetched) = core.fetch(NOW, endpoint, LaneSet::ALL, 600) else { panic!("it is attached") };
        if fetched.is_empty() {
            break;
        }
        for stored in fetched {
            assert!(left > 0, "more comes out than was put in");
            left -= 1;
            let counts = stored.fragment.counts;
            let _ = core.settle(endpoint, stored.fragment.lane, stored.position, counts, &[]);
        }
        let _ = ledger(core, endpoint);
    }
}

fn ledger(core: &SpoolCore<SimStorage>, endpoint: EndpointId) -> LedgerSnapshot {
    let Ok(ledger) = core.ledger(endpoint) else { panic!("it is attached") };
    assert!(ledger.balances(), "{ledger:?}");
    ledger
}
