//! The collector's own metrics, as tables: a family a row. What each is good for is in `docs/metrics.md`.

mod configuration;
mod delivery;
mod discovery;
mod gateways;
mod process;
mod scraping;
mod spool;

use promferry_exposition::{BucketPoint, Encoder, FamilyEncoder, HistogramPoint, Negotiated};
use promferry_model::{Clock as _, MetadataView, MetricType, SystemClock, Timestamp};

use crate::pipeline::{DeliveryStatus, Pipeline};

pub(crate) use delivery::protocol_in_use;
pub(crate) use discovery::collections_alike_together;

/// The collector's own metrics as a page; Prometheus' names where it has one for the same thing.
pub async fn page(pipeline: &Pipeline, answer: Negotiated) -> (String, Vec<u8>) {
    let now = SystemClock::new().now();
    let mut page = Page { encoder: Encoder::for_protocol(answer) };
    process::write(&mut page, pipeline);
    configuration::write(&mut page, pipeline);
    scraping::write(&mut page, pipeline);
    gateways::write(&mut page, pipeline);
    discovery::write(&mut page, pipeline);
    let DeliveryStatus { endpoints, spool } = pipeline.delivery().await;
    delivery::write(&mut page, pipeline, endpoints, &spool.stats, now);
    spool::write(&mut page, &spool);
    (answer.to_string(), page.encoder.finish())
}

/// A metric family over subjects of one kind: endpoints, say, or jobs.
struct Family<S> {
    name: &'static str,
    metric_type: MetricType,
    help: &'static str,
    /// Adds the points of one subject.
    points: fn(&S, &mut Points<'_, '_>),
}

const fn gauge<S>(name: &'static str, help: &'static str, points: fn(&S, &mut Points<'_, '_>)) -> Family<S> {
    Family { name, metric_type: MetricType::Gauge, help, points }
}

const fn counter<S>(
    name: &'static str,
    help: &'static str,
    points: fn(&S, &mut Points<'_, '_>),
) -> Family<S> {
    Family { name, metric_type: MetricType::Counter, help, points }
}

const fn histogram<S>(
    name: &'static str,
    help: &'static str,
    points: fn(&S, &mut Points<'_, '_>),
) -> Family<S> {
    Family { name, metric_type: MetricType::Histogram, help, points }
}

/// A subject of families and the labels that say which it is.
type Subject<'a, S> = (Vec<(&'a str, &'a str)>, &'a S);

struct Page {
    encoder: Encoder,
}

impl Page {
    /// Writes families, each with the points of every subject.
    fn write<S>(&mut self, families: &[Family<S>], subjects: &[Subject<'_, S>]) {
        for family in families {
            let mut written = self.open(family.name, family.metric_type, family.help);
            for (labels, subject) in subjects {
                (family.points)(subject, &mut Points { labels, family: &mut written });
            }
        }
    }

    fn open(&mut self, name: &str, metric_type: MetricType, help: &str) -> FamilyEncoder<'_> {
        // A sample's suffix is not part of the family's name.
        let family = if metric_type == MetricType::Counter { name.trim_end_matches("_total") } else { name };
        self.encoder.family(MetadataView { family, metric_type, unit: "", help })
    }
}

/// Where one subject's points of a family go.
struct Points<'a, 'f> {
    labels: &'a [(&'a str, &'a str)],
    family: &'a mut FamilyEncoder<'f>,
}

impl Points<'_, '_> {
    /// The one value of the subject.
    fn value(&mut self, value: f64) {
        self.family.number(self.labels, value);
    }

    /// One of several values, told apart by these labels.
    fn value_of(&mut self, more: &[(&str, &str)], value: f64) {
        let labels: Vec<_> = self.labels.iter().chain(more).copied().collect();
        self.family.number(&labels[..], value);
    }

    fn histogram(&mut self, cumulative: &[(f64, u64)], sum: f64) {
        let buckets: Vec<_> = cumulative
            .iter()
            .map(|&(upper_bound, count)| BucketPoint {
                upper_bound,
                cumulative_count: count as f64,
                exemplar: None,
            })
            .collect();
        let count = cumulative.last().map_or(0, |(_, count)| *count) as f64;
        self.family.histogram(self.labels, &HistogramPoint { buckets: &buckets, count, sum, native: None });
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}
