//! Reading a page into families.

use std::borrow::Cow;
use std::collections::HashMap;

use promferry_model::{
    BUCKET_LABEL, DuplicateLabel, Label, Labels, LabelsBuilder, METRIC_NAME, MetricType, QUANTILE_LABEL,
    Timestamp,
};

use super::collect::{Collector, Part};
use super::{Bucket, Exemplar, MetricFamily, Quantile, type_suffix};
use crate::text_series::unescape_into;
use crate::{
    Event, Exemplars, Format, LabelBuffer, LabelSpans, ParseError, ParseOptions, Parser, SplitLabels,
    family_of, go_float,
};

/// Why a page could not be read into families.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The page breaks its format.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A series or an exemplar has two labels of one name. Prometheus' parser lets that pass, but a scrape refuses
    /// the page for it.
    #[error("{}label name {label:?} of the metric {metric:?} is not unique", place(*.line))]
    RepeatedLabel {
        /// The line of a text page, counted from 1.
        line: Option<usize>,
        /// The metric's name.
        metric: String,
        /// The label's name.
        label: String,
    },
}

fn place(line: Option<usize>) -> String {
    line.map(|line| format!("line {line}: ")).unwrap_or_default()
}

/// Reads a page into families, in the order in which the page first names them.
///
/// The judgement of the page is that of [`Parser`], whose options these are: without
/// [`ParseOptions::native_histograms`] there is no [`native`](super::HistogramValue::native) one, with them and
/// without [`ParseOptions::always_classic_histograms`] there are no classic buckets beside it.
///
/// A sample belongs to the family that was last declared by a `TYPE` if its name and labels make it a part of that;
/// else to one of those declared so far; else it is of unknown type and its own family, as is a bucket whose `le` is
/// missing or no number. In OpenMetrics 2.0 a type is that of samples of the same name alone. What a page says of one
/// family in several places is put together; the same name under another type is another family.
///
/// Samples of one metric that follow each other and have the same time are one point, until something comes that the
/// point already has.
///
/// The labels of exemplars are without escapes, which Prometheus leaves in when it reads OpenMetrics.
///
/// The families take at most 64 bytes for each byte of the page, as they do if it is of nothing but short names; those
/// of real programs' pages take less than 8. While they are read it is at most 160.
///
/// # Errors
/// Says where the page breaks its format, or which label is there twice.
///
/// ```
/// use promferry_exposition::{Format, ParseOptions, PointValue, read_families};
/// use promferry_model::MetricType;
///
/// let page = b"# TYPE requests_total counter\nrequests_total{code=\"200\"} 3\nrequests_total{code=\"500\"} 1\n";
/// let families = read_families(Format::Text, page, ParseOptions::default())?;
/// let [requests] = families.as_slice() else { panic!("one family") };
/// assert_eq!((requests.name.as_str(), requests.metric_type), ("requests", MetricType::Counter));
/// assert_eq!(requests.metrics[1].labels.get("code"), "500");
/// assert_eq!(requests.metrics[1].points[0].value, PointValue::Number(1.0));
/// # Ok::<(), promferry_exposition::ReadError>(())
/// ```
pub fn read_families(
    format: Format,
    page: &[u8],
    options: ParseOptions,
) -> Result<Vec<MetricFamily>, ReadError> {
    let mut reader = Reader::new(format);
    let mut parser = Parser::new(format, page, options);
    let mut spans = LabelSpans::new();
    while let Some(event) = parser.next()? {
        match event {
            Event::Help { family, help } => {
                let help = help.unescape();
                if !help.is_empty() {
                    let family = unescaped(format, &family);
                    reader.said_of(&family).help = help.into_owned();
                }
            }
            Event::Unit { family, unit } => {
                if !unit.is_empty() {
                    let family = unescaped(format, &family);
                    reader.said_of(&family).unit = unit.into_owned();
                }
            }
            Event::Type { family, metric_type } => reader.declare(&unescaped(format, &family), metric_type),
            Event::Comment(_) => {}
            Event::Series(series) => {
                let labels = series.split(&mut spans)?;
                let times = (series.timestamp(), series.start());
                let is_of_its_name = has_types_by_name(format) && series.series_bytes().is_some();
                let own_type = is_of_its_name.then(|| series.metric_type());
                let read = reader.series(labels, series.value(), own_type, times, series.exemplars());
                read.map_err(|repeated| repeated.on_line(line_of(page, series.series_bytes())))?;
            }
            Event::Histogram(event) => {
                let labels = event.split(&mut spans)?;
                let times = (event.timestamp(), event.start());
                let native = Part::Native(Box::new(event.histogram()));
                let read = reader.histogram(labels, native, times, event.exemplars());
                read.map_err(|repeated| repeated.on_line(None))?;
            }
        }
    }
    Ok(reader.finish())
}

