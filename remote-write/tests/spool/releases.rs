//! Spools as earlier releases wrote them, in `tests/fixtures/spool/<release>/`: each is read back, endpoint by
//! endpoint, and compared with what was in it when it was written.
//!
//! A release adds its own: `cargo test -p promferry-remote-write --test spool -- --ignored write_this_release`. What
//! is there already is never written again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use promferry_model::{
    Labels, LabelsBuilder, MemoryBudget, MetadataView, Sample, SeriesId, SeriesView, TargetInfo, Timestamp,
};
use promferry_remote_write::encode::{self, EncodingContext, Profile, Profiles, TargetEncoder};
use promferry_remote_write::spool::sim::SimDisk;
use promferry_remote_write::spool::{
    EndpointOptions, ProtocolChoice, Reason, Settled, SpoolCore, SpoolOptions, StorageState, StoredFragment,
    verify,
};
use promferry_remote_write::{Counts, Fragment, Lane, LaneSet, Protocol, wire};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_100_000);
const LIMIT: usize = 16 << 20;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spool")
}

#[test]
fn spools_of_earlier_releases_are_read_whole() {
    let releases: Vec<PathBuf> =
        fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!releases.is_empty());
    for release in releases {
        for Written { spool, expected, .. } in WRITTEN {
            let disk = SimDisk::new();
            put(&disk, &release.join(spool), "");
            let written = disk.files();
            let found = verify(&mut disk.storage()).unwrap();
            assert!(found.damage.is_empty() && found.unknown.is_empty() && found.records > 0, "{found:?}");
            assert_eq!(disk.files(), written, "looking changes nothing");
            let expected = fs::read_to_string(release.join(expected)).unwrap();
            assert_eq!(describe(&disk), expected, "{release:?}, {spool}");
        }
    }
}

#[test]
#[ignore = "writes the fixture of this release"]
fn write_this_release() {
    let release = fixtures().join(env!("CARGO_PKG_VERSION"));
    for Written { spool, expected, write } in WRITTEN {
        if release.join(expected).exists() {
            continue;
        }
        let disk = SimDisk::new();
        write(&disk);
        let copy = SimDisk::new();
        for (path, content) in disk.files() {
            let file = release.join(spool).join(&path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, &content).unwrap();
            copy.put(&path, &content);
        }
        fs::write(release.join(expected), describe(&copy)).unwrap();
    }
}

/// A spool of each release.
struct Written {
    /// Its directory.
    spool: &'static str,
    /// What was in it.
    expected: &'static str,
    write: fn(&SimDisk),
}

const WRITTEN: [Written; 2] = [
    Written { spool: "spool", expected: "expected.txt", write },
    Written { spool: "parked", expected: "expected-parked.txt", write: write_parked },
];

/// Delivers everything and says what it was.
fn describe(disk: &SimDisk) -> String {
    let options = SpoolOptions::default();
    let (mut core, report) =
        SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap();
    let mut text = String::new();
    writeln!(
        text,
        "{} segments, {} records, {} torn bytes, {} damaged, {:?} lost",
        report.segments, report.records, report.torn_bytes, report.damaged, report.lost
    )
    .unwrap();
    for (key, _) in report.endpoints {
        let endpoint = core.adopt(&key, EndpointOptions::default()).unwrap();
        let ledger = core.ledger(endpoint).unwrap();
        assert!(ledger.balances());
        let protocol = core.protocol_choice(endpoint);
        writeln!(text, "endpoint {key}: {ledger:?}, {protocol:?}").unwrap();
        for stored in core.fetch(NOW, endpoint, LaneSet::ALL, usize::MAX).unwrap() {
            let fragment = stored.fragment;
            writeln!(text, "  {}", contents(&fragment)).unwrap();
            core.settle(endpoint, fragment.lane, stored.position, fragment.counts, &[]).unwrap();
        }
        if let Some(parked) = core.parked(endpoint) {
            writeln!(text, "  parked:").unwrap();
            for stored in core.fetch(NOW, parked, LaneSet::ALL, usize::MAX).unwrap() {
                let fragment = stored.fragment;
                writeln!(text, "  {}", contents(&fragment)).unwrap();
                core.settle(parked, fragment.lane, stored.position, fragment.counts, &[]).unwrap();
            }
        }
        assert!(core.ledger(endpoint).unwrap().pending.is_zero());
    }
    assert_eq!(core.stats().storage, StorageState::Healthy);
    text
}

