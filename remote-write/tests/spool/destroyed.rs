//! Each file of a spool with a backlog, destroyed in each way: what is stored is delivered, again if need be, or it is
//! counted under a reason, and it goes to nobody else.

use std::collections::{BTreeMap, BTreeSet};

use promferry_model::{MemoryBudget, SeededRng, Timestamp};
use promferry_remote_write::spool::sim::{SimDisk, SimStorage};
use promferry_remote_write::spool::{
    EndpointId, EndpointOptions, FsyncPolicy, LogId, Reason, RecoveryReport, Settled, SpoolCore,
    SpoolOptions, verify,
};
use promferry_remote_write::{Counts, Fragment, Lane, LaneSet};

use crate::world::{fragment, id_of, lane_of, sum};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
/// Endpoint, log, what it was given.
const ENDPOINTS: [(&str, &str, std::ops::Range<u32>); 3] =
    [("a", "x", 0..20), ("b", "x", 0..20), ("c", "y", 100..120)];

struct Opened {
    core: SpoolCore<SimStorage>,
    report: RecoveryReport,
    logs: BTreeMap<&'static str, LogId>,
    ids: BTreeMap<&'static str, EndpointId>,
}

fn options() -> SpoolOptions {
    SpoolOptions {
        segment_bytes: 1_500,
        cursor_file_bytes: 8_000,
        index_records: 6,
        ..SpoolOptions::default()
    }
}

fn open(disk: &SimDisk) -> Opened {
    let (mut core, report) =
        SpoolCore::open(disk.storage(), options(), MemoryBudget::unlimited(), NOW).unwrap();
    let (mut logs, mut ids) = (BTreeMap::new(), BTreeMap::new());
    for (key, log, _) in ENDPOINTS {
        let id = core.open_log(log).unwrap();
        logs.insert(log, id);
        ids.insert(key, core.attach(key, id, EndpointOptions::default()).unwrap());
    }
    Opened { core, report, logs, ids }
}

impl Opened {
    fn append(&mut self, log: &str, ids: impl IntoIterator<Item = u32>) {
        for id in ids {
            self.core.append_all(NOW, &[(self.logs[log], vec![fragment(id, 500)])]).unwrap();
        }
    }

    fn settle(&mut self, from: EndpointId, id: u32, position: promferry_remote_write::spool::Position) {
        self.core.settle(from, lane_of(id), position, sum(&[id]), &[]).unwrap();
    }

    /// What the endpoint is still to be sent, what is parked included.
    fn fetch(&mut self, key: &str, settles: bool) -> BTreeSet<u32> {
        let endpoint = self.ids[key];
        let mut all = BTreeSet::new();
        for from in [Some(endpoint), self.core.parked(endpoint)].into_iter().flatten() {
            let fetched = self.core.fetch(NOW, from, LaneSet::ALL, usize::MAX).unwrap();
            for lane in Lane::all() {
                let of_lane: Vec<_> = fetched.iter().filter(|f| f.fragment.lane == lane).collect();
                assert!(
                    of_lane.is_sorted_by(|a, b| id_of(&a.fragment) < id_of(&b.fragment)),
                    "{key}: {of_lane:?}"
                );
                if let Some(last) = of_lane.last().filter(|_| settles) {
                    let delivered = of_lane.iter().fold(Counts::default(), |sum, f| sum + f.fragment.counts);
                    self.core.settle(from, lane, last.position, delivered, &[]).unwrap();
                }
            }
            all.extend(fetched.iter().map(|f| id_of(&f.fragment)));
        }
        let ledger = self.core.ledger(endpoint).unwrap();
        assert!(ledger.balances(), "{key}: {ledger:?}");
        assert!(!settles || ledger.pending.is_zero(), "{key}: {ledger:?}");
        all
    }
}

