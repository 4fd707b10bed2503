//! OpenMetrics says in a `_created` series since when a metric has counted, somewhere behind the series that
//! want to know; this finds it as Prometheus does (3.16 `OpenMetricsParser.StartTimestamp`), but looking at
//! every line only once more.

use promferry_model::{BUCKET_LABEL, MetricType, QUANTILE_LABEL, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use crate::text_series::{LabelSink, Rejected, utf8};

const CREATED_SUFFIX: &[u8] = b"_created";

/// What has been found about start timestamps.
#[derive(Default)]
pub(crate) struct Created {
    /// The start of the current series.
    pub(crate) start: Option<Timestamp>,
    /// The metric that a `_created` series was last found for; its later series need no search.
    known: Option<(u64, i64)>,
    /// The next line that ends a search.
    ahead: Option<Ahead>,
}

#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// Where that line starts.
    pub(crate) at: usize,
    /// The metric and value if it is a `_created` series; other lines that end a search are metadata, the end
    /// and errors.
    pub(crate) created: Option<(u64, i64)>,
}

impl Created {
    /// Decides the current series' start: `metric` is its identity, `next` where the next line starts, and
    /// `look_ahead` looks for the line that ends a search from there.
    pub(crate) fn search(&mut self, metric: Option<u64>, next: usize, look_ahead: impl FnOnce() -> Ahead) {
        self.start = None;
        let Some(metric) = metric else {
            self.known = None;
            return;
        };
        let known = self.known.filter(|&(of, start)| of == metric && start > 0);
        let found = known.or_else(|| {
            let ahead = match self.ahead {
                Some(ahead) if ahead.at >= next => ahead,
                _ => *self.ahead.insert(look_ahead()),
            };
            ahead.created.filter(|&(of, _)| of == metric)
        });
        self.known = found;
        // Zero is how Prometheus says that there is none.
        self.start = found.map(|(_, start)| start).filter(|&start| start != 0).map(Timestamp::from_millis);
    }
}

pub(crate) const fn has_created_series(metric_type: MetricType) -> bool {
    matches!(metric_type, MetricType::Counter | MetricType::Summary | MetricType::Histogram)
}

/// The name of a series and a hash of its labels but for the one that tells a metric's own series apart.
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) name_at: usize,
    labels: Xxh3,
    left_out: &'static str,
    page: &'a [u8],
}

impl<'a> Identity<'a> {
    pub(crate) fn new(page: &'a [u8], metric_type: MetricType) -> Self {
        let left_out = match metric_type {
            MetricType::Histogram => BUCKET_LABEL,
            MetricType::Summary => QUANTILE_LABEL,
            _ => "",
        };
        Self { name: b"", name_at: 0, labels: Xxh3::new(), left_out, page }
    }

    /// The metric's name if this is its `_created` series.
    pub(crate) fn created_of(&self) -> Option<&'a [u8]> {
        self.name.strip_suffix(CREATED_SUFFIX)
    }

    /// The identity of the metric `name` with these labels.
    pub(crate) fn metric(mut self, name: &[u8]) -> u64 {
        self.labels.update(name);
        self.labels.digest()
    }
}

impl LabelSink for Identity<'_> {
    fn metric_name(&mut self, name: &[u8], at: usize) -> Result<(), Rejected> {
        self.name = &self.page[at..at + name.len()];
        self.name_at = at;
        Ok(())
    }

    fn label(&mut self, name: &[u8], value: &[u8], at: usize) -> Result<(), Rejected> {
        // Nobody asks for the labels of a `_created` series, which would judge this.
        utf8(value, at, "label value is not valid UTF-8")?;
        if self.left_out.is_empty() || name != self.left_out.as_bytes() {
            self.labels.update(name);
            self.labels.update(value);
        }
        Ok(())
    }
}