fn contents(fragment: &Fragment) -> String {
    let request = encode::join(std::slice::from_ref(fragment)).unwrap();
    let (series, sum, labels) = match fragment.protocol {
        Protocol::V2 => {
            let message = wire::decode_v2(&request.body, LIMIT).unwrap();
            let series = &message.timeseries;
            let labels = format!("{:?}", message.labels(&series[0].labels_refs).unwrap());
            (series.len(), series.iter().map(|s| s.samples[0].value).sum::<f64>(), labels)
        }
        _ => {
            let message = wire::decode_v1(&request.body, LIMIT).unwrap();
            let series = &message.timeseries;
            let labels: Vec<_> =
                series[0].labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect();
            let labels = format!("{labels:?}");
            (series.len(), series.iter().map(|s| s.samples[0].value).sum::<f64>(), labels)
        }
    };
    format!(
        "lane {} {:?} {:?} {}..{}: {series} series, sum {sum}, the first {labels}",
        fragment.lane.index(),
        fragment.protocol,
        fragment.compression,
        fragment.min_timestamp.as_millis(),
        fragment.max_timestamp.as_millis()
    )
}

/// Two logs, three endpoints: one that has settled a part and refused some, one that has left, one with 2.0; several
/// segments, compressed and raw bodies, and a write that was cut off.
fn write(disk: &SimDisk) {
    let options =
        SpoolOptions { segment_bytes: 6_000, cursor_file_bytes: 64 << 10, ..SpoolOptions::default() };
    let (mut core, _) = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap();
    let logs = [core.open_log("v1-of-the-fixture").unwrap(), core.open_log("v2-of-the-fixture").unwrap()];
    let amp = core.attach("amp", logs[0], EndpointOptions::default()).unwrap();
    let gone = core.attach("https://gone.example/write", logs[0], EndpointOptions::default()).unwrap();
    let newer = core.attach("newer", logs[1], EndpointOptions::default()).unwrap();
    let mut targets = targets(&[("a:1", 12), ("b:1", 12), ("large:1", 300)]);
    for scrape in 0..6 {
        let at = Timestamp::from_millis(1_700_000_000_000 + 15_000 * scrape);
        for (encoder, ids) in &mut targets {
            // The large one once with its first page, once as it is then written.
            if ids.len() > 100 && scrape > 1 {
                continue;
            }
            encoder.begin();
            for (number, id) in ids.iter().enumerate() {
                encoder.sample(*id, Sample::new(at, (scrape * 1000) as f64 + number as f64));
            }
            let scrape = encoder.finish().unwrap();
            let of_logs: Vec<_> =
                logs.into_iter().zip(scrape.profiles.into_iter().map(|profile| profile.fragments)).collect();
            core.append_all(NOW, &of_logs).unwrap();
        }
        if scrape == 3 {
            core.detach(gone);
        }
    }
    let fetched = core.fetch(NOW, amp, LaneSet::ALL, 30_000).unwrap();
    for (number, stored) in fetched.iter().enumerate().take(12) {
        let counts = stored.fragment.counts;
        let (delivered, dropped) = match number % 5 {
            4 => (Counts::default(), vec![(Reason::REFUSED, counts)]),
            _ => (counts, vec![]),
        };
        core.settle(amp, stored.fragment.lane, stored.position, delivered, &dropped).unwrap();
    }
    let fetched = core.fetch(NOW, newer, [Lane::all().next().unwrap()].into_iter().collect(), 1).unwrap();
    assert!(fetched.len() <= 1);
    core.refuse(logs[1], Counts { histograms: 3, ..Counts::default() }, &Reason::NHCB_IN_RW1);
    core.choose_protocol(
        newer,
        ProtocolChoice { protocol: Protocol::V2, chosen_at: NOW, url_hash: 0x0123_4567_89ab_cdef },
    );
    core.close(NOW);
    drop(core);
    // A process that was killed in the middle of a write.
    let (path, mut content) = disk
        .files()
        .into_iter()
        .filter(|(path, _)| path.ends_with(".segment"))
        .max_by_key(|(path, _)| path.clone())
        .unwrap();
    let record = content[64..64 + 40].to_vec();
    content.extend(record);
    disk.put(&path, &content);
}