/// Two endpoints of one log, of which one has settled a part, and one with a log of its own, a part of which is
/// parked; returns what each has settled.
fn spooled() -> (SimDisk, BTreeMap<&'static str, BTreeSet<u32>>) {
    let disk = SimDisk::new();
    let mut opened = open(&disk);
    opened.append("x", 0..20);
    opened.append("y", 100..120);
    opened.core.note_spread(7);
    let mut settled: BTreeMap<_, BTreeSet<u32>> = ENDPOINTS.map(|(key, ..)| (key, BTreeSet::new())).into();
    let (a, c) = (opened.ids["a"], opened.ids["c"]);
    for stored in opened.core.fetch(NOW, a, LaneSet::ALL, 6 * 300).unwrap() {
        let id = id_of(&stored.fragment);
        opened.settle(a, id, stored.position);
        settled.get_mut("a").unwrap().insert(id);
    }
    for stored in opened.core.fetch(NOW, c, LaneSet::ALL, 12 * 300).unwrap() {
        let id = id_of(&stored.fragment);
        let parked: Vec<Fragment> =
            if id.is_multiple_of(2) { vec![stored.fragment.clone()] } else { Vec::new() };
        let (delivered, dropped) = match parked.is_empty() {
            true => (sum(&[id]), Vec::new()),
            false => (Counts::default(), vec![(Reason::PARKED, sum(&[id]))]),
        };
        if parked.is_empty() {
            settled.get_mut("c").unwrap().insert(id);
        }
        let lane = stored.fragment.lane;
        let position = stored.position;
        opened
            .core
            .park(NOW, c, &[(lane, parked)], &[Settled { lane, position, delivered, dropped }])
            .unwrap();
    }
    opened.core.close(NOW);
    (disk, settled)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Empty,
    Cut,
    Zeros,
    Garbage,
    Beginning,
    Newer,
    Missing,
    Unreadable,
}

const WAYS: [Way; 8] = [
    Way::Empty,
    Way::Cut,
    Way::Zeros,
    Way::Garbage,
    Way::Beginning,
    Way::Newer,
    Way::Missing,
    Way::Unreadable,
];

fn destroyed(disk: &SimDisk, path: &str, way: Way) -> SimDisk {
    let copy = SimDisk::new();
    for (name, content) in disk.files() {
        if name != path {
            copy.put(&name, &content);
            continue;
        }
        let noise = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
        let content = match way {
            Way::Empty => Vec::new(),
            Way::Cut => content[..content.len() / 2].to_vec(),
            Way::Zeros => vec![0; content.len()],
            Way::Garbage => (0..content.len()).map(noise).collect(),
            Way::Beginning => {
                (0..content.len().min(64)).map(noise).chain(content.iter().skip(64).copied()).collect()
            }
            Way::Newer => newer(&content),
            Way::Missing => continue,
            Way::Unreadable => content,
        };
        copy.put(&name, &content);
    }
    if way == Way::Unreadable {
        copy.fail_reads(path);
    }
    copy
}

/// The same with the next version in a header that is intact.
fn newer(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    let header = match content.get(..8) {
        Some(b"PFRYCUR\n") => 12,
        Some(b"PFRYSEG\n") => 60,
        _ => return b"a later release's".to_vec(),
    };
    content[8] += 1;
    let crc = crc32c::crc32c(&content[..header]);
    content[header..header + 4].copy_from_slice(&crc.to_le_bytes());
    content
}

/// What the last segment of each log holds: how much that was nobody knows when it is gone.
fn last_of_logs(disk: &SimDisk) -> BTreeMap<String, u64> {
    let mut last = BTreeMap::new();
    for path in disk.files().into_keys() {
        if let Some((log, name)) = path.split_once('/')
            && let Some(number) = name.strip_suffix(".segment")
        {
            last.insert(log.to_owned(), u64::from_str_radix(number, 16).unwrap());
        }
    }
    last
}

