//! The series that a scrape writes about itself.

use promferry_model::{
    Labels, LabelsBuilder, METRIC_NAME, MetadataView, MetricType, Refused, Sample, SeriesId, SeriesView,
    TargetSink, Timestamp,
};
use smol_str::SmolStr;

/// What a scrape reports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) up: bool,
    pub(crate) duration_seconds: f64,
    pub(crate) samples_scraped: u64,
    pub(crate) samples_post_metric_relabeling: u64,
    pub(crate) series_added: u64,
    pub(crate) timeout_seconds: f64,
    pub(crate) sample_limit: u64,
    pub(crate) body_size_bytes: i64,
}

/// A target's report series. They carry the target's labels alone and pass neither metric relabelling nor
/// limits.
#[derive(Debug, Default)]
pub(crate) struct ReportSeries {
    ids: [Option<SeriesId>; METRICS.len()],
}

impl ReportSeries {
    /// Admits the series that are not; `extra` includes those of `extra_scrape_metrics`. Says how many were
    /// refused: they are asked for again at the next scrape.
    pub(crate) fn admit<T: TargetSink>(
        &mut self,
        target: &Labels,
        extra: bool,
        sink: &mut T,
        mut refused: impl FnMut(Refused),
    ) {
        let wanted = if extra { METRICS.len() } else { ALWAYS };
        let mut labels = LabelsBuilder::new();
        for (id, metric) in self.ids.iter_mut().zip(&METRICS).take(wanted) {
            if id.is_some() {
                continue;
            }
            labels.reset(target);
            labels.set(SmolStr::new_static(METRIC_NAME), SmolStr::new_static(metric.name));
            let metadata = MetadataView {
                family: metric.name,
                metric_type: MetricType::Gauge,
                unit: metric.unit,
                help: metric.help,
            };
            match sink.admit(&SeriesView { labels: labels.as_slice(), metadata }) {
                Ok(admitted) => {
                    *id = Some(admitted);
                    sink.metadata(&metadata);
                }
                Err(reason) => refused(reason),
            }
        }
    }

    /// Whether `id` is one of them: such a series gets a value at every scrape and no marker before the end.
    pub(crate) fn contains(&self, id: SeriesId) -> bool {
        self.ids.contains(&Some(id))
    }

    /// Has each be admitted again.
    pub(crate) fn forget_ids(&mut self) {
        self.ids = Default::default();
    }

    /// Writes the report but for series that the page has written itself.
    pub(crate) fn write<T: TargetSink>(
        &self,
        report: &Report,
        at: Timestamp,
        sink: &mut T,
        is_on_page: impl Fn(SeriesId) -> bool,
    ) {
        let values = [
            f64::from(u8::from(report.up)),
            report.duration_seconds,
            report.samples_scraped as f64,
            report.samples_post_metric_relabeling as f64,
            report.series_added as f64,
            report.timeout_seconds,
            report.sample_limit as f64,
            report.body_size_bytes as f64,
        ];
        for (id, value) in self.ids.iter().zip(values) {
            if let Some(id) = id.filter(|&id| !is_on_page(id)) {
                sink.sample(id, Sample::new(at, value));
            }
        }
    }

    /// Ends the series; says how many markers that took.
    pub(crate) fn end<T: TargetSink>(&self, at: Timestamp, sink: &mut T) -> u64 {
        self.ids.iter().flatten().map(|&id| sink.sample(id, Sample::stale(at))).count() as u64
    }
}

struct ReportMetric {
    name: &'static str,
    unit: &'static str,
    help: &'static str,
}

/// How many are written without `extra_scrape_metrics`.
const ALWAYS: usize = 5;

const METRICS: [ReportMetric; 8] = [
    ReportMetric { name: "up", unit: "targets", help: "Whether the last scrape succeeded: 1 or 0." },
    ReportMetric { name: "scrape_duration_seconds", unit: "seconds", help: "How long the last scrape took." },
    ReportMetric {
        name: "scrape_samples_scraped",
        unit: "samples",
        help: "Samples on the page of the last scrape.",
    },
    ReportMetric {
        name: "scrape_samples_post_metric_relabeling",
        unit: "samples",
        help: "Samples of the last scrape that metric relabelling left.",
    },
    ReportMetric {
        name: "scrape_series_added",
        unit: "series",
        help: "Series of the last scrape that the one before did not have.",
    },
    ReportMetric {
        name: "scrape_timeout_seconds",
        unit: "seconds",
        help: "How long a scrape of the target may take.",
    },
    ReportMetric {
        name: "scrape_sample_limit",
        unit: "samples",
        help: "How many samples a scrape may bring, 0 for any number.",
    },
    ReportMetric {
        name: "scrape_body_size_bytes",
        unit: "bytes",
        help: "Size of the last page once inflated; -1 if it exceeded its limit, 0 if the scrape failed.",
    },
];
