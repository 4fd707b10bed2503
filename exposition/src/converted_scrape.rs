use std::collections::HashMap;
use std::collections::hash_map::Entry;

use prometheus_parse::{HistogramCount, Labels, Sample, Scrape, SummaryCount, Value};
use promferry_model::{MetricType, Timestamp};

use crate::{Event, Format, LabelBuffer, ParseError, ParseOptions, Parser, SeriesEvent, family_of, go_float};

/// A page in the types of the crate `prometheus-parse` 0.2, for programs that are written for them.
///
/// The page is read by [`Parser`], so what that crate's own parser drops or changes (colons in names, `{}`,
/// escapes, blanks and quoted names in label lists, OpenMetrics and protobuf, errors) is read right. What its
/// types have no room for is named in [`unconvertible`](Self::unconvertible).
///
/// As with that crate's own parser, the `_bucket` series of a histogram and the quantiles of a summary become
/// one sample, and their `_sum` and `_count` are samples of their own, [`Value::Untyped`] ones. Other than with
/// it, the samples stand in the order of the page, `foo_total` is a counter if the page says so of `foo`, and
/// help texts are without escapes.
///
/// # What is lost
///
/// - Types other than counter, gauge, histogram and summary: series without a type are [`Value::Untyped`]; those
///   of gauge histograms, infos and state sets are left out and named.
/// - Native histograms are left out and named.
/// - Exemplars and start timestamps: the sample is there, and what it lacks is named.
/// - Labels that `prometheus_parse::Labels`, which only that crate's parser can make, cannot hold: a value with
///   `,`, `=`, `}` or a quotation mark at its ends, a repeated name. Such samples are left out and named.
/// - Units and comments, and which samples had timestamps: those without one get the time of the scrape.
///
/// One regular expression is run for each sample: this is for tools and tests, not for scraping in earnest.
///
/// ```
/// use prometheus_parse::Value;
/// use promferry_exposition::{ConvertedScrape, Format, ParseOptions};
/// use promferry_model::Timestamp;
///
/// let page = b"# TYPE job:hits counter\njob:hits{path=\"/a b\"} 3\njob:hits{path=\"a,b\"} 4\n";
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let converted = ConvertedScrape::parse_at(Format::Text, page, ParseOptions::default(), now)?;
/// let [sample] = converted.scrape.samples.as_slice() else { panic!("one can be converted") };
/// assert_eq!((sample.metric.as_str(), &sample.value), ("job:hits", &Value::Counter(3.0)));
/// assert_eq!(sample.labels.get("path"), Some("/a b"));
/// assert_eq!(converted.unconvertible[0].series, r#"job:hits{path="a,b"}"#);
/// # Ok::<(), promferry_exposition::ParseError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConvertedScrape {
    /// What could be converted, bit for bit.
    pub scrape: Scrape,
    /// What could not, in the order of the page.
    pub unconvertible: Vec<Unconvertible>,
}

/// Something that `prometheus-parse` has no room for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{series}: {reason}")]
pub struct Unconvertible {
    /// The series, as the text format writes it.
    pub series: String,
    /// What there is no room for.
    pub reason: UnconvertibleReason,
}

/// Why a sample is not, or not wholly, among the converted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum UnconvertibleReason {
    /// There is no such type. The sample is left out.
    #[error("there is no type {} to convert to", .0.as_str())]
    Type(MetricType),
    /// The sample, a native histogram, is left out.
    #[error("there are no native histograms to convert to")]
    NativeHistogram,
    /// A label has a name or value that would come out different. The sample is left out.
    #[error("a label cannot be held unchanged")]
    Label,
    /// A label has the same name as another. The sample is left out.
    #[error("a label name is repeated")]
    RepeatedLabel,
    /// A bucket without a readable `le` or a quantile without a readable `quantile`. The sample is left out.
    #[error("a bucket or quantile does not say which")]
    Bound,
    /// The timestamp is beyond what the date type holds. The sample is left out.
    #[error("the timestamp is out of range")]
    Timestamp,
    /// The sample is there without its exemplars.
    #[error("exemplars are left out")]
    Exemplars,
    /// The sample is there without its start timestamp.
    #[error("the start timestamp is left out")]
    StartTimestamp,
}

