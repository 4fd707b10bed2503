use std::io;

use promferry_model::{Labels, MetadataView, MetricType};

use super::error::{EncodeError, Fault, StreamError, fault};
use super::judge::Judge;
use super::page::{HistogramValues, PageWriter, SummaryValues};
use super::{BucketPoint, Point, PointExemplar};
use crate::{
    Exemplar, Format, HistogramValue, Metric, MetricFamily, MetricPoint, Negotiated, ParseOptions,
    PointValue, ReadError, StrictRule, read_families,
};

/// What is written is sent on when it is as long as this.
const SENT_FROM_BYTES: usize = 64 * 1024;

/// Writes families as a page.
///
/// What comes back from [`read_families`](crate::read_families) is each of them
/// [`as_kept_by`](MetricFamily::as_kept_by) the format. A page of OpenMetrics is valid by
/// [`validate`](crate::validate); to that end it is judged while it is written, and so it is refused what other
/// formats take: a counter that is negative, say. OpenMetrics 2.0 is written as far as its reader takes it. Native
/// histograms of custom buckets are written as classic ones in every format, for which none has a form.
///
/// # Errors
/// Says which family or metric cannot be written, and why.
///
/// ```
/// use promferry_exposition::{Format, Metric, MetricFamily, MetricPoint, PointValue, StrictRule, write_families};
/// use promferry_model::{Labels, MetricType};
///
/// let mut requests = MetricFamily {
///     name: "http.requests".to_owned(),
///     metric_type: MetricType::Counter,
///     suffixed: true,
///     metrics: vec![Metric {
///         labels: Labels::from_pairs([("code", "200")]),
///         points: vec![PointValue::Number(7.0).into()],
///     }],
///     ..MetricFamily::default()
/// };
/// let page = write_families(Format::OpenMetrics, std::slice::from_ref(&requests))?;
/// assert_eq!(
///     String::from_utf8(page).unwrap(),
///     "# TYPE \"http.requests\" counter\n{\"http.requests_total\",code=\"200\"} 7.0\n# EOF\n"
/// );
///
/// requests.metrics[0].points = vec![PointValue::Number(-1.0).into()];
/// let refused = write_families(Format::OpenMetrics, &[requests]).unwrap_err();
/// assert_eq!(refused.rule, StrictRule::SampleValue);
/// # Ok::<(), promferry_exposition::EncodeError>(())
/// ```
pub fn write_families(format: Format, families: &[MetricFamily]) -> Result<Vec<u8>, EncodeError> {
    let mut page = JudgedPage::new(Negotiated::newest(format));
    for family in families {
        page.family(family)?;
        for metric in &family.metrics {
            page.metric(metric)?;
        }
    }
    page.writer.end();
    Ok(page.writer.page)
}

/// Writes a page to wherever it goes, family by family or metric by metric, and judges it meanwhile as
/// [`write_families`] does. It holds a part of the page at a time: of the text formats some ten kilobytes or a longer
/// metric, of protobuf one family; and for its judgement some dozen bytes for each name that samples of a family may
/// have and, while its family is written, for each metric and state.
///
/// What is refused is not on the page, which can go on with the next metric or family.
///
/// ```
/// use promferry_exposition::{MetricFamily, Metric, MetricPoint, PointValue, StreamingEncoder, negotiate};
/// use promferry_model::{EscapingScheme, Labels, MetricType};
///
/// let answer = negotiate("text/plain;version=0.0.4", EscapingScheme::Underscores);
/// let mut page = StreamingEncoder::new(Vec::new(), answer);
/// page.family(&MetricFamily {
///     name: "queue.length".to_owned(),
///     metric_type: MetricType::Gauge,
///     ..MetricFamily::default()
/// })?;
/// for (queue, length) in [("in", 3.0), ("out", 5.0)] {
///     let points = vec![PointValue::Number(length).into()];
///     page.metric(&Metric { labels: Labels::from_pairs([("queue", queue)]), points })?;
/// }
/// assert_eq!(page.finish()?, b"# TYPE queue_length gauge\nqueue_length{queue=\"in\"} 3\nqueue_length{queue=\"out\"} 5\n");
/// # Ok::<(), promferry_exposition::StreamError>(())
/// ```
#[derive(Debug)]
pub struct StreamingEncoder<W> {
    page: JudgedPage,
    to: W,
}

