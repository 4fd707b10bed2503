use promferry_model::{MetadataView, MetricType, Timestamp, is_valid_label_name};

use super::names::OpenFamily;
use super::page::{HistogramValues, SummaryValues};
use super::{Point, PointExemplar};
use crate::model::kept::openmetrics_seconds;
use crate::{Format, go_float};

/// A double holds every integer up to here.
const MAX_EXACT_MILLIS: u64 = 1 << 53;

pub(super) fn prometheus_metadata(page: &mut Vec<u8>, family: &OpenFamily, metadata: MetadataView<'_>) {
    let type_word = match metadata.metric_type {
        MetricType::Counter => "counter",
        MetricType::Gauge | MetricType::Info | MetricType::StateSet => "gauge",
        MetricType::Histogram | MetricType::GaugeHistogram => "histogram",
        MetricType::Summary => "summary",
        _ => "untyped",
    };
    if !metadata.help.is_empty() {
        page.extend_from_slice(b"# HELP ");
        metric_name(page, family, family.suffix);
        page.push(b' ');
        escaped(page, metadata.help, false);
        page.push(b'\n');
    }
    page.extend_from_slice(b"# TYPE ");
    metric_name(page, family, family.suffix);
    page.push(b' ');
    page.extend_from_slice(type_word.as_bytes());
    page.push(b'\n');
}

pub(super) fn openmetrics_metadata(page: &mut Vec<u8>, family: &OpenFamily, metadata: MetadataView<'_>) {
    metadata_line(page, family, "", b"# TYPE ", metadata.metric_type.as_str());
    if !metadata.unit.is_empty() {
        metadata_line(page, family, "", b"# UNIT ", metadata.unit);
    }
    if !metadata.help.is_empty() {
        metadata_line(page, family, "", b"# HELP ", metadata.help);
    }
}

/// A line of OpenMetrics' metadata.
pub(super) fn metadata_line(
    page: &mut Vec<u8>,
    family: &OpenFamily,
    suffix: &str,
    keyword: &[u8],
    text: &str,
) {
    page.extend_from_slice(keyword);
    metric_name(page, family, suffix);
    page.push(b' ');
    escaped(page, text, true);
    page.push(b'\n');
}

pub(super) fn number(
    page: &mut Vec<u8>,
    format: Format,
    family: &OpenFamily,
    point: &Point<'_>,
    value: f64,
    exemplars: &[PointExemplar<'_>],
) {
    let mut lines = Lines { page, format, family, point };
    lines.sample(family.suffix, None, value, exemplars.first());
    if family.metric_type == MetricType::Counter {
        lines.created();
    }
}

pub(super) fn histogram(
    page: &mut Vec<u8>,
    format: Format,
    family: &OpenFamily,
    point: &Point<'_>,
    histogram: &HistogramValues<'_>,
) {
    let (count, sum) = match family.metric_type {
        MetricType::GaugeHistogram if format != Format::Text => ("_gcount", "_gsum"),
        _ => ("_count", "_sum"),
    };
    let mut lines = Lines { page, format, family, point };
    for bucket in histogram.buckets {
        let bound = Some(("le", bucket.upper_bound));
        lines.sample("_bucket", bound, bucket.cumulative_count, bucket.exemplar.as_ref());
    }
    lines.count_and_sum((count, histogram.count), (sum, histogram.sum));
    if family.metric_type == MetricType::Histogram {
        lines.created();
    }
}

pub(super) fn summary(
    page: &mut Vec<u8>,
    format: Format,
    family: &OpenFamily,
    point: &Point<'_>,
    summary: &SummaryValues<'_>,
) {
    let mut lines = Lines { page, format, family, point };
    for &(quantile, value) in summary.quantiles {
        lines.sample("", Some(("quantile", quantile)), value, None);
    }
    lines.count_and_sum(("_count", summary.count), ("_sum", summary.sum));
    lines.created();
}

/// The lines of one point.
pub(super) struct Lines<'a> {
    pub(super) page: &'a mut Vec<u8>,
    pub(super) format: Format,
    pub(super) family: &'a OpenFamily,
    pub(super) point: &'a Point<'a>,
}