impl ConvertedScrape {
    /// Reads a page; samples without a timestamp are of `sample_time`.
    ///
    /// # Errors
    /// Says where the page breaks its format, as [`Parser`] does.
    pub fn parse_at(
        format: Format,
        page: &[u8],
        options: ParseOptions,
        sample_time: Timestamp,
    ) -> Result<Self, ParseError> {
        let mut converter = Converter {
            sample_time,
            types: HashMap::new(),
            grouped: HashMap::new(),
            labels: LabelBuffer::new(),
            converted: Self {
                scrape: Scrape { docs: HashMap::new(), samples: Vec::new() },
                unconvertible: Vec::new(),
            },
        };
        let mut parser = Parser::new(format, page, options);
        while let Some(event) = parser.next()? {
            match event {
                Event::Help { family, help } => {
                    let docs = &mut converter.converted.scrape.docs;
                    docs.insert(family.into_owned(), help.unescape().into_owned());
                }
                Event::Type { family, metric_type } => {
                    converter.types.insert(family.into_owned(), metric_type);
                }
                Event::Series(series) => {
                    series.labels(&mut converter.labels)?;
                    match converter.take(&series) {
                        Ok(()) => converter.note_losses(&series),
                        Err(reason) => converter.leave_out(reason),
                    }
                }
                Event::Histogram(histogram) => {
                    histogram.labels(&mut converter.labels)?;
                    converter.leave_out(UnconvertibleReason::NativeHistogram);
                }
                Event::Unit { .. } | Event::Comment(_) => {}
            }
        }
        Ok(converter.converted)
    }
}

struct Converter {
    sample_time: Timestamp,
    types: HashMap<String, MetricType>,
    /// Where among the samples a histogram or summary is whose buckets or quantiles are being gathered.
    grouped: HashMap<Group, usize>,
    /// Those of the series at hand.
    labels: LabelBuffer,
    converted: ConvertedScrape,
}

/// Name, sorted labels and time.
type Group = (String, Vec<(String, String)>, Timestamp);

impl Converter {
    fn take(&mut self, series: &SeriesEvent<'_>) -> Result<(), UnconvertibleReason> {
        let name = self.labels.metric_name();
        let family = family_of(name, |family| self.types.get(family).copied());
        let metric_type = family.and_then(|family| self.types.get(family)).copied().unwrap_or_default();
        let family = family.unwrap_or(name);
        let value = series.value();
        let at = series.timestamp().unwrap_or(self.sample_time);
        let single = match metric_type {
            MetricType::Counter => Value::Counter(value),
            MetricType::Gauge => Value::Gauge(value),
            MetricType::Unknown => Value::Untyped(value),
            MetricType::Histogram if name.strip_suffix("_bucket") == Some(family) => {
                let (bound, group) = self.bound("le", family, at)?;
                let Value::Histogram(buckets) = self.gathered(group, || Value::Histogram(Vec::new()))? else {
                    return Err(UnconvertibleReason::Bound);
                };
                buckets.push(HistogramCount { less_than: bound, count: value });
                return Ok(());
            }
            MetricType::Summary if name == family => {
                let (bound, group) = self.bound("quantile", family, at)?;
                let Value::Summary(quantiles) = self.gathered(group, || Value::Summary(Vec::new()))? else {
                    return Err(UnconvertibleReason::Bound);
                };
                quantiles.push(SummaryCount { quantile: bound, count: value });
                return Ok(());
            }
            MetricType::Histogram | MetricType::Summary => Value::Untyped(value),
            other => return Err(UnconvertibleReason::Type(other)),
        };
        let pairs: Vec<_> = self.labels.iter().skip(1).collect();
        let sample = sample(name, &pairs, at, single)?;
        self.converted.scrape.samples.push(sample);
        Ok(())
    }

