//! What the encoder writes is what a receiver's generated types read, for any scrape and any profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::generate::{
    NAMES, Point, PointValue, ProfileSpec, Relabel, SeriesSpec, expected, labels, metadata, point, profile,
    sent_as, view, write,
};
use crate::support::{Received, receive_all, target};
use promferry_model::{
    CUSTOM_BUCKETS_SCHEMA, ExemplarView, Histogram, Labels, MemoryBudget, MetadataView, Sample, SeriesView,
    Timestamp,
};
use promferry_remote_write::encode::{EncodedScrape, EncodingContext, Profiles, TargetEncoder};
use promferry_remote_write::{Compression, Lane};
use proptest::prelude::*;

/// The values of each series in their order. Only that order is promised.
fn by_series(received: Vec<Received>) -> BTreeMap<Vec<(String, String)>, Vec<Received>> {
    let mut series: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for received in received {
        series.entry(received.labels.clone()).or_default().push(received);
    }
    series
}

fn check(scrape: &EncodedScrape, profiles: &[ProfileSpec], series: &[SeriesSpec], points: &[Point]) {
    assert_eq!(scrape.profiles.len(), profiles.len());
    let mut bytes = 0;
    for (encoded, profile) in scrape.profiles.iter().zip(profiles) {
        let expected = by_series(expected(profile, series, points));
        let received = by_series(receive_all(&encoded.fragments));
        assert_eq!(received, expected);
        let left_out = points.iter().filter(|point| {
            !profile.v2
                && profile.histograms
                && matches!(&point.value, PointValue::Histogram(h) if h.schema == CUSTOM_BUCKETS_SCHEMA)
                && sent_as(profile, series, &series[point.series % series.len()].0).is_some()
        });
        assert_eq!(encoded.nhcb_in_rw1_not_supported, left_out.count() as u64);
        let duplicates = points.iter().filter(|point| {
            let labels = &series[point.series % series.len()].0;
            (profile.histograms || matches!(&point.value, PointValue::Float(_)))
                && profile.labels(labels).is_some()
                && sent_as(profile, series, labels).is_none()
        });
        assert_eq!(encoded.duplicate_series.values(), duplicates.count() as u64);
        for fragment in &encoded.fragments {
            bytes += fragment.body.len();
            assert!(fragment.counts.values() <= 500);
            assert_eq!(fragment.compression == Compression::Snappy, fragment.raw_len >= 16 * 1024);
        }
    }
    assert_eq!(scrape.reservation.bytes(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn receivers_read_what_was_written(
        series in prop::collection::vec((labels(&NAMES), metadata()), 1..12),
        profiles in prop::collection::vec(profile(), 1..4),
        scrapes in prop::collection::vec(prop::collection::vec(point(), 0..30), 1..4),
    ) {
        let list = profiles.iter().map(ProfileSpec::profile).collect();
        let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
        let target = target("api", "10.0.0.1:80");
        let mut encoder = TargetEncoder::new(&target, Arc::new(Profiles::new(1, list)), context);
        for points in &scrapes {
            let scrape = write(&mut encoder, &series, points);
            check(&scrape, &profiles, &series, points);
            let lane = Lane::of_hash(target.labels.stable_hash());
            prop_assert!(scrape.profiles.iter().flat_map(|p| &p.fragments).all(|f| f.lane == lane));
        }
    }

    #[test]
    fn changed_profiles_apply_to_series_that_are_known(
        series in prop::collection::vec((labels(&NAMES), metadata()), 1..8),
        before in prop::collection::vec(profile(), 0..3),
        after in prop::collection::vec(profile(), 1..3),
        kept in any::<bool>(),
        points in prop::collection::vec(point(), 1..20),
    ) {
        let mut old: Vec<_> = before.iter().map(ProfileSpec::profile).collect();
        let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
        let profiles = Arc::new(Profiles::new(1, old.clone()));
        let mut encoder = TargetEncoder::new(&target("api", "10.0.0.1:80"), profiles, context);
        write(&mut encoder, &series, &points);

        let (mut specs, mut new) = (after.clone(), after.iter().map(ProfileSpec::profile).collect::<Vec<_>>());
        if kept && !old.is_empty() {
            new.insert(0, old.swap_remove(0));
            specs.insert(0, before[0].clone());
        }
        let ids: Vec<_> = series.iter().map(|spec| encoder.admit(&view(spec)).unwrap()).collect();
        encoder.set_profiles(Arc::new(Profiles::new(2, new)));
        let again: Vec<_> = series.iter().map(|spec| encoder.admit(&view(spec)).unwrap()).collect();
        prop_assert_eq!(ids, again);
        check(&write(&mut encoder, &series, &points), &specs, &series, &points);
    }
}

#[test]
fn an_exemplar_belongs_to_the_value_before_it_and_to_nothing_else() {
    let drops = ProfileSpec {
        external: Labels::default(),
        relabel: vec![Relabel::DropWith("dropped".into())],
        v2: false,
        exemplars: true,
        histograms: false,
    };
    let context = EncodingContext::new(MemoryBudget::unlimited(), 7);
    let profiles = Arc::new(Profiles::new(1, vec![drops.profile()]));
    let mut encoder = TargetEncoder::new(&target("api", "a:1"), profiles, context);
    let mut admit = |name: &str| {
        let labels = Labels::from_pairs([("__name__", name)]);
        encoder.admit(&SeriesView { labels: &labels, metadata: MetadataView::default() }).unwrap()
    };
    let (kept, dropped) = (admit("kept"), admit("dropped"));
    let at = Timestamp::from_millis(5);
    let trace = Labels::from_pairs([("trace_id", "abc")]);
    let exemplar = ExemplarView { labels: &trace, value: 1.0, timestamp: at };
    encoder.begin();
    encoder.exemplar(&exemplar);
    encoder.sample(kept, Sample::new(at, 1.0));
    encoder.sample(dropped, Sample::new(at, 2.0));
    encoder.exemplar(&exemplar);
    encoder.sample(kept, Sample::new(at, 3.0));
    encoder.histogram(kept, at, None, &Histogram::stale());
    encoder.exemplar(&exemplar);
    let scrape = encoder.finish().unwrap();
    let received = receive_all(&scrape.profiles[0].fragments);
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|series| series.exemplars.is_empty()), "{received:?}");
}