/// A family's name as its series have it. Metadata comes with the escapes of quoted names, since Prometheus leaves them
/// in; no other names have a backslash.
fn unescaped(format: Format, family: &str) -> Cow<'_, str> {
    if format == Format::Protobuf || !family.contains('\\') {
        return Cow::Borrowed(family);
    }
    let mut unescaped = String::with_capacity(family.len());
    unescape_into(family, &mut unescaped);
    Cow::Owned(unescaped)
}

/// Whether a type is that of samples of the same name alone, as in OpenMetrics 2.0, but for the samples that a value
/// is made of.
const fn has_types_by_name(format: Format) -> bool {
    match format {
        #[cfg(feature = "openmetrics2")]
        Format::OpenMetrics2 => true,
        _ => false,
    }
}

struct Reader {
    format: Format,
    /// The families, named as their metadata names them until all is read.
    collector: Collector,
    /// Of each family.
    spellings: Vec<Spelling>,
    names: HashMap<String, Named>,
    /// The family of the last `TYPE`.
    current: Option<usize>,
    labels: LabelsBuilder,
    exemplar_labels: LabelBuffer,
}

/// How a family is spelt.
#[derive(Clone, Copy, Default)]
struct Spelling {
    /// What of the metadata's name is the family's, and whether its series have the suffix of its type; as its first
    /// series decided.
    name: Option<(usize, bool)>,
    /// The family before this one that the metadata names the same.
    previous: Option<usize>,
}

/// The families of one name.
struct Named {
    newest: usize,
    /// The one that a `TYPE` last meant.
    declared: Option<usize>,
}

/// The label `label` is there twice in a series of `metric` or in its exemplar.
struct RepeatedLabel {
    metric: String,
    label: String,
}

impl RepeatedLabel {
    fn on_line(self, line: Option<usize>) -> ReadError {
        let Self { metric, label } = self;
        ReadError::RepeatedLabel { line, metric, label }
    }
}

/// The line of `page` on which `series` stands, if it is a part of it.
fn line_of(page: &[u8], series: Option<&[u8]>) -> Option<usize> {
    let offset = series?.as_ptr().addr().checked_sub(page.as_ptr().addr())?;
    let before = page.get(..offset)?;
    Some(memchr::memchr_iter(b'\n', before).count() + 1)
}

type Times = (Option<Timestamp>, Option<Timestamp>);

impl Reader {
    fn new(format: Format) -> Self {
        Self {
            format,
            collector: Collector::new(),
            spellings: Vec::new(),
            names: HashMap::new(),
            current: None,
            labels: LabelsBuilder::new(),
            exemplar_labels: LabelBuffer::new(),
        }
    }

    /// The family that a `HELP` or `UNIT` speaks of.
    fn said_of(&mut self, name: &str) -> &mut MetricFamily {
        let at = match self.names.get(name) {
            Some(named) => named.declared.unwrap_or(named.newest),
            None => self.family(name, MetricType::Unknown),
        };
        &mut self.collector.families[at]
    }

    fn declare(&mut self, name: &str, metric_type: MetricType) {
        let empty = self
            .names
            .get(name)
            .map(|named| named.declared.unwrap_or(named.newest))
            .filter(|&at| self.collector.families[at].metrics.is_empty());
        let at = match (self.known(name, metric_type), empty) {
            (None, Some(at)) => {
                self.collector.families[at].metric_type = metric_type;
                at
            }
            _ => self.family(name, metric_type),
        };
        if let Some(named) = self.names.get_mut(name) {
            named.declared = Some(at);
        }
        self.current = Some(at);
    }