    /// The label that tells a bucket or quantile from others of its metric, and what they have in common.
    fn bound(&self, label: &str, family: &str, at: Timestamp) -> Result<(f64, Group), UnconvertibleReason> {
        let bound = self.labels.get(label).and_then(|text| go_float::parse(text.as_bytes()).ok());
        let bound = bound.ok_or(UnconvertibleReason::Bound)?;
        if self.labels.iter().filter(|(name, _)| *name == label).count() > 1 {
            return Err(UnconvertibleReason::RepeatedLabel);
        }
        let common = self.labels.iter().skip(1).filter(|(name, _)| *name != label);
        let mut common: Vec<_> = common.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        common.sort_unstable();
        Ok((bound, (family.to_owned(), common, at)))
    }

    fn gathered(
        &mut self,
        group: Group,
        empty: impl FnOnce() -> Value,
    ) -> Result<&mut Value, UnconvertibleReason> {
        let samples = &mut self.converted.scrape.samples;
        let at = match self.grouped.entry(group) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let (family, labels, at) = new.key();
                let pairs: Vec<_> =
                    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                samples.push(sample(family, &pairs, *at, empty())?);
                *new.insert(samples.len() - 1)
            }
        };
        Ok(&mut samples[at].value)
    }

    fn note_losses(&mut self, series: &SeriesEvent<'_>) {
        if series.start().is_some() {
            self.leave_out(UnconvertibleReason::StartTimestamp);
        }
        if series.exemplars().next(&mut LabelBuffer::new()).is_some() {
            self.leave_out(UnconvertibleReason::Exemplars);
        }
    }

    fn leave_out(&mut self, reason: UnconvertibleReason) {
        self.converted.unconvertible.push(Unconvertible { series: written(&self.labels), reason });
    }
}

/// A sample with these labels. Only the crate's own parser makes `Labels` and the date type that comes with them,
/// so it is given a line to read, unescaped as it wants it, and what it made of that is compared.
fn sample(
    metric: &str,
    labels: &[(&str, &str)],
    at: Timestamp,
    value: Value,
) -> Result<Sample, UnconvertibleReason> {
    let mut line = "x".to_owned();
    for (index, (name, value)) in labels.iter().enumerate() {
        line.push(if index == 0 { '{' } else { ',' });
        line.extend([name, "=\"", value, "\""]);
    }
    line.push_str(if labels.is_empty() { " 0 " } else { "} 0 " });
    line.push_str(&at.as_millis().to_string());
    let read = Scrape::parse(std::iter::once(Ok(line))).map_err(|_| UnconvertibleReason::Label)?;
    let [Sample { labels: read_labels, timestamp, .. }] = read.samples.as_slice() else {
        return Err(UnconvertibleReason::Label);
    };
    if !is_same(labels, read_labels) {
        let mut names: Vec<_> = labels.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let is_repeated = names.windows(2).any(|pair| pair[0] == pair[1]);
        return Err(if is_repeated {
            UnconvertibleReason::RepeatedLabel
        } else {
            UnconvertibleReason::Label
        });
    }
    if timestamp.timestamp_millis() != at.as_millis() {
        return Err(UnconvertibleReason::Timestamp);
    }
    Ok(Sample { metric: metric.to_owned(), value, labels: read_labels.clone(), timestamp: *timestamp })
}

fn is_same(labels: &[(&str, &str)], read: &Labels) -> bool {
    labels.len() == read.len() && labels.iter().all(|(name, value)| read.get(name) == Some(*value))
}

/// The series as the text format writes it.
fn written(labels: &LabelBuffer) -> String {
    let mut text = labels.metric_name().to_owned();
    for (index, (name, value)) in labels.iter().skip(1).enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        text.extend([name, "=\""]);
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    if labels.len() > 1 {
        text.push('}');
    }
    text
}