impl Lines<'_> {
    fn count_and_sum(&mut self, count: (&str, Option<f64>), sum: (&str, Option<f64>)) {
        for (suffix, value) in [sum, count] {
            if let Some(value) = value {
                self.sample(suffix, None, value, None);
            }
        }
    }

    fn sample(
        &mut self,
        suffix: &str,
        bound: Option<(&str, f64)>,
        value: f64,
        exemplar: Option<&PointExemplar<'_>>,
    ) {
        self.series(suffix, bound);
        self.page.push(b' ');
        self.float(value);
        if let Some(timestamp) = self.point.timestamp {
            self.page.push(b' ');
            self.timestamp(timestamp);
        }
        if let Some(exemplar) = exemplar.filter(|_| self.format != Format::Text) {
            self.exemplar(exemplar);
        }
        self.page.push(b'\n');
    }

    /// With the blank before it.
    pub(super) fn exemplar(&mut self, exemplar: &PointExemplar<'_>) {
        self.page.extend_from_slice(b" # {");
        for (at, (name, value)) in exemplar.labels.iter().enumerate() {
            label(self.page, self.family, at > 0, name, value);
        }
        self.page.extend_from_slice(b"} ");
        self.float(exemplar.value);
        if let Some(timestamp) = exemplar.timestamp {
            self.page.push(b' ');
            self.timestamp(timestamp);
        }
    }

    fn created(&mut self) {
        let Some(start) = self.point.start.filter(|_| self.format != Format::Text) else { return };
        self.series("_created", None);
        self.page.push(b' ');
        self.timestamp(start);
        if let Some(timestamp) = self.point.timestamp {
            self.page.push(b' ');
            self.timestamp(timestamp);
        }
        self.page.push(b'\n');
    }

    /// The metric's name and labels.
    pub(super) fn series(&mut self, suffix: &str, bound: Option<(&str, f64)>) {
        let quoted = self.family.is_quoted();
        if quoted {
            self.page.push(b'{');
        }
        metric_name(self.page, self.family, suffix);
        let is_bare = self.point.labels.is_empty() && bound.is_none();
        if !quoted && is_bare {
            return;
        }
        if !quoted {
            self.page.push(b'{');
        }
        let mut follows = quoted;
        for (name, value) in self.point.labels {
            label(self.page, self.family, follows, name, value);
            follows = true;
        }
        if let Some((name, bound)) = bound {
            let value = match self.format {
                Format::Text => go_float::shortest(bound),
                _ => go_float::openmetrics(bound),
            };
            label(self.page, self.family, follows, name, &value);
        }
        self.page.push(b'}');
    }

    pub(super) fn float(&mut self, value: f64) {
        let text = match self.format {
            Format::Text => go_float::shortest(value),
            // As a label's text -0 would be 0; as a value it keeps its sign.
            _ if value == 0.0 && value.is_sign_negative() => {
                self.page.extend_from_slice(b"-0.0");
                return;
            }
            _ => go_float::openmetrics(value),
        };
        self.page.extend_from_slice(text.as_bytes());
    }

    /// Milliseconds, or in OpenMetrics seconds.
    pub(super) fn timestamp(&mut self, timestamp: Timestamp) {
        match self.format {
            Format::Text => integer(self.page, timestamp.as_millis()),
            _ => seconds(self.page, timestamp),
        }
    }
}

fn label(page: &mut Vec<u8>, family: &OpenFamily, follows: bool, name: &str, value: &str) {
    if follows {
        page.push(b',');
    }
    let name = family.label(name);
    if is_valid_label_name(&name) {
        page.extend_from_slice(name.as_bytes());
    } else {
        page.push(b'"');
        escaped(page, &name, true);
        page.push(b'"');
    }
    page.extend_from_slice(b"=\"");
    escaped(page, value, true);
    page.push(b'"');
}

fn metric_name(page: &mut Vec<u8>, family: &OpenFamily, suffix: &str) {
    let quotes: &[u8] = if family.is_quoted() { b"\"" } else { b"" };
    page.extend_from_slice(quotes);
    escaped(page, &family.name, !quotes.is_empty());
    page.extend_from_slice(suffix.as_bytes());
    page.extend_from_slice(quotes);
}

fn escaped(page: &mut Vec<u8>, text: &str, quotes: bool) {
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'"' if quotes => b"\\\"",
            _ => continue,
        };
        page.extend_from_slice(&bytes[written..at]);
        page.extend_from_slice(escape);
        written = at + 1;
    }
    page.extend_from_slice(&bytes[written..]);
}

/// Seconds that read back as these milliseconds: readers multiply by a thousand and cut off, so where the plain
/// text would come out a millisecond short the next double is written.
fn seconds(page: &mut Vec<u8>, time: Timestamp) {
    let millis = time.as_millis();
    let seconds = openmetrics_seconds(time);
    let is_plain = seconds == millis as f64 / 1000.0 && millis.unsigned_abs() <= MAX_EXACT_MILLIS;
    if !is_plain {
        // Rare, so that what std takes for it matters little.
        page.extend_from_slice(format!("{seconds}").as_bytes());
        return;
    }
    if millis < 0 {
        page.push(b'-');
    }
    let millis = millis.unsigned_abs();
    digits(page, millis / 1000);
    let fraction = millis % 1000;
    page.push(b'.');
    for power in [100, 10, 1] {
        page.push(b'0' + (fraction / power % 10) as u8);
    }
}

fn integer(page: &mut Vec<u8>, value: i64) {
    if value < 0 {
        page.push(b'-');
    }
    digits(page, value.unsigned_abs());
}

fn digits(page: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    page.extend_from_slice(&text[start..]);
}
