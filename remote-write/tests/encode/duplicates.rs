//! No two samples with one timestamp leave as one series, whoever offers them and whatever relabelling makes of
//! their labels.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use promferry_model::{
    ExemplarView, Labels, LabelsBuilder, MemoryBudget, MetadataView, Refused, Sample, SeriesContext,
    SeriesId, SeriesView, Stage, Timestamp, Verdict,
};
use promferry_remote_write::encode::{EncodedScrape, EncodingContext, Profile, Profiles, TargetEncoder};
use promferry_remote_write::{Counts, Protocol};
use proptest::prelude::*;

use crate::support::{receive_all, target};

const START: i64 = 1_700_000_000_000;

/// Drops labels by name, and series whose name it is told.
#[derive(Debug)]
struct Without {
    labels: &'static [&'static str],
    series: &'static str,
}

impl Stage for Without {
    fn name(&self) -> &'static str {
        "without"
    }

    fn apply(&self, labels: &mut LabelsBuilder, _: &SeriesContext<'_>) -> Verdict {
        if labels.get("__name__") == self.series {
            return Verdict::Drop;
        }
        self.labels.iter().for_each(|name| labels.remove(name));
        Verdict::Keep
    }
}

fn external() -> Labels {
    Labels::from_pairs([("cluster", "test"), ("zone", "a")])
}

/// As they come; with external labels; the same in the other protocol; without the instance; without a series.
fn profiles() -> Vec<Arc<Profile>> {
    let relabelled = |labels, series| Profile {
        external_labels: external(),
        write_relabel: vec![Arc::new(Without { labels, series }) as Arc<dyn Stage>],
        send_exemplars: true,
        ..Profile::default()
    };
    let plain = Profile { external_labels: external(), ..Profile::default() };
    let list = [
        Profile::default(),
        plain.clone(),
        Profile { protocol: Protocol::V2, ..plain },
        relabelled(&["instance"], ""),
        relabelled(&["n", "cluster"], "up"),
    ];
    list.into_iter().map(Arc::new).collect()
}

fn open(instance: &str, profiles: &[Arc<Profile>], context: &Arc<EncodingContext>) -> TargetEncoder {
    let profiles = Arc::new(Profiles::new(1, profiles.to_vec()));
    TargetEncoder::new(&target("api", instance), profiles, Arc::clone(context))
}

fn admit(encoder: &mut TargetEncoder, labels: &Labels) -> Result<SeriesId, Refused> {
    encoder.admit(&SeriesView { labels, metadata: MetadataView::default() })
}

/// The series that each profile sends, sorted.
fn sent(scrape: &EncodedScrape) -> Vec<Vec<String>> {
    let text = |labels: Vec<(String, String)>| {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    };
    let of = |profile: &promferry_remote_write::encode::EncodedProfile| {
        let mut series: Vec<_> =
            receive_all(&profile.fragments).into_iter().map(|s| text(s.labels)).collect();
        series.sort();
        series
    };
    scrape.profiles.iter().map(of).collect()
}

fn scrape(encoder: &mut TargetEncoder, seconds: i64, ids: &[SeriesId]) -> EncodedScrape {
    let at = Timestamp::from_millis(START + 1000 * seconds);
    encoder.set_time(at);
    encoder.begin();
    ids.iter().for_each(|&id| encoder.sample(id, Sample::new(at, 1.0)));
    encoder.finish().unwrap()
}

