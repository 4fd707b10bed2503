//! What an encoder knows about its target's series: who owns them, what they cost, what happens to the rest
//! when some go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::support::{Received, pairs, receive_all, receive_fragment, target};
use promferry_model::{
    Labels, LabelsBuilder, MemoryBudget, MetadataView, MetricType, Purpose, Refused, Sample, SeriesContext,
    SeriesId, SeriesView, Stage, Timestamp, Verdict,
};
use promferry_remote_write::encode::{EncodingContext, Profile, Profiles, TargetEncoder};
use promferry_remote_write::{Lane, Protocol};

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn profiles(list: impl IntoIterator<Item = Profile>) -> Arc<Profiles> {
    Arc::new(Profiles::new(1, list.into_iter().map(Arc::new).collect()))
}

fn v2() -> Profile {
    Profile { protocol: Protocol::V2, ..Profile::default() }
}

fn admit(encoder: &mut TargetEncoder, labels: &Labels) -> Result<SeriesId, Refused> {
    encoder.admit(&SeriesView { labels, metadata: MetadataView::default() })
}

fn series(n: usize) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("job", "api"), ("n", &format!("{n:0100}"))])
}

fn scrape(encoder: &mut TargetEncoder, ids: impl IntoIterator<Item = SeriesId>) -> Vec<Vec<Received>> {
    encoder.begin();
    ids.into_iter().for_each(|id| encoder.sample(id, Sample::new(AT, 1.0)));
    let scrape = encoder.finish().unwrap();
    scrape.profiles.iter().map(|profile| receive_all(&profile.fragments)).collect()
}

#[test]
fn the_same_labels_give_the_same_id() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let mut encoder = TargetEncoder::new(&target("api", "a:1"), profiles([v2()]), Arc::clone(&context));
    let ids: Vec<_> = (0..50).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 50);
    for (n, &id) in ids.iter().enumerate().rev() {
        assert_eq!(admit(&mut encoder, &series(n)), Ok(id));
    }
    // New ones and released ones while known ones are being looked up.
    let new = admit(&mut encoder, &series(50)).unwrap();
    assert_eq!(admit(&mut encoder, &series(50)), Ok(new));
    encoder.release(ids[7]);
    let again = admit(&mut encoder, &series(7)).unwrap();
    assert_eq!(admit(&mut encoder, &series(7)), Ok(again));
    assert_eq!((encoder.series(), context.active_series()), (51, 51));
}

#[test]
fn a_series_has_one_owner_until_it_is_let_go() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let open =
        |instance| TargetEncoder::new(&target("api", instance), profiles([v2()]), Arc::clone(&context));
    let (mut a, mut b) = (open("a:1"), open("b:1"));
    let id = admit(&mut a, &series(1)).unwrap();
    let refused = admit(&mut b, &series(1)).unwrap_err();
    assert_eq!(refused, Refused::OwnedByOtherTarget { owner: "http://a:1/metrics".into() });
    a.release(id);
    a.release(id);
    admit(&mut b, &series(1)).unwrap();
    assert!(matches!(admit(&mut a, &series(1)), Err(Refused::OwnedByOtherTarget { .. })));
    drop(b);
    assert_eq!(context.active_series(), 0);
    admit(&mut a, &series(1)).unwrap();
    let jobs = context.active_series_by_job(&a.profiles()[0]);
    assert_eq!((jobs.len(), &*jobs[0].job, jobs[0].active), (1, "api", 1));
}