impl<W: io::Write> StreamingEncoder<W> {
    /// An empty page in the protocol that was agreed upon, which goes to `to` in few large writes.
    pub fn new(to: W, answer: Negotiated) -> Self {
        Self { page: JudgedPage::new(answer), to }
    }

    /// The `Content-Type` to send the page with.
    pub fn content_type(&self) -> String {
        self.page.writer.answer().to_string()
    }

    /// Ends the family before and opens this one with the metrics that it holds; [`Self::metric`] adds others.
    ///
    /// # Errors
    /// [`StreamError::Encode`] says what is refused: the family, of which then nothing is on the page, or one of its
    /// metrics, before which it ends. [`StreamError::Write`] if what was written before cannot be sent on.
    pub fn family(&mut self, family: &MetricFamily) -> Result<(), StreamError> {
        self.page.family(family)?;
        self.send_on_much()?;
        family.metrics.iter().try_for_each(|metric| self.metric(metric))
    }

    /// Adds a metric to the family that was opened last.
    ///
    /// # Errors
    /// As [`Self::family`].
    pub fn metric(&mut self, metric: &Metric) -> Result<(), StreamError> {
        self.page.metric(metric)?;
        Ok(self.send_on_much()?)
    }

    /// Ends the page and gives back what it was written to, flushed.
    ///
    /// # Errors
    /// [`StreamError::Write`] if the rest of the page cannot be sent on.
    pub fn finish(mut self) -> Result<W, StreamError> {
        self.page.writer.end();
        self.send_on()?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn send_on_much(&mut self) -> io::Result<()> {
        if self.page.writer.page.len() < SENT_FROM_BYTES { Ok(()) } else { self.send_on() }
    }

    fn send_on(&mut self) -> io::Result<()> {
        let page = &mut self.page.writer.page;
        self.to.write_all(page)?;
        page.clear();
        Ok(())
    }
}

/// A page that takes only what can be read back from it.
#[derive(Debug)]
struct JudgedPage {
    writer: PageWriter,
    judge: Judge,
    /// The open family's name; `None` before the first and after one that was refused.
    family: Option<String>,
    /// The open family's type as the page says it, where a metric is judged by reading it back. Its unit and help,
    /// which may be long, are no part of any metric.
    head: Vec<u8>,
}

impl JudgedPage {
    fn new(answer: Negotiated) -> Self {
        Self {
            writer: PageWriter::new(answer),
            judge: Judge::new(answer.format()),
            family: None,
            head: Vec::new(),
        }
    }

    fn family(&mut self, family: &MetricFamily) -> Result<(), EncodeError> {
        self.family = None;
        let MetricFamily { name, metric_type, suffixed, unit, help, .. } = family;
        let metadata = MetadataView { family: name, metric_type: *metric_type, unit, help };
        self.writer.name_family(metadata, *suffixed);
        self.judge
            .family(family, self.writer.open_family())
            .map_err(|fault| EncodeError::of_family(name, fault))?;
        let begin = self.writer.page.len();
        if is_judged_by_reading(self.writer.answer().format()) {
            self.writer.begin_family(MetadataView { unit: "", help: "", ..metadata });
            self.head.clear();
            self.head.extend(self.writer.page.drain(begin..));
            self.writer.begin_family(metadata);
            read_back(&mut self.writer, b"", begin, StrictRule::Metadata)
                .map_err(|fault| EncodeError::of_family(name, fault))?;
        } else {
            self.writer.begin_family(metadata);
        }
        self.family = Some(name.clone());
        Ok(())
    }