#[test]
fn an_external_label_that_a_series_has_already_makes_no_second_series() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let profiles = [profiles()[1].clone()];
    let mut a = open("a:1", &profiles, &context);
    let bare = admit(&mut a, &Labels::from_pairs([("__name__", "m")])).unwrap();
    let carrying = admit(&mut a, &Labels::from_pairs([("__name__", "m"), ("cluster", "test")])).unwrap();
    let other = admit(&mut a, &Labels::from_pairs([("__name__", "m"), ("cluster", "other")])).unwrap();
    let named = a.take_duplicate().unwrap();
    assert_eq!((named.labels.get("cluster"), &*named.owner), ("test", "http://a:1/metrics"));
    let first = scrape(&mut a, 0, &[bare, carrying, other]);
    assert_eq!(sent(&first)[0], ["__name__=m,cluster=other,zone=a", "__name__=m,cluster=test,zone=a"]);
    assert_eq!(first.profiles[0].duplicate_series, Counts { samples: 1, ..Counts::default() });
    let jobs = context.active_series_by_job(&profiles[0]);
    assert_eq!((jobs[0].active, jobs[0].duplicates), (2, 1));
    // Another target is told whose it is, whichever spelling it has.
    let mut b = open("b:1", &profiles, &context);
    let refused = admit(&mut b, &Labels::from_pairs([("__name__", "m"), ("zone", "a")])).unwrap_err();
    assert_eq!(refused, Refused::OwnedByOtherTarget { owner: "http://a:1/metrics".into() });
    // The first one ends: the other takes its place.
    a.release(bare);
    let second = scrape(&mut a, 1, &[carrying, other]);
    assert_eq!(sent(&second), sent(&first));
    assert!(second.profiles[0].duplicate_series.is_zero());
    let jobs = context.active_series_by_job(&profiles[0]);
    assert_eq!((jobs[0].active, jobs[0].duplicates), (2, 0));
}