#[test]
fn without_memory_new_series_are_refused_and_known_ones_go_on() {
    let budget = MemoryBudget::new(64 * 1024);
    let context = EncodingContext::new(budget.clone(), 1);
    let mut encoder = TargetEncoder::new(&target("api", "a:1"), profiles([v2()]), Arc::clone(&context));
    let mut ids = Vec::new();
    let refused = loop {
        match admit(&mut encoder, &series(ids.len())) {
            Ok(id) => ids.push(id),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::OverBudget);
    assert!(ids.len() > 50, "{}", ids.len());
    let known = encoder.memory_bytes();
    for n in 1000..3000 {
        assert_eq!(admit(&mut encoder, &series(n)), Err(Refused::OverBudget));
    }
    assert_eq!(encoder.memory_bytes(), known, "a refused series leaves nothing");
    assert_eq!((encoder.series(), context.active_series()), (ids.len(), ids.len()));
    assert_eq!(admit(&mut encoder, &series(3)), Ok(ids[3]));
    assert_eq!(scrape(&mut encoder, ids[..5].to_vec())[0].len(), 5);

    // What was let go makes room.
    ids.drain(5..).for_each(|id| encoder.release(id));
    admit(&mut encoder, &series(1000)).unwrap();
    drop(encoder);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_scrape_without_room_for_its_bytes_fails_whole_and_the_next_one_may_succeed() {
    let budget = MemoryBudget::new(400_000);
    let even = Profile { write_relabel: vec![Arc::new(DropOdd)], ..Profile::default() };
    let context = EncodingContext::new(budget.clone(), 1);
    let mut encoder =
        TargetEncoder::new(&target("api", "a:1"), profiles([Profile::default(), even]), Arc::clone(&context));
    let ids: Vec<_> = (0..200).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
    let others = budget.try_reserve(Purpose::Bodies, budget.available()).unwrap();
    encoder.begin();
    ids.iter().for_each(|&id| encoder.sample(id, Sample::new(AT, 1.0)));
    // What each profile would have sent, which leaves out what its rules drop.
    let refused = encoder.finish().unwrap_err();
    assert!(refused.to_string().contains("memory budget exceeded"), "{refused}");
    assert!(refused.profiles.iter().all(|profile| profile.fragments.is_empty()));
    let counts: Vec<_> = refused.profiles.iter().map(|profile| profile.counts.samples).collect();
    assert_eq!(counts, [200, 100]);
    assert_eq!(budget.used_by(Purpose::Buffers), 0);
    drop(others);
    assert_eq!(scrape(&mut encoder, ids)[0].len(), 200);
    // What is left is the memory that the next scrape is encoded in.
    assert!((1..200_000).contains(&budget.used_by(Purpose::Buffers)));
    drop((encoder, context));
    assert_eq!(budget.used(), 0);
}

#[test]
fn texts_of_metadata_count_against_the_budget() {
    let budget = MemoryBudget::new(64 << 20);
    let context = EncodingContext::new(budget.clone(), 1);
    let mut encoder =
        TargetEncoder::new(&target("api", "a:1"), profiles([Profile::default()]), Arc::clone(&context));
    let before = budget.used();
    for n in 0..100 {
        let help = format!("{n} {}", "x".repeat(10_000));
        encoder.metadata(&MetadataView { family: &format!("f{n}"), help: &help, ..MetadataView::default() });
    }
    assert!(budget.used() - before > 1_000_000);
    drop((encoder, context));
    assert_eq!(budget.used(), 0);
}

struct DropOdd;

impl Stage for DropOdd {
    fn name(&self) -> &str {
        "drop odd"
    }

    fn apply(&self, labels: &mut LabelsBuilder, _: &SeriesContext<'_>) -> Verdict {
        if labels.get("n").ends_with(['1', '3', '5', '7', '9']) {
            return Verdict::Drop;
        }
        labels.set("even", "yes");
        Verdict::Keep
    }
}

#[test]
fn compaction_keeps_what_is_left_as_it_was() {
    let relabelling = Profile {
        write_relabel: vec![Arc::new(DropOdd)],
        external_labels: Labels::from_pairs([("x", "y")]),
        ..v2()
    };
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let list = profiles([v2(), relabelling, Profile::default()]);
    let mut encoder = TargetEncoder::new(&target("api", "a:1"), list, context);
    let mut live = BTreeMap::new();
    let mut next = 0usize;
    let mut most = 0;
    for round in 0..40 {
        for _ in 0..300 {
            // Other label names now and then, so that shapes come and go too.
            let mut labels = LabelsBuilder::from(&series(next));
            labels.set(format!("extra_{}", next / 100), "1");
            let labels = labels.to_labels();
            let help = format!("help {}", next / 50);
            let family = format!("f{}", next / 50);
            let metadata =
                MetadataView { family: &family, metric_type: MetricType::Gauge, unit: "", help: &help };
            let id = encoder.admit(&SeriesView { labels: &labels, metadata }).unwrap();
            assert!(live.insert(id, (labels, help)).is_none(), "the id was free");
            next += 1;
        }
        let gone: Vec<_> = live.keys().copied().filter(|id| (id.index() * 7 + round) % 4 != 0).collect();
        for id in gone {
            encoder.release(id);
            live.remove(&id);
        }
        let received = scrape(&mut encoder, live.keys().copied());
        let sorted = |mut labels: Vec<Vec<(String, String)>>| {
            labels.sort();
            labels
        };
        let labels_of = |received: &[Received]| sorted(received.iter().map(|r| r.labels.clone()).collect());
        assert_eq!(labels_of(&received[0]), sorted(live.values().map(|(l, _)| pairs(l)).collect()));
        assert_eq!(labels_of(&received[2]), labels_of(&received[0]));
        let relabelled = live.values().filter(|(l, _)| !l.get("n").ends_with(['1', '3', '5', '7', '9']));
        let relabelled = relabelled.map(|(labels, _)| {
            let mut labels = LabelsBuilder::from(labels);
            labels.set("even", "yes");
            labels.set("x", "y");
            pairs(labels.as_slice())
        });
        assert_eq!(labels_of(&received[1]), sorted(relabelled.collect()));
        for received in &received[0] {
            let (_, help) = live.values().find(|(labels, _)| pairs(labels) == received.labels).unwrap();
            assert_eq!(received.metadata.as_ref().unwrap().1, *help);
        }
        if round < 10 {
            most = most.max(encoder.memory_bytes());
        }
    }
    assert!(encoder.memory_bytes() < 2 * most, "{} now, {most} in the first rounds", encoder.memory_bytes());
}

#[test]
fn metadata_is_known_once_and_later_metadata_wins() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let open =
        |instance| TargetEncoder::new(&target("api", instance), profiles([v2()]), Arc::clone(&context));
    let (mut a, mut b) = (open("a:1"), open("b:1"));
    let old = MetadataView { family: "m", metric_type: MetricType::Gauge, unit: "", help: "old" };
    let id = a.admit(&SeriesView { labels: &series(1), metadata: old }).unwrap();
    b.admit(&SeriesView { labels: &series(2), metadata: old }).unwrap();
    assert_eq!(context.metadata().len(), 1);
    let new = MetadataView { help: "new", ..old };
    a.metadata(&new);
    assert_eq!(scrape(&mut a, [id])[0][0].metadata, Some((2, "new".into(), String::new())));
    assert_eq!(context.metadata().len(), 2);
    drop(b);
    assert_eq!(context.metadata().len(), 1);
    // Admitted again under another family: same series, same id.
    let other = MetadataView { family: "n", metric_type: MetricType::Counter, unit: "s", help: "other" };
    assert_eq!(a.admit(&SeriesView { labels: &series(1), metadata: other }), Ok(id));
    assert_eq!(scrape(&mut a, [id])[0][0].metadata, Some((1, "other".into(), "s".into())));
}

#[test]
fn a_scrape_of_more_than_one_fragment_has_fragments_of_equal_size() {
    let target = target("equal", "a:1");
    for (series_count, expected) in
        [(500, vec![500]), (501, vec![320, 181]), (1005, vec![335; 3]), (2000, vec![500; 4])]
    {
        let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
        let mut encoder = TargetEncoder::new(&target, profiles([v2()]), context);
        let ids: Vec<_> = (0..series_count).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
        // The first page is written as if it had to be spread over lanes.
        let mut scrape = || {
            encoder.begin();
            ids.iter().for_each(|&id| encoder.sample(id, Sample::new(AT, 1.0)));
            encoder.finish().unwrap().profiles.swap_remove(0).fragments
        };
        scrape();
        let sizes: Vec<_> = scrape().iter().map(|fragment| fragment.counts.values()).collect();
        assert_eq!(sizes, expected);
    }
}

#[test]
fn a_huge_target_takes_lanes_by_series_and_always_the_same() {
    let target = target("huge", "a:1");
    let mut lanes_of_runs = Vec::new();
    for seed in [1, 2] {
        let context = EncodingContext::new(MemoryBudget::unlimited(), seed);
        let mut encoder = TargetEncoder::new(&target, profiles([Profile::default()]), context);
        let mut lanes: BTreeMap<_, BTreeSet<Lane>> = BTreeMap::new();
        let mut ids: Vec<_> = (0..20_500).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
        for _ in 0..2 {
            encoder.begin();
            ids.iter().for_each(|&id| encoder.sample(id, Sample::new(AT, 1.0)));
            for fragment in encoder.finish().unwrap().profiles.swap_remove(0).fragments {
                assert!(fragment.raw_len <= 64 * 1024 && fragment.counts.values() <= 500);
                for series in receive_fragment(&fragment) {
                    lanes.entry(series.labels).or_default().insert(fragment.lane);
                }
            }
            // The order in which series are met does not matter.
            ids.reverse();
        }
        assert_eq!(lanes.len(), 20_500);
        assert!(lanes.values().all(|lanes| lanes.len() == 1));
        lanes_of_runs.push(lanes);
    }
    assert_eq!(lanes_of_runs[0], lanes_of_runs[1]);
    assert_eq!(lanes_of_runs[0].values().flatten().collect::<BTreeSet<_>>().len(), 8);
}

/// A target as a Kubernetes job has it: constants of the pod, families of histograms, counters and gauges.
fn realistic(instance: usize, count: usize) -> (promferry_model::TargetInfo, Vec<Labels>) {
    let address = format!("10.{}.{}.7:8080", instance / 250, instance % 250);
    let mut info = target("kubernetes-pods", &address);
    let pod =
        format!("checkout-service-{:08x}-{:05x}", instance * 2_654_435_761 % 0xffff_ffff, instance * 7919);
    let constants = [
        ("app", "checkout-service"),
        ("container", "checkout"),
        ("instance", &address),
        ("job", "kubernetes-pods"),
        ("namespace", "shop-production"),
        ("node", "ip-10-0-12-34.eu-central-1.compute.internal"),
        ("pod", &pod),
    ];
    info.labels = Labels::from_pairs(constants);
    let bounds =
        ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"];
    let methods = ["GET", "POST", "PUT", "DELETE"];
    let codes = ["200", "201", "400", "404", "500"];
    let series = (0..count).map(|n| {
        let mut labels = LabelsBuilder::from(&info.labels);
        match n % 10 {
            0..7 => {
                let h = n / 10 * 7 + n % 10;
                labels.set("__name__", format!("http_server_{}_duration_seconds_bucket", h / 4800));
                labels.set("le", bounds[h % 12]);
                labels.set("method", methods[h / 12 % 4]);
                labels.set("code", codes[h / 48 % 5]);
                labels.set("path", format!("/api/v1/resource-{}", h / 240 % 20));
            }
            7 | 8 => {
                labels.set("__name__", format!("grpc_client_calls_{}_total", n / 500));
                labels.set("grpc_method", format!("Method{}", n / 10 % 50));
                labels.set("grpc_code", codes[n % 5]);
            }
            _ => labels.set("__name__", format!("process_runtime_gauge_number_{}", n / 10)),
        }
        labels.to_labels()
    });
    let series = series.collect();
    (info, series)
}

#[test]
fn bytes_a_series() {
    const CACHE_BYTES: usize = 16 + 8;
    for (targets, count) in [(100, 1000), (1, 100_000)] {
        let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
        let profile = Profile { external_labels: Labels::from_pairs([("cluster", "eu-1")]), ..v2() };
        let list = profiles([profile]);
        let mut encoders = Vec::new();
        for instance in 0..targets {
            let (info, series) = realistic(instance, count);
            let mut encoder = TargetEncoder::new(&info, Arc::clone(&list), Arc::clone(&context));
            encoder.begin();
            for labels in &series {
                let name = labels.get("__name__").to_owned();
                let family = name.trim_end_matches("_bucket");
                let help = format!("The {family} of this service, as the library documents it.");
                let metadata = MetadataView { family, metric_type: MetricType::Gauge, unit: "", help: &help };
                let id = encoder.admit(&SeriesView { labels, metadata }).unwrap();
                encoder.sample(id, Sample::new(AT, 1.0));
            }
            encoder.finish().unwrap();
            encoders.push(encoder);
        }
        let all = (targets * count) as f64;
        let arenas = encoders.iter().map(TargetEncoder::memory_bytes).sum::<usize>() as f64;
        let set = context.active_series_bytes() as f64;
        let encoder = arenas / all - 17.0 + set / all;
        println!(
            "{targets} targets x {count} series: {:.1} bytes a series in the arena, {:.1} in the set, \
             {:.1} with the scrape's cache",
            arenas / all - 17.0,
            set / all,
            encoder + CACHE_BYTES as f64,
        );
        assert!(encoder + CACHE_BYTES as f64 <= 64.0, "{encoder}");
    }
}

/// The lanes of each series by name and number, as one scrape fills them; `up` is the report that goes with it.
fn lanes_of_scrape(encoder: &mut TargetEncoder, ids: &[SeriesId]) -> BTreeMap<String, BTreeSet<Lane>> {
    let name = |n: &str| Labels::from_pairs([("__name__", n), ("instance", "a:1"), ("job", "api")]);
    let report: Vec<_> = ["up", "scrape_duration_seconds", "scrape_samples_scraped"]
        .iter()
        .map(|n| admit(encoder, &name(n)).unwrap())
        .collect();
    encoder.begin();
    for &id in ids.iter().chain(&report) {
        encoder.sample(id, Sample::new(AT, 1.0));
    }
    let scrape = encoder.finish().unwrap();
    let mut lanes: BTreeMap<_, BTreeSet<Lane>> = BTreeMap::new();
    for fragment in &scrape.profiles[0].fragments {
        for series in receive_fragment(fragment) {
            let name = series.labels.iter().find(|(name, _)| name == "__name__").unwrap().1.clone();
            lanes.entry(name).or_default().insert(fragment.lane);
        }
    }
    lanes
}

#[test]
fn a_scrape_that_failed_says_nothing_about_a_targets_size() {
    let of_target = |labels: &Labels| BTreeSet::from([Lane::of_hash(labels.stable_hash())]);
    for series_after in [500, 20_500] {
        let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
        let info = target("api", "a:1");
        let mut encoder = TargetEncoder::new(&info, profiles([v2()]), Arc::clone(&context));
        let report = BTreeMap::from(
            ["scrape_duration_seconds", "scrape_samples_scraped", "up"]
                .map(|name| (name.to_owned(), of_target(&info.labels))),
        );
        // Nobody answers; then a page is refused in the middle, and what it brought is let go of.
        assert_eq!(lanes_of_scrape(&mut encoder, &[]), report);
        encoder.begin();
        let ids: Vec<_> = (0..100).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
        ids.iter().for_each(|&id| encoder.sample(id, Sample::new(AT, 1.0)));
        encoder.abort();
        ids.into_iter().for_each(|id| encoder.release(id));
        assert_eq!(lanes_of_scrape(&mut encoder, &[]), report);
        assert_eq!(encoder.take_newly_spread(), None);

        let ids: Vec<_> = (0..series_after).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
        for _ in 0..2 {
            let mut lanes = lanes_of_scrape(&mut encoder, &ids);
            let own = lanes.remove("m").unwrap();
            assert_eq!(lanes, report, "the report keeps to its lane");
            assert_eq!(own.len(), if series_after > 20_000 { 8 } else { 1 });
            assert!(own.is_superset(&of_target(&info.labels)));
        }
        assert_eq!(encoder.take_newly_spread().is_some(), series_after > 20_000);
    }
}

#[test]
fn a_target_that_was_small_keeps_to_its_lane_when_it_comes_back_huge() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let lanes = |instance, series_count| {
        let mut encoder =
            TargetEncoder::new(&target("api", instance), profiles([v2()]), Arc::clone(&context));
        let ids: Vec<_> = (0..series_count).map(|n| admit(&mut encoder, &series(n)).unwrap()).collect();
        let mut encode = || {
            encoder.begin();
            ids.iter().for_each(|&id| encoder.sample(id, Sample::new(AT, 1.0)));
            let scrape = encoder.finish().unwrap();
            scrape.profiles[0].fragments.iter().map(|f| f.lane).collect::<BTreeSet<_>>()
        };
        [encode(), encode()]
    };
    let small = lanes("a:1", 10);
    assert_eq!(small[0].len(), 1);
    assert_eq!(lanes("a:1", 20_500), small, "it would overtake what it left");
    assert_eq!(lanes("b:1", 20_500).map(|lanes| lanes.len()), [8, 8]);
}