    fn metric(&mut self, metric: &Metric) -> Result<(), EncodeError> {
        let Some(family) = &self.family else {
            let no_family =
                fault(StrictRule::SampleName, "a metric without a family that it could belong to");
            return no_family.map_err(|fault| EncodeError::of_metric("", &metric.labels, fault));
        };
        let refusal = |fault| EncodeError::of_metric(family, &metric.labels, fault);
        let judged = self.judge.metric(metric, self.writer.open_family()).map_err(refusal)?;
        let labels = pairs(&metric.labels);
        let begin = self.writer.page.len();
        let format = self.writer.answer().format();
        // Protobuf has a message for each point, which says at least that there is one.
        let needs_value = format != Format::Protobuf;
        for point in metric.points.iter().filter(|point| !(needs_value && point.value.is_empty())) {
            write_point(&mut self.writer, &labels, point);
        }
        if is_judged_by_reading(format) {
            let read = read_back(&mut self.writer, &self.head, begin, StrictRule::SampleValue);
            read.inspect_err(|_| self.judge.take_back(&judged)).map_err(refusal)?;
        }
        Ok(())
    }
}

/// Takes what was written from `begin` on away again if it cannot be read behind `head`.
fn read_back(writer: &mut PageWriter, head: &[u8], begin: usize, rule: StrictRule) -> Result<(), Fault> {
    let options =
        ParseOptions { native_histograms: true, always_classic_histograms: true, ..ParseOptions::default() };
    let page = [head, &writer.page[begin..], b"# EOF\n"].concat();
    let problem = match read_families(writer.answer().format(), &page, options) {
        Ok(_) => return Ok(()),
        Err(ReadError::Parse(error)) => error.problem().to_owned(),
        Err(error) => error.to_string(),
    };
    writer.page.truncate(begin);
    fault(rule, problem)
}

/// OpenMetrics 2.0 has no rules here but those of its reader.
const fn is_judged_by_reading(format: Format) -> bool {
    match format {
        #[cfg(feature = "openmetrics2")]
        Format::OpenMetrics2 => true,
        _ => false,
    }
}

fn write_point(writer: &mut PageWriter, labels: &[(&str, &str)], point: &MetricPoint) {
    let at = Point { labels, timestamp: point.timestamp, start: point.start };
    match &point.value {
        PointValue::Number(value) => {
            let is_counter = writer.open_family().metric_type == MetricType::Counter;
            let exemplars = if is_counter { &point.exemplars[..] } else { &[] };
            with_exemplars(exemplars, |exemplars| writer.number(&at, *value, exemplars));
        }
        PointValue::Summary(summary) => {
            let quantiles: Vec<_> = summary.quantiles.iter().map(|q| (q.quantile, q.value)).collect();
            let (count, sum) = (summary.count, summary.sum);
            writer.summary(&at, &SummaryValues { count, sum, quantiles: &quantiles });
        }
        PointValue::Histogram(histogram) => write_histogram(writer, &at, histogram, &point.exemplars),
    }
}

fn write_histogram(
    writer: &mut PageWriter,
    at: &Point<'_>,
    histogram: &HistogramValue,
    exemplars: &[Exemplar],
) {
    let HistogramValue { count, sum, buckets, native } = histogram;
    let labels: Vec<Vec<(&str, &str)>> = buckets
        .iter()
        .map(|bucket| bucket.exemplar.as_ref().map(|exemplar| pairs(&exemplar.labels)).unwrap_or_default())
        .collect();
    let buckets: Vec<BucketPoint<'_>> = buckets
        .iter()
        .zip(&labels)
        .map(|(bucket, labels)| BucketPoint {
            upper_bound: bucket.upper_bound,
            cumulative_count: bucket.cumulative_count,
            exemplar: bucket.exemplar.as_deref().map(|exemplar| PointExemplar {
                labels,
                value: exemplar.value,
                timestamp: exemplar.timestamp,
            }),
        })
        .collect();
    // Without a time no reader takes them, and they would keep it from those of the buckets.
    let timed: Vec<Exemplar> =
        exemplars.iter().filter(|exemplar| exemplar.timestamp.is_some()).cloned().collect();
    with_exemplars(&timed, |exemplars| {
        let native = native.as_deref();
        writer.histogram(
            at,
            &HistogramValues { count: *count, sum: *sum, buckets: &buckets, native, exemplars },
        );
    });
}

fn with_exemplars(exemplars: &[Exemplar], write: impl FnOnce(&[PointExemplar<'_>])) {
    let labels: Vec<Vec<(&str, &str)>> = exemplars.iter().map(|exemplar| pairs(&exemplar.labels)).collect();
    let exemplars: Vec<PointExemplar<'_>> = exemplars
        .iter()
        .zip(&labels)
        .map(|(Exemplar { value, timestamp, .. }, labels)| PointExemplar {
            labels,
            value: *value,
            timestamp: *timestamp,
        })
        .collect();
    write(&exemplars);
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|label| (&*label.name, &*label.value)).collect()
}
