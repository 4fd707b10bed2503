//! A pool that is told of changes comes to what one that is told of everything comes to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use promferry_model::{Labels, MemorySink, TargetGroup};
use promferry_scrape::{GroupChange, GroupSource, PoolStatus, PoolSummary, Scraper, TargetRow, TargetState};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{job, options};

type Known = BTreeMap<(u64, String), TargetGroup>;

/// What discovery has, asked by the scraper.
#[derive(Clone, Default)]
struct Source(Arc<Mutex<Known>>);

impl GroupSource for Source {
    fn for_each(&self, job: &str, each: &mut dyn FnMut(u64, &TargetGroup)) {
        assert_eq!(job, "test");
        let known = self.0.lock().unwrap().clone();
        known.iter().for_each(|((mechanism, _), group)| each(*mechanism, group));
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Groups that change together: mechanism, source, and the targets, none if the group is gone.
    Change(Vec<(u64, u8, Option<Vec<u8>>)>),
    /// Other rules.
    Reload(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = prop::option::weighted(0.8, prop::collection::vec(0_u8..24, 0..4));
    let change = prop::collection::vec((0_u64..2, 0_u8..4, group), 1..4).prop_map(Step::Change);
    prop::collection::vec(prop_oneof![5 => change, 1 => (0_u8..3).prop_map(Step::Reload)], 1..20)
}

/// Few addresses, so that targets are alike, within a group and between groups; some are dropped, by either of two
/// rules, and some can't be scraped, for either of two reasons.
fn target(number: u8) -> Labels {
    let address = match number % 8 {
        6 => "h/path".to_owned(),
        7 => String::new(),
        host => format!("h{host}:1"),
    };
    let meta = (number / 8).to_string();
    Labels::from_pairs([
        ("__address__", address),
        ("__meta_number", meta),
        ("kind", (number % 3).to_string()),
    ])
}

fn rules(number: u8) -> Value {
    let drop = |label: &str, regex: &str| json!({"source_labels": [label], "regex": regex, "action": "drop"});
    let rules = match number {
        0 => json!([drop("kind", "1"), drop("__meta_number", "2")]),
        1 => json!([drop("__meta_number", "0")]),
        _ => json!([{"regex": "kind", "action": "labeldrop"}]),
    };
    json!({"relabel_configs": rules, "target_limit": 5})
}

fn group(source: u8, targets: &[u8]) -> TargetGroup {
    TargetGroup {
        source: format!("group/{source}").into(),
        labels: Labels::from_pairs([("group", if source == 3 { "own" } else { "" })]),
        targets: targets.iter().map(|number| target(*number)).collect(),
    }
}

/// What has to be the same. Which of targets that are alike lends its labels before relabelling is not.
fn comparable(pool: &PoolStatus) -> (Vec<(String, String)>, Vec<String>, String) {
    let active = pool.active.iter().map(|t| (t.scrape_url.clone(), t.labels.to_string()));
    let mut dropped: Vec<_> = pool.dropped.iter().map(ToString::to_string).collect();
    dropped.sort();
    let mut invalid: Vec<_> =
        pool.invalid.iter().map(|kind| (kind.error.to_string(), kind.targets)).collect();
    invalid.sort();
    let counts = format!(
        "{} {} {} {invalid:?} {:?} {:?}",
        pool.discovered, pool.dropped_count, pool.duplicates, pool.dropped_by, pool.exceeded_target_limit
    );
    (active.collect(), dropped, counts)
}

fn adds_up(summary: &PoolSummary) -> bool {
    let invalid: u64 = summary.invalid.iter().map(|kind| kind.targets).sum();
    summary.discovered == summary.active + summary.dropped_count + summary.duplicates + invalid
        && summary.active == summary.up + summary.down + summary.unknown
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn changes_come_to_the_same_as_updates(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Nothing is awaited, so no loop gets to run.
        let _entered = runtime.enter();
        let source = Source::default();
        let mut asking = options();
        asking.groups = Some(Arc::new(source.clone()));
        let told_all = Scraper::new(MemorySink::new(), options());
        let keeping = Scraper::new(MemorySink::new(), options());
        let asking = Scraper::new(MemorySink::new(), asking);
        let apply = |number| {
            for scraper in [&told_all, &keeping, &asking] {
                scraper.apply(vec![job(rules(number))]);
            }
        };
        apply(0);
        for step in steps {
            match step {
                Step::Reload(number) => apply(number),
                Step::Change(changes) => {
                    let mut known = source.0.lock().unwrap();
                    let changes: Vec<_> = changes.iter().map(|(mechanism, source, targets)| {
                        let group = targets.as_ref().map(|targets| group(*source, targets));
                        let key = (*mechanism, format!("group/{source}"));
                        match group.clone().filter(|group| !group.targets.is_empty()) {
                            Some(group) => known.insert(key.clone(), group),
                            None => known.remove(&key),
                        };
                        GroupChange { mechanism: *mechanism, source: key.1.into(), group: group.map(Arc::new) }
                    }).collect();
                    let all = known.values().cloned().collect();
                    drop(known);
                    told_all.update("test", all).unwrap();
                    keeping.change("test", changes.clone()).unwrap();
                    asking.change("test", changes).unwrap();
                }
            }
            let expected = comparable(&told_all.status()[0]);
            for scraper in [&keeping, &asking] {
                prop_assert_eq!(&comparable(&scraper.status()[0]), &expected);
                let summary = scraper.summary().remove(0);
                prop_assert!(adds_up(&summary), "{:?}", summary);
                prop_assert_eq!(scraper.stats()["test"].targets, summary.active);
                prop_assert_eq!(summary.groups, source.0.lock().unwrap().len() as u64);
                // All groups are asked for once a minute at most: what is shown may have gone since.
                for invalid in summary.invalid.iter().filter(|_| std::ptr::eq(scraper, &keeping)) {
                    let is_there = source.0.lock().unwrap().values().any(|group| {
                        group.targets.iter().any(|own| own.get("__meta_number") == invalid.labels.get("__meta_number"))
                    });
                    prop_assert!(is_there, "{:?}", invalid);
                }
                // Every target is shown as it was discovered.
                scraper.for_each_target(None, TargetState::Active, &mut |row| {
                    let TargetRow::Active(target) = row else { panic!("{row:?}") };
                    assert!(target.discovered_labels.has("__meta_number"), "{target:?}");
                });
            }
        }
    }
}

#[tokio::test]
async fn a_changed_job_asks_for_its_groups_again() {
    let source = Source::default();
    let mut options = options();
    options.groups = Some(Arc::new(source.clone()));
    let scraper = Scraper::new(MemorySink::new(), options);
    scraper.apply(vec![job(rules(0))]);
    for number in 0..3 {
        let group = group(number, &[number]);
        source.0.lock().unwrap().insert((0, group.source.to_string()), group.clone());
        let change = GroupChange { mechanism: 0, source: group.source.clone(), group: Some(Arc::new(group)) };
        scraper.change("test", [change]).unwrap();
    }
    let counts = || {
        let summary = scraper.summary().remove(0);
        (summary.active, summary.dropped_count)
    };
    assert_eq!(counts(), (2, 1));
    scraper.apply(vec![job(rules(1))]);
    assert_eq!(counts(), (0, 3));
    scraper.apply(vec![job(rules(2))]);
    assert_eq!(counts(), (3, 0));
    assert!(scraper.change("other", []).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_example_that_goes_again_and_again_has_all_groups_made_once_a_minute() {
    struct Counting(Source, Arc<AtomicUsize>);
    impl GroupSource for Counting {
        fn for_each(&self, job: &str, each: &mut dyn FnMut(u64, &TargetGroup)) {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.for_each(job, each);
        }
    }
    let (source, asked) = (Source::default(), Arc::new(AtomicUsize::new(0)));
    let mut options = options();
    options.groups = Some(Arc::new(Counting(source.clone(), Arc::clone(&asked))));
    let scraper = Scraper::new(MemorySink::new(), options);
    scraper.apply(vec![job(json!({}))]);
    let change = |number: u8, group: Option<TargetGroup>| {
        let key = (0, format!("group/{number}"));
        match group.clone() {
            Some(group) => source.0.lock().unwrap().insert(key.clone(), group),
            None => source.0.lock().unwrap().remove(&key),
        };
        let change = GroupChange { mechanism: 0, source: key.1.into(), group: group.map(Arc::new) };
        scraper.change("test", [change]).unwrap();
    };
    let shown = || scraper.summary()[0].invalid[0].labels.get("__meta_number").to_owned();
    // Each has a target without an address.
    for number in 0..100 {
        let mut group = group(number, &[7]);
        group.targets = vec![Labels::from_pairs([("__meta_number", number.to_string())])];
        change(number, Some(group));
    }
    // The job itself asked once.
    assert_eq!((shown(), asked.swap(0, Ordering::Relaxed)), ("0".to_owned(), 1));
    let mut seconds = 0;
    while scraper.summary()[0].groups > 10 {
        change(shown().parse().unwrap(), None);
        let gone =
            source.0.lock().unwrap().keys().next().unwrap().1.rsplit('/').next().unwrap().parse().unwrap();
        change(gone, None);
        tokio::time::advance(Duration::from_secs(2)).await;
        seconds += 2;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..=1 + seconds / 60).contains(&asked), "{asked} times in {seconds} s");
    tokio::time::advance(Duration::from_secs(60)).await;
    change(200, None);
    assert!(source.0.lock().unwrap().contains_key(&(0, format!("group/{}", shown()))), "{}", shown());
    assert_eq!(scraper.summary()[0].invalid[0].targets, scraper.summary()[0].groups);
}

#[tokio::test]
async fn no_more_dropped_targets_are_shown_than_are_to_be_kept() {
    let scraper = Scraper::new(MemorySink::new(), options());
    let mut keys = rules(1);
    keys["keep_dropped_targets"] = 3.into();
    scraper.apply(vec![job(keys)]);
    let groups = (0..4).map(|source| group(source, &[0, 1])).collect();
    scraper.update("test", groups).unwrap();
    let pool = scraper.status().remove(0);
    assert_eq!((pool.dropped.len(), pool.dropped_count), (3, 8));
}

/// Says when it is asked, and answers when it may.
struct Slow {
    known: Source,
    asked: mpsc::SyncSender<()>,
    may_answer: Mutex<mpsc::Receiver<()>>,
}

impl GroupSource for Slow {
    fn for_each(&self, job: &str, each: &mut dyn FnMut(u64, &TargetGroup)) {
        self.asked.send(()).unwrap();
        self.may_answer.lock().unwrap().recv().unwrap();
        self.known.for_each(job, each);
    }
}

#[test]
fn who_looks_does_not_wait_for_new_rules_and_what_changes_meanwhile_is_not_lost() {
    const LIMIT: Duration = Duration::from_secs(30);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let known = Source::default();
    known.0.lock().unwrap().insert((0, "group/0".into()), group(0, &[0, 1]));
    let ((asked, is_asked), (answer, may_answer)) = (mpsc::sync_channel(1), mpsc::channel());
    let mut asking = options();
    asking.groups = Some(Arc::new(Slow { known, asked, may_answer: Mutex::new(may_answer) }));
    let scraper = Scraper::new(MemorySink::new(), asking);
    let handle = runtime.handle();
    std::thread::scope(|threads| {
        let apply = |rules_of: u8| {
            let job = job(rules(rules_of));
            let scraper = &scraper;
            threads.spawn(move || {
                let _entered = handle.enter();
                scraper.apply(vec![job]);
            })
        };
        let first = apply(2);
        is_asked.recv_timeout(LIMIT).unwrap();
        answer.send(()).unwrap();
        first.join().unwrap();
        assert_eq!(scraper.summary()[0].active, 2);

        let second = apply(1);
        is_asked.recv_timeout(LIMIT).unwrap();
        let changing = threads.spawn(|| {
            let _entered = handle.enter();
            let group = Arc::new(group(1, &[8, 9]));
            let change = GroupChange { mechanism: 0, source: group.source.clone(), group: Some(group) };
            scraper.change("test", [change]).unwrap();
        });
        // It would be for ever that this waited.
        let (looked, has_looked) = mpsc::channel();
        let scraper = &scraper;
        threads.spawn(move || {
            looked.send((scraper.summary()[0].active, scraper.stats().len())).unwrap();
        });
        let seen = has_looked.recv_timeout(LIMIT);
        answer.send(()).unwrap();
        assert_eq!(seen.unwrap(), (2, 1));
        second.join().unwrap();
        changing.join().unwrap();
        // The new rule drops the first two, and holds for what came meanwhile.
        assert_eq!((scraper.summary()[0].active, scraper.summary()[0].dropped_count), (2, 2));
    });
}