#[test]
fn whatever_file_is_destroyed_what_is_stored_is_delivered_or_counted() {
    let (disk, settled) = spooled();
    let last = last_of_logs(&disk);
    assert!(last.len() == 3 && disk.files().len() > 15, "{:?}", disk.files().keys());
    for path in disk.files().into_keys() {
        for way in WAYS {
            let what = format!("{path}, {way:?}");
            let copy = destroyed(&disk, &path, way);
            let mut opened = open(&copy);
            // The bad spot is the file's, not its name's.
            copy.heal_reads(&path);
            let is_cursor = path.ends_with(".cursor");
            let is_last = last.iter().any(|(log, number)| path == format!("{log}/{number:016x}.segment"));
            // A cursor of a log that another endpoint has leaves nothing behind when its file is gone.
            let is_traceless = is_cursor && way == Way::Missing;
            let lost = is_cursor && way != Way::Missing;
            let may_be_lost = matches!(way, Way::Cut | Way::Beginning);
            assert!(
                may_be_lost || opened.report.lost_cursors.len() == usize::from(lost),
                "{what}: {:?}",
                opened.report
            );
            let mut sent = BTreeMap::new();
            for (key, _, given) in ENDPOINTS {
                let given: BTreeSet<u32> = given.collect();
                let fetched = opened.fetch(key, false);
                assert!(fetched.is_subset(&given), "{what}: {key} gets {fetched:?}");
                let wanted: BTreeSet<u32> = given.difference(&settled[key]).copied().collect();
                let missing: BTreeSet<u32> = wanted.difference(&fetched).copied().collect();
                let ledger = opened.core.ledger(opened.ids[key]).unwrap();
                let leaves_nothing = is_traceless && key != "c";
                let costs = path.ends_with(".segment") && way != Way::Beginning;
                if !costs && !leaves_nothing {
                    assert!(missing.is_empty(), "{what}: {key} misses {missing:?}, {ledger:?}");
                }
                if !missing.is_empty() && !is_last && !is_traceless {
                    let counted = ledger.dropped_for(&Reason::CORRUPT);
                    assert!(
                        counted.samples >= sum(&missing).samples,
                        "{what}: {key} misses {missing:?}, {ledger:?}"
                    );
                }
                sent.insert(key, (fetched, ledger));
            }
            drop(opened);
            // What was found is found again: nothing depends on the first start's having gone well.
            copy.restart();
            let mut opened = open(&copy);
            for (key, _, _) in ENDPOINTS {
                let (fetched, ledger) = &sent[key];
                assert_eq!(opened.fetch(key, false), *fetched, "{what}: {key} after a restart");
                assert_eq!(
                    opened.core.ledger(opened.ids[key]).unwrap(),
                    *ledger,
                    "{what}: {key} after a restart"
                );
            }
            drop(opened);
            copy.restart();
            let mut opened = open(&copy);
            for (key, _, _) in ENDPOINTS {
                assert_eq!(opened.fetch(key, true), sent[key].0, "{what}: {key}");
            }
            // And it goes on.
            opened.append("x", 20..30);
            opened.append("y", 120..130);
            assert_eq!(opened.fetch("a", true), (20..30).collect(), "{what}");
            assert_eq!(opened.fetch("c", true), (120..130).collect(), "{what}");
            opened.core.close(NOW);
            drop(opened);
            let mut opened = open(&copy);
            assert_eq!(opened.fetch("b", true), (20..30).collect(), "{what}");
            assert!(opened.fetch("a", true).is_empty() && opened.fetch("c", true).is_empty(), "{what}");
            // Nothing is kept any more for a cursor that was lost.
            let segments = copy.files().into_keys().filter(|path| path.ends_with(".segment")).count();
            assert!(segments <= 3, "{what}: {:?}", copy.files().keys());
        }
    }
}