/// An endpoint with a parked queue: parked from several lanes, delivered from in part, parked again, and a scrape that
/// a crash left half parked.
fn write_parked(disk: &SimDisk) {
    let options = SpoolOptions { segment_bytes: 3_000, ..SpoolOptions::default() };
    let (mut core, _) = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), NOW).unwrap();
    let log = core.open_log("v1-of-the-fixture").unwrap();
    let amp = core.attach("amp", log, EndpointOptions::default()).unwrap();
    let mut targets = targets(&[("a:1", 12), ("b:1", 12), ("c:1", 12), ("d:1", 12)]);
    for scrape in 0..6 {
        let at = Timestamp::from_millis(1_700_000_000_000 + 15_000 * scrape);
        for (encoder, ids) in &mut targets {
            encoder.begin();
            for (number, id) in ids.iter().enumerate() {
                encoder.sample(*id, Sample::new(at, (scrape * 1000) as f64 + number as f64));
            }
            let of_v1 = encoder.finish().unwrap().profiles.swap_remove(0).fragments;
            core.append_all(NOW, &[(log, of_v1)]).unwrap();
        }
    }
    let park = |core: &mut SpoolCore<_>, from, stored: StoredFragment, to: Option<u8>| {
        let StoredFragment { position, fragment } = stored;
        let (lane, counts) = (fragment.lane, fragment.counts);
        let (delivered, dropped, fragments) = match to.and_then(Lane::new) {
            Some(to) => {
                let parked = Fragment { lane: to, ..fragment };
                (Counts::default(), vec![(Reason::PARKED, counts)], vec![parked])
            }
            None => (counts, Vec::new(), Vec::new()),
        };
        let settled = Settled { lane, position, delivered, dropped };
        core.park(NOW, from, &[(lane, fragments)], &[settled]).unwrap()
    };
    for (number, stored) in core.fetch(NOW, amp, LaneSet::ALL, 4_000).unwrap().into_iter().enumerate() {
        park(&mut core, amp, stored, (number % 3 != 0).then_some((number % 2) as u8));
    }
    let queue = core.parked(amp).unwrap();
    for (number, stored) in core.fetch(NOW, queue, LaneSet::ALL, 1_000).unwrap().into_iter().enumerate() {
        park(&mut core, queue, stored, (number % 2 == 0).then_some(16));
    }
    let own = |files: BTreeMap<String, Vec<u8>>| {
        files.into_iter().filter(|(path, _)| path.ends_with(".cursor")).collect::<BTreeMap<_, _>>()
    };
    let before = own(disk.files());
    let next = core.fetch(NOW, amp, LaneSet::ALL, 1).unwrap().remove(0);
    park(&mut core, amp, next, Some(1));
    core.close(NOW);
    drop(core);
    // The process was killed when the copy was stored, and before the endpoint's cursor said so.
    let after = own(disk.files());
    let changed: Vec<_> = before.iter().filter(|(path, content)| after[*path] != **content).collect();
    assert_eq!(changed.len(), 1);
    disk.put(changed[0].0, changed[0].1);
}

/// Targets with so many series each, written for 1.0 and for 2.0.
fn targets(of: &[(&str, u32)]) -> Vec<(TargetEncoder, Vec<SeriesId>)> {
    let profile = |protocol| {
        let external_labels = Labels::from_pairs([("cluster", "fixture")]);
        Arc::new(Profile { external_labels, protocol, ..Profile::default() })
    };
    let profiles = Arc::new(Profiles::new(1, vec![profile(Protocol::V1), profile(Protocol::V2)]));
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    of.iter()
        .map(|&(instance, series)| {
            let labels = Labels::from_pairs([("instance", instance), ("job", "fixture")]);
            let url = format!("http://{instance}/metrics");
            let scrape_interval = Duration::from_secs(15);
            let target = TargetInfo { job: "fixture".into(), labels: labels.clone(), url, scrape_interval };
            let mut encoder = TargetEncoder::new(&target, Arc::clone(&profiles), Arc::clone(&context));
            let ids = (0..series)
                .map(|number| {
                    let mut builder = LabelsBuilder::from(&labels);
                    builder.set("__name__", "fixture_requests_total");
                    builder.set("number", number.to_string());
                    let labels = builder.as_slice();
                    encoder.admit(&SeriesView { labels, metadata: MetadataView::default() }).unwrap()
                })
                .collect();
            (encoder, ids)
        })
        .collect()
}

fn put(disk: &SimDisk, directory: &Path, prefix: &str) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            put(disk, &entry.path(), &format!("{name}/"));
        } else {
            disk.put(&name, &fs::read(entry.path()).unwrap());
        }
    }
}