    fn known(&self, name: &str, metric_type: MetricType) -> Option<usize> {
        let newest = self.names.get(name).map(|named| named.newest);
        std::iter::successors(newest, |&at| self.spellings[at].previous)
            .find(|&at| self.collector.families[at].metric_type == metric_type)
    }

    /// The family of this name and type, a new one if there is none.
    fn family(&mut self, name: &str, metric_type: MetricType) -> usize {
        if let Some(at) = self.known(name, metric_type) {
            return at;
        }
        let at = self.collector.families.len();
        self.collector.families.push(MetricFamily {
            name: name.to_owned(),
            metric_type,
            ..MetricFamily::default()
        });
        let mut spelling = Spelling::default();
        match self.names.get_mut(name) {
            Some(named) => spelling.previous = Some(std::mem::replace(&mut named.newest, at)),
            None => {
                self.names.insert(name.to_owned(), Named { newest: at, declared: None });
            }
        }
        self.spellings.push(spelling);
        at
    }

    fn series(
        &mut self,
        labels: SplitLabels<'_>,
        value: f64,
        own_type: Option<MetricType>,
        times: Times,
        exemplars: Exemplars<'_>,
    ) -> Result<(), RepeatedLabel> {
        self.take_labels(labels)?;
        let name = labels.metric_name();
        let (family, part, spelling) = match own_type {
            Some(own_type) => {
                (self.family(name, own_type), Part::Number(value), spelling(own_type, name, ""))
            }
            None => self.place(name, value),
        };
        self.spellings[family].name = spelling;
        match part {
            Part::Bucket(_) => self.labels.remove(BUCKET_LABEL),
            Part::Quantile(_) => self.labels.remove(QUANTILE_LABEL),
            _ => {}
        }
        self.add(family, name, part, times, exemplars)
    }

    fn histogram(
        &mut self,
        labels: SplitLabels<'_>,
        native: Part,
        times: Times,
        exemplars: Exemplars<'_>,
    ) -> Result<(), RepeatedLabel> {
        self.take_labels(labels)?;
        let name = labels.metric_name();
        let is_of = |&at: &usize| {
            let family = &self.collector.families[at];
            let holds = matches!(family.metric_type, MetricType::Histogram | MetricType::GaugeHistogram);
            holds && family.name == name
        };
        let family = self.current.filter(is_of);
        let family = family.unwrap_or_else(|| self.family(name, MetricType::Histogram));
        self.add(family, name, native, times, exemplars)
    }

    fn add(
        &mut self,
        family: usize,
        metric: &str,
        part: Part,
        (timestamp, start): Times,
        mut exemplars: Exemplars<'_>,
    ) -> Result<(), RepeatedLabel> {
        let mut read = Vec::new();
        while let Some(sample) = exemplars.next(&mut self.exemplar_labels) {
            let labels = self.read_exemplar_labels(metric)?;
            read.push(Exemplar { labels, value: sample.value, timestamp: sample.timestamp });
        }
        self.collector.add(family, &self.labels, part, timestamp, start, read);
        Ok(())
    }

    /// Takes the labels but for the metric's name, which has no second one beside it.
    fn take_labels(&mut self, labels: SplitLabels<'_>) -> Result<(), RepeatedLabel> {
        let others = labels.iter().skip(1);
        let others = others.map(|(name, value)| Label { name: name.into(), value: value.into() });
        let taken = self.labels.reset_unsorted(others).and_then(|()| {
            let is_named_twice = labels.iter().skip(1).any(|(name, _)| name == METRIC_NAME);
            if is_named_twice { Err(DuplicateLabel(METRIC_NAME.into())) } else { Ok(()) }
        });
        taken.map_err(|repeated| RepeatedLabel {
            metric: labels.metric_name().to_owned(),
            label: repeated.0.to_string(),
        })
    }

    fn read_exemplar_labels(&self, metric: &str) -> Result<Labels, RepeatedLabel> {
        let has_escapes = self.format == Format::OpenMetrics;
        let unescaped = |text: &str| {
            if !has_escapes || !text.contains('\\') {
                return text.into();
            }
            let mut unescaped = String::with_capacity(text.len());
            unescape_into(text, &mut unescaped);
            unescaped.into()
        };
        let labels = self.exemplar_labels.iter();
        let labels = labels.map(|(name, value)| Label { name: unescaped(name), value: unescaped(value) });
        let mut builder = LabelsBuilder::new();
        builder
            .reset_unsorted(labels)
            .map_err(|repeated| RepeatedLabel { metric: metric.to_owned(), label: repeated.0.to_string() })?;
        Ok(builder.to_labels())
    }

