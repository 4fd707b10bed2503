use promferry_model::{MetadataView, MetricType, Timestamp, is_valid_label_name, is_valid_metric_name};

use super::{HistogramPoint, Point, PointExemplar, SummaryPoint};
use crate::{Format, go_float};

pub(super) fn prometheus_metadata(page: &mut Vec<u8>, metadata: MetadataView<'_>) {
    let (suffix, type_word) = match metadata.metric_type {
        MetricType::Counter => ("_total", "counter"),
        MetricType::Gauge | MetricType::StateSet => ("", "gauge"),
        MetricType::Info => ("_info", "gauge"),
        MetricType::Histogram => ("", "histogram"),
        MetricType::Summary => ("", "summary"),
        _ => ("", "untyped"),
    };
    if !metadata.help.is_empty() {
        page.extend_from_slice(b"# HELP ");
        family_name(page, metadata.family, suffix);
        page.push(b' ');
        escaped(page, metadata.help, false);
        page.push(b'\n');
    }
    page.extend_from_slice(b"# TYPE ");
    family_name(page, metadata.family, suffix);
    page.push(b' ');
    page.extend_from_slice(type_word.as_bytes());
    page.push(b'\n');
}

pub(super) fn openmetrics_metadata(page: &mut Vec<u8>, metadata: MetadataView<'_>) {
    let mut line = |keyword: &[u8], text: &str, quotes: bool| {
        page.extend_from_slice(keyword);
        family_name(page, metadata.family, "");
        page.push(b' ');
        escaped(page, text, quotes);
        page.push(b'\n');
    };
    line(b"# TYPE ", metadata.metric_type.as_str(), false);
    if !metadata.unit.is_empty() {
        line(b"# UNIT ", metadata.unit, false);
    }
    if !metadata.help.is_empty() {
        line(b"# HELP ", metadata.help, true);
    }
}

pub(super) fn number(
    page: &mut Vec<u8>,
    format: Format,
    family: &str,
    metric_type: MetricType,
    point: &Point<'_>,
    value: f64,
    exemplar: Option<&PointExemplar<'_>>,
) {
    let suffix = match metric_type {
        MetricType::Counter => "_total",
        MetricType::Info => "_info",
        _ => "",
    };
    let mut lines = Lines { page, format, family, point };
    lines.sample(suffix, None, value, exemplar);
    if metric_type == MetricType::Counter {
        lines.created();
    }
}

pub(super) fn histogram(
    page: &mut Vec<u8>,
    format: Format,
    family: &str,
    metric_type: MetricType,
    point: &Point<'_>,
    histogram: &HistogramPoint<'_>,
) {
    let (count, sum) = match metric_type {
        MetricType::GaugeHistogram => ("_gcount", "_gsum"),
        _ => ("_count", "_sum"),
    };
    let mut lines = Lines { page, format, family, point };
    for bucket in histogram.buckets {
        let bound = Some(("le", bucket.upper_bound));
        lines.sample("_bucket", bound, bucket.cumulative_count, bucket.exemplar.as_ref());
    }
    if histogram.buckets.last().is_none_or(|last| last.upper_bound != f64::INFINITY) {
        lines.sample("_bucket", Some(("le", f64::INFINITY)), histogram.count, None);
    }
    lines.sample(sum, None, histogram.sum, None);
    lines.sample(count, None, histogram.count, None);
    if metric_type == MetricType::Histogram {
        lines.created();
    }
}

pub(super) fn summary(
    page: &mut Vec<u8>,
    format: Format,
    family: &str,
    point: &Point<'_>,
    summary: &SummaryPoint<'_>,
) {
    let mut lines = Lines { page, format, family, point };
    for &(quantile, value) in summary.quantiles {
        lines.sample("", Some(("quantile", quantile)), value, None);
    }
    lines.sample("_sum", None, summary.sum, None);
    lines.sample("_count", None, summary.count, None);
    lines.created();
}