#[test]
fn a_process_that_ends_after_any_call_of_a_start_with_a_lost_cursor_takes_nothing_from_it() {
    let (disk, settled) = spooled();
    for path in disk.files().into_keys().filter(|path| path.ends_with(".cursor")) {
        for way in [Way::Empty, Way::Zeros] {
            for call in 0.. {
                let copy = destroyed(&disk, &path, way);
                copy.crash_within(call);
                let opened = SpoolCore::open(copy.storage(), options(), MemoryBudget::unlimited(), NOW);
                if let Ok((mut core, _)) = opened {
                    for (key, log, _) in ENDPOINTS {
                        let Ok(log) = core.open_log(log) else { continue };
                        core.attach(key, log, EndpointOptions::default()).unwrap();
                    }
                    core.maintain(NOW);
                }
                let ended = copy.crashed();
                copy.restart();
                let mut opened = open(&copy);
                for (key, _, given) in ENDPOINTS {
                    let given: BTreeSet<u32> = given.collect();
                    let wanted: BTreeSet<u32> = given.difference(&settled[key]).copied().collect();
                    let fetched = opened.fetch(key, false);
                    let missing: Vec<_> = wanted.difference(&fetched).collect();
                    assert!(missing.is_empty(), "{path}, {way:?}, call {call}: {key} misses {missing:?}");
                    assert!(
                        fetched.is_subset(&given),
                        "{path}, {way:?}, call {call}: {key} gets {fetched:?}"
                    );
                }
                if !ended {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_destroyed_cursor_is_damage_to_whoever_looks() {
    let (disk, _) = spooled();
    for path in disk.files().into_keys().filter(|path| path.ends_with(".cursor")) {
        for way in [Way::Empty, Way::Zeros, Way::Garbage, Way::Unreadable] {
            let copy = destroyed(&disk, &path, way);
            let found = verify(&mut copy.storage()).unwrap();
            assert_eq!(
                found.damage.iter().map(|damage| damage.path.as_str()).collect::<Vec<_>>(),
                [&path],
                "{way:?}"
            );
        }
        let copy = destroyed(&disk, &path, Way::Newer);
        let found = verify(&mut copy.storage()).unwrap();
        assert!(found.damage.is_empty() && found.unknown == [path.as_str()], "{found:?}");
    }
}

#[test]
fn a_process_that_does_not_attach_the_endpoint_takes_nothing_from_it() {
    for way in [Way::Empty, Way::Zeros, Way::Newer, Way::Unreadable] {
        let (disk, settled) = spooled();
        let path = cursor_of(&disk, "a");
        let copy = destroyed(&disk, &path, way);
        // As `spool forget` opens it, twice, and b has everything.
        for _ in 0..2 {
            let (mut core, _) =
                SpoolCore::open(copy.storage(), options(), MemoryBudget::unlimited(), NOW).unwrap();
            let b = core.adopt("b", EndpointOptions::default()).unwrap();
            for stored in core.fetch(NOW, b, LaneSet::ALL, usize::MAX).unwrap() {
                core.settle(b, stored.fragment.lane, stored.position, stored.fragment.counts, &[]).unwrap();
            }
            core.maintain(NOW);
            core.close(NOW);
        }
        let wanted: BTreeSet<u32> = (0..20).filter(|id| !settled["a"].contains(id)).collect();
        assert!(open(&copy).fetch("a", false).is_superset(&wanted), "{way:?}");
    }
}

#[test]
fn what_is_set_aside_is_never_written_over() {
    let (disk, _) = spooled();
    let path = cursor_of(&disk, "a");
    let mut kept = BTreeSet::new();
    for round in 0..4u8 {
        let content = vec![round + 1; 40];
        disk.put(&path, &content);
        kept.insert(content);
        open(&disk).core.close(NOW);
    }
    let aside = disk.files().into_iter().filter(|(path, _)| path.ends_with(".set-aside"));
    assert_eq!(aside.map(|(_, content)| content).collect::<BTreeSet<_>>(), kept);
}

#[test]
fn a_cursor_whose_page_was_zeroed_is_lost_from_there_and_sends_again() {
    let (disk, settled) = spooled();
    let path = cursor_of(&disk, "a");
    let content = disk.files()[&path].clone();
    for from in 0..content.len() {
        let mut zeroed = content.clone();
        zeroed[from..].fill(0);
        let mut zeroed_before = content.clone();
        zeroed_before[16..from.max(16)].fill(0);
        for content in [zeroed, zeroed_before] {
            let copy = SimDisk::new();
            disk.files().iter().for_each(|(path, content)| copy.put(path, content));
            copy.put(&path, &content);
            let wanted: BTreeSet<u32> = (0..20).filter(|id| !settled["a"].contains(id)).collect();
            let fetched = open(&copy).fetch("a", false);
            assert!(fetched.is_superset(&wanted), "from {from}: {fetched:?}");
        }
    }
}

/// The file that goes on when the endpoint settles.
fn cursor_of(disk: &SimDisk, endpoint: &str) -> String {
    let text = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
    let mut files = disk.files().into_iter().filter(|(path, _)| path.ends_with(".cursor"));
    // The first record is the key, behind its length.
    files.find(|(_, content)| text(&content[29..]).starts_with(endpoint)).unwrap().0
}

/// Long ago a backlog was stored; now cursors are rewritten again and again, until the machine is lost. Says whether it
/// came that far.
fn settle_until_a_crash(disk: &SimDisk) -> bool {
    let options = SpoolOptions { cursor_file_bytes: 400, ..options() };
    let opened = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW);
    let Ok((mut core, _)) = opened else { return false };
    let Ok(log) = core.open_log("x") else { return false };
    let a = core.attach("a", log, EndpointOptions::default()).unwrap();
    let b = core.attach("b", log, EndpointOptions::default()).unwrap();
    for id in 0..30 {
        core.append_all(NOW, &[(log, vec![fragment(id, 500)])]).unwrap();
    }
    if disk.crashed() {
        return false;
    }
    disk.write_back();
    for stored in core.fetch(NOW, a, LaneSet::ALL, usize::MAX).unwrap() {
        let counts = stored.fragment.counts;
        core.settle(a, stored.fragment.lane, stored.position, counts, &[]).unwrap();
    }
    core.refuse(log, Counts { samples: 1, ..Counts::default() }, &Reason::STORAGE);
    // Of the first ten b has settled some, so that segments go.
    for stored in core.fetch(NOW, b, LaneSet::ALL, 2_000).unwrap() {
        assert!(id_of(&stored.fragment) < 10);
        let counts = stored.fragment.counts;
        core.settle(b, stored.fragment.lane, stored.position, counts, &[]).unwrap();
    }
    core.note_spread(1);
    core.maintain(NOW);
    core.close(NOW);
    true
}

#[test]
fn a_lost_machine_costs_nothing_that_was_on_the_disk_for_long_whatever_was_written_since() {
    assert_eq!(options().fsync, FsyncPolicy::Never);
    let calls = {
        let disk = SimDisk::new();
        assert!(settle_until_a_crash(&disk));
        assert!(disk.renames() > 10, "{}", disk.renames());
        disk.calls()
    };
    for syncs_lie in [false, true] {
        let mut emptied = 0;
        for (call, seed) in (0..calls).flat_map(|call| (0..6).map(move |seed| (call, seed))) {
            let disk = SimDisk::new();
            if syncs_lie {
                disk.lie_about_syncs();
            }
            disk.crash_after(call);
            let stored = settle_until_a_crash(&disk);
            disk.lose_machine(&mut SeededRng::new(call * 16 + seed));
            let what = format!("call {call}, seed {seed}, syncs lie: {syncs_lie}");
            let is_renamed =
                |path: &str| path.ends_with(".cursor") || path.ends_with("/key") || path == "spread";
            let files = disk.files();
            let empty: Vec<_> =
                files.iter().filter(|(path, content)| content.is_empty() && is_renamed(path)).collect();
            assert!(syncs_lie || empty.is_empty(), "{what}: {empty:?}");
            emptied += empty.len();
            if !stored {
                continue;
            }
            let (mut core, _) =
                SpoolCore::open(disk.storage(), options(), MemoryBudget::unlimited(), NOW).unwrap();
            let log = core.open_log("x").unwrap();
            for key in ["a", "b"] {
                let endpoint = core.attach(key, log, EndpointOptions::default()).unwrap();
                let fetched = core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap();
                let fetched: BTreeSet<u32> = fetched.iter().map(|f| id_of(&f.fragment)).collect();
                let ledger = core.ledger(endpoint).unwrap();
                assert!(ledger.balances(), "{what}: {ledger:?}");
                let late: BTreeSet<u32> = (10..30).collect();
                let accounted = sum(fetched.intersection(&late)) + ledger.delivered + ledger.dropped_total();
                assert!(accounted.samples >= sum(&late).samples, "{what}: {key} {fetched:?} {ledger:?}");
                assert!(key == "a" || fetched.is_superset(&late), "{what}: {key} {fetched:?} {ledger:?}");
            }
        }
        assert!(!syncs_lie || emptied > 10, "no file was emptied: {emptied}");
    }
}