    /// Which family's sample this is, and what it is of its metric's point.
    fn place(&mut self, name: &str, value: f64) -> (usize, Part, Option<(usize, bool)>) {
        if let Some(at) = self.current
            && let Some((part, spelling)) = self.part(at, name, value)
        {
            return (at, part, spelling);
        }
        let declared = |family: &str| self.names.get(family).and_then(|named| named.declared);
        let type_of = |family: &str| declared(family).map(|at| self.collector.families[at].metric_type);
        if let Some(at) = family_of(name, type_of).and_then(declared)
            && let Some((part, spelling)) = self.part(at, name, value)
        {
            return (at, part, spelling);
        }
        (self.family(name, MetricType::Unknown), Part::Number(value), None)
    }

    /// What a sample of this name is of a point of the family at `at`, if its name and labels make it one; and the
    /// family's spelling that follows.
    fn part(&self, at: usize, name: &str, value: f64) -> Option<(Part, Option<(usize, bool)>)> {
        let family = &self.collector.families[at];
        let suffix = name.strip_prefix(family.name.as_str())?;
        let number = |label: &str| go_float::parse(self.labels.get(label).as_bytes()).ok();
        let is_gauge = family.metric_type == MetricType::GaugeHistogram;
        // Protobuf has the histogram's own names for both.
        let (count, sum) = if is_gauge && self.format != Format::Protobuf {
            ("_gcount", "_gsum")
        } else {
            ("_count", "_sum")
        };
        let part = match family.metric_type {
            MetricType::Counter | MetricType::Info => {
                let spelling = spelling(family.metric_type, &family.name, suffix)?;
                let agrees = self.spellings[at].name.is_none_or(|known| known == spelling);
                return agrees.then_some((Part::Number(value), Some(spelling)));
            }
            MetricType::Histogram | MetricType::GaugeHistogram => match suffix {
                "_bucket" => Part::Bucket(Bucket {
                    upper_bound: number(BUCKET_LABEL)?,
                    cumulative_count: value,
                    exemplar: None,
                }),
                _ if self.labels.has(BUCKET_LABEL) => return None,
                _ if suffix == count => Part::Count(value),
                _ if suffix == sum => Part::Sum(value),
                _ => return None,
            },
            MetricType::Summary => match suffix {
                "" => Part::Quantile(Quantile { quantile: number(QUANTILE_LABEL)?, value }),
                _ if self.labels.has(QUANTILE_LABEL) => return None,
                "_count" => Part::Count(value),
                "_sum" => Part::Sum(value),
                _ => return None,
            },
            _ if suffix.is_empty() => Part::Number(value),
            _ => return None,
        };
        Some((part, None))
    }

    fn finish(self) -> Vec<MetricFamily> {
        let mut families = self.collector.families;
        for (family, known) in families.iter_mut().zip(self.spellings) {
            if type_suffix(family.metric_type).is_some() {
                let default = match self.format {
                    Format::OpenMetrics => (family.name.len(), true),
                    _ => spelling(family.metric_type, &family.name, "").unwrap_or((family.name.len(), false)),
                };
                let (length, suffixed) = known.name.unwrap_or(default);
                family.name.truncate(length);
                family.suffixed = suffixed;
            }
            family.metrics.shrink_to_fit();
        }
        families.shrink_to_fit();
        families
    }
}

/// What of a counter's or info's name in the metadata is the family's own, and whether its series have the suffix of
/// its type, given what they have behind the metadata's name.
pub(super) fn spelling(metric_type: MetricType, declared: &str, behind: &str) -> Option<(usize, bool)> {
    let suffix = type_suffix(metric_type)?;
    if behind == suffix {
        return Some((declared.len(), true));
    }
    let stem = declared.strip_suffix(suffix).filter(|stem| !stem.is_empty());
    behind.is_empty().then(|| stem.map_or((declared.len(), false), |stem| (stem.len(), true)))
}