#[test]
fn write_relabelling_that_makes_two_targets_alike_concerns_its_endpoint_alone() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let all = profiles();
    let list = [Arc::clone(&all[1]), Arc::clone(&all[3])];
    let (mut a, mut b) = (open("a:1", &list, &context), open("b:1", &list, &context));
    let labels = |instance| Labels::from_pairs([("__name__", "m"), ("instance", instance)]);
    let (of_a, of_b) = (admit(&mut a, &labels("a:1")).unwrap(), admit(&mut b, &labels("b:1")).unwrap());
    assert_eq!(b.take_duplicate().unwrap().owner, "http://a:1/metrics");
    assert_eq!(b.take_duplicate(), None);
    assert_eq!(sent(&scrape(&mut a, 0, &[of_a])).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    let at = Timestamp::from_millis(START);
    b.set_time(at);
    b.begin();
    b.sample(of_b, Sample::new(at, 1.0));
    let exemplar = Labels::from_pairs([("trace_id", "1")]);
    b.exemplar(&ExemplarView { labels: &exemplar, value: 1.0, timestamp: at });
    let second = b.finish().unwrap();
    assert_eq!(sent(&second).iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
    let left_out = Counts { samples: 1, exemplars: 1, ..Counts::default() };
    assert_eq!(second.profiles[1].duplicate_series, left_out);
    // A scrape of b that began before a's last one may not take over what a lets go of.
    scrape(&mut a, 20, &[of_a]);
    a.release(of_a);
    assert_eq!(sent(&scrape(&mut b, 20, &[of_b]))[1].len(), 0);
    assert_eq!(sent(&scrape(&mut b, 21, &[of_b]))[1], ["__name__=m,cluster=test,zone=a"]);
}

#[test]
fn other_profiles_are_claimed_for_when_they_come() {
    let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
    let all = profiles();
    let (mut a, mut b) = (open("a:1", &all[..1], &context), open("b:1", &all[..1], &context));
    let labels = |instance| Labels::from_pairs([("__name__", "m"), ("instance", instance)]);
    let (of_a, of_b) = (admit(&mut a, &labels("a:1")).unwrap(), admit(&mut b, &labels("b:1")).unwrap());
    let next = Arc::new(Profiles::new(2, vec![Arc::clone(&all[3]), Arc::clone(&all[0])]));
    a.set_profiles(Arc::clone(&next));
    b.set_profiles(next);
    let lengths = |scrape: &EncodedScrape| sent(scrape).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&scrape(&mut a, 0, &[of_a])), [1, 1]);
    assert_eq!(lengths(&scrape(&mut b, 0, &[of_b])), [0, 1]);
    drop(a);
    assert_eq!(lengths(&scrape(&mut b, 1, &[of_b])), [1, 1]);
    b.set_profiles(Arc::new(Profiles::new(3, vec![Arc::clone(&all[0])])));
    let jobs = context.active_series_by_job(&all[3]);
    assert!(jobs.iter().all(|job| job.active == 0), "what a profile claimed goes with it: {jobs:?}");
    assert_eq!(context.active_series(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    /// A target's page: the series on it, by number.
    Scrape(usize, Vec<u8>),
    /// A target is gone, and one like it comes.
    Reopen(usize),
    SetProfiles(usize, u8),
}

fn labels_of(target: usize, number: u8) -> Labels {
    let instance = ["a:1", "b:1"][target];
    let mut labels = LabelsBuilder::new();
    labels.set("__name__", if number & 1 == 0 { "m" } else { "up" });
    if number & 2 != 0 {
        labels.set("instance", instance);
    }
    if number & 4 != 0 {
        labels.set("cluster", "test");
    }
    if number & 8 != 0 {
        labels.set("n", "1");
    }
    labels.to_labels()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let scrape = (0usize..2, prop::collection::vec(0u8..16, 0..8)).prop_map(|(t, s)| Step::Scrape(t, s));
    let reopen = (0usize..2).prop_map(Step::Reopen);
    let profiles = (0usize..2, 1u8..32).prop_map(|(t, mask)| Step::SetProfiles(t, mask));
    prop::collection::vec(prop_oneof![12 => scrape, 1 => reopen, 1 => profiles], 1..60)
}

proptest! {
    #[test]
    fn whatever_targets_offer_each_series_leaves_once_a_timestamp(steps in steps()) {
        let context = EncodingContext::new(MemoryBudget::unlimited(), 1);
        let all = profiles();
        let mut encoders = [open("a:1", &all, &context), open("b:1", &all, &context)];
        let mut known: [BTreeMap<u8, SeriesId>; 2] = Default::default();
        let mut seen: HashSet<(usize, i64, String)> = HashSet::new();
        for (at, step) in steps.into_iter().enumerate() {
            let at = Timestamp::from_millis(START + 1000 * at as i64);
            match step {
                Step::Reopen(t) => {
                    known[t].clear();
                    encoders[t] = open(["a:1", "b:1"][t], &all, &context);
                }
                Step::SetProfiles(t, mask) => {
                    let list = all.iter().enumerate().filter(|(n, _)| mask >> n & 1 == 1);
                    let list = list.map(|(_, profile)| Arc::clone(profile)).collect();
                    encoders[t].set_profiles(Arc::new(Profiles::new(2, list)));
                }
                Step::Scrape(t, page) => {
                    let encoder = &mut encoders[t];
                    encoder.set_time(at);
                    encoder.begin();
                    let mut on_page = BTreeMap::new();
                    for number in page {
                        if let Ok(id) = admit(encoder, &labels_of(t, number)) {
                            let is_new = on_page.insert(number, id).is_none();
                            prop_assert!(known[t].get(&number).is_none_or(|known| *known == id));
                            // What is offered twice is the scrape's to find; ids are equal then.
                            if is_new {
                                encoder.sample(id, Sample::new(at, 1.0));
                            }
                        }
                    }
                    let list = Arc::clone(encoder.profiles());
                    let scrape = encoder.finish().unwrap();
                    for ((profile, series), encoded) in list.iter().zip(sent(&scrape)).zip(&scrape.profiles) {
                        let number = all.iter().position(|known| Arc::ptr_eq(known, profile)).unwrap();
                        let kept = series.len() as u64 + encoded.duplicate_series.samples;
                        prop_assert!(kept <= on_page.len() as u64);
                        for series in series {
                            let what = format!("{series} at {at} by {t} under {number}");
                            prop_assert!(seen.insert((number, at.as_millis(), series)), "twice: {}", what);
                        }
                    }
                    for (number, id) in std::mem::take(&mut known[t]) {
                        if !on_page.contains_key(&number) {
                            encoder.release(id);
                        }
                    }
                    known[t] = on_page;
                }
            }
        }
        // Who is alone sends all that it has, but what it has twice itself.
        let [mut a, b] = encoders;
        drop(b);
        let ids: Vec<_> = known[0].values().copied().collect();
        let list = Arc::clone(a.profiles());
        let last = scrape(&mut a, 1_000_000, &ids);
        for (profile, series) in list.iter().zip(sent(&last)) {
            let jobs = context.active_series_by_job(profile);
            let active: usize = jobs.iter().map(|job| job.active).sum();
            prop_assert_eq!(active, series.len());
        }
        drop(a);
        prop_assert_eq!(context.active_series(), 0);
    }
}