/// The lines of one point.
struct Lines<'a> {
    page: &'a mut Vec<u8>,
    format: Format,
    family: &'a str,
    point: &'a Point<'a>,
}

impl Lines<'_> {
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
        if let Some(exemplar) = exemplar.filter(|_| self.format == Format::OpenMetrics) {
            self.page.extend_from_slice(b" # {");
            for (at, (name, value)) in exemplar.labels.iter().enumerate() {
                label(self.page, at > 0, name, value);
            }
            self.page.extend_from_slice(b"} ");
            self.float(exemplar.value);
            if let Some(timestamp) = exemplar.timestamp {
                self.page.push(b' ');
                self.timestamp(timestamp);
            }
        }
        self.page.push(b'\n');
    }

    fn created(&mut self) {
        let Some(start) = self.point.start.filter(|_| self.format == Format::OpenMetrics) else { return };
        self.series("_created", None);
        self.page.push(b' ');
        self.timestamp(start);
        self.page.push(b'\n');
    }

    fn series(&mut self, suffix: &str, bound: Option<(&str, f64)>) {
        let quoted = !is_valid_metric_name(self.family);
        if quoted {
            self.page.push(b'{');
        }
        family_name(self.page, self.family, suffix);
        let is_bare = self.point.labels.is_empty() && bound.is_none();
        if !quoted && is_bare {
            return;
        }
        if !quoted {
            self.page.push(b'{');
        }
        let mut follows = quoted;
        for (name, value) in self.point.labels {
            label(self.page, follows, name, value);
            follows = true;
        }
        if let Some((name, bound)) = bound {
            let value = match self.format {
                Format::OpenMetrics => go_float::format_openmetrics(bound),
                _ => go_float::format(bound),
            };
            label(self.page, follows, name, &value);
        }
        self.page.push(b'}');
    }

    fn float(&mut self, value: f64) {
        let text = match self.format {
            // As a label's text -0 would be 0; as a value it keeps its sign.
            Format::OpenMetrics if value != 0.0 => go_float::format_openmetrics(value),
            Format::OpenMetrics => format!("{value:.1}"),
            _ => go_float::format(value),
        };
        self.page.extend_from_slice(text.as_bytes());
    }

    /// Milliseconds, or in OpenMetrics seconds.
    fn timestamp(&mut self, timestamp: Timestamp) {
        let millis = timestamp.as_millis();
        let text = match self.format {
            Format::OpenMetrics => {
                let sign = if millis < 0 { "-" } else { "" };
                let millis = millis.unsigned_abs();
                format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
            }
            _ => millis.to_string(),
        };
        self.page.extend_from_slice(text.as_bytes());
    }
}

fn label(page: &mut Vec<u8>, follows: bool, name: &str, value: &str) {
    if follows {
        page.push(b',');
    }
    if is_valid_label_name(name) {
        page.extend_from_slice(name.as_bytes());
    } else {
        page.push(b'"');
        escaped(page, name, true);
        page.push(b'"');
    }
    page.extend_from_slice(b"=\"");
    escaped(page, value, true);
    page.push(b'"');
}

fn family_name(page: &mut Vec<u8>, family: &str, suffix: &str) {
    let quotes: &[u8] = if is_valid_metric_name(family) { b"" } else { b"\"" };
    page.extend_from_slice(quotes);
    escaped(page, family, !quotes.is_empty());
    page.extend_from_slice(suffix.as_bytes());
    page.extend_from_slice(quotes);
}

fn escaped(page: &mut Vec<u8>, text: &str, quotes: bool) {
    for &byte in text.as_bytes() {
        match byte {
            b'\\' => page.extend_from_slice(b"\\\\"),
            b'\n' => page.extend_from_slice(b"\\n"),
            b'"' if quotes => page.extend_from_slice(b"\\\""),
            byte => page.push(byte),
        }
    }
}
