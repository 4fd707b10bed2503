use std::borrow::Cow;

use promferry_model::{MetricType, Timestamp};

use crate::custom_buckets::CustomBuckets;
#[cfg(feature = "openmetrics2")]
use crate::openmetrics2::OpenMetrics2Parser;
use crate::protobuf::{self, ProtobufParser};
use crate::text::{self, TextParser};
use crate::text_series::unescape;
use crate::{
    Dialect, Exemplars, Format, HistogramEvent, LabelBuffer, LabelSpans, LeFormat, ParseError, SeriesKey,
    SplitLabels,
};

/// What a scrape configuration says about reading a page. The default is Prometheus' default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseOptions {
    /// Read native histograms (`scrape_native_histograms`); otherwise their native parts are passed over
    /// and what is left is a classic histogram.
    pub native_histograms: bool,
    /// Give the classic series too where a native histogram has classic buckets
    /// (`always_scrape_classic_histograms`).
    pub always_classic_histograms: bool,
    /// Read start (created) timestamps. In OpenMetrics the `_created` series of counters, histograms and
    /// summaries are then no series of their own. Off in Prometheus unless a feature flag wants them.
    pub parse_start_timestamps: bool,
    /// How `le` and `quantile` are written (`le_format`).
    pub le_format: LeFormat,
    /// Give classic histograms as native ones with custom buckets (`convert_classic_histograms_to_nhcb`). Their
    /// classic series are then left out, unless [`ParseOptions::always_classic_histograms`] is set.
    pub convert_classic_to_custom_buckets: bool,
    /// Add the family's type and unit to each series as `__type__` and `__unit__` (Prometheus' feature flag
    /// `type-and-unit-labels`). A page's own labels of these names give way where the family has a type or a
    /// unit.
    pub type_and_unit_labels: bool,
}

/// A pull parser over one page in memory. It judges as Prometheus 3.16 does.
///
/// # What is judged when
///
/// [`Parser::next`] judges everything but the bytes of series themselves: whether names and labels obey the
/// grammar and are UTF-8 is judged by [`SeriesEvent::labels`]. So a page is accepted when `next` has come to
/// `None` without an error and `labels` has succeeded for every series. As the judgement depends on nothing
/// but the bytes and the parse context, one success for a [`SeriesEvent::key`] holds for every page: a
/// scraper that remembers keys calls `labels` for keys that it does not know, and for no others. A key whose
/// `labels` failed must not be remembered.
///
/// Walking a page takes time linear in its length and allocates nothing unless the page is refused.
pub struct Parser<'a>(Inner<'a>);

#[expect(clippy::large_enum_variant, reason = "a text page is read without allocating")]
enum Inner<'a> {
    Text(TextParser<'a>),
    /// A text format whose classic histograms are converted.
    CustomBuckets(Box<CustomBuckets<'a>>),
    #[cfg(feature = "openmetrics2")]
    OpenMetrics2(Box<OpenMetrics2Parser<'a>>),
    Protobuf(Box<ProtobufParser<'a>>),
}

impl<'a> Parser<'a> {
    /// A parser at the start of `page`, which is in `format`.
    pub fn new(format: Format, page: &'a [u8], options: ParseOptions) -> Self {
        let text = |dialect| {
            let text = TextParser::new(dialect, page, options);
            if options.convert_classic_to_custom_buckets {
                Inner::CustomBuckets(Box::new(CustomBuckets::new(text, options)))
            } else {
                Inner::Text(text)
            }
        };
        Self(match format {
            Format::Text => text(Dialect::Prometheus),
            Format::OpenMetrics => text(Dialect::OpenMetrics),
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => Inner::OpenMetrics2(Box::new(OpenMetrics2Parser::new(page, options))),
            Format::Protobuf => Inner::Protobuf(Box::new(ProtobufParser::new(page, options))),
        })
    }

    /// A parser that reads everything by the whole grammar, as that of [`Parser::new`] does where its quick ways do
    /// not reach: for tests that hold the two against each other.
    #[doc(hidden)]
    pub fn without_quick_ways(format: Format, page: &'a [u8], options: ParseOptions) -> Self {
        let mut parser = Self::new(format, page, options);
        match &mut parser.0 {
            Inner::Text(text) => text.forgo_quick_ways(),
            Inner::CustomBuckets(custom) => custom.forgo_quick_ways(),
            #[cfg(feature = "openmetrics2")]
            Inner::OpenMetrics2(_) => {}
            Inner::Protobuf(protobuf) => protobuf.forgo_quick_ways(),
        }
        parser
    }

    /// The next thing that the page says; `None` at its end.
    ///
    /// # Errors
    /// Says where the page breaks its format. The page is then to be given up: what comes of calling `next`
    /// again is not said.
    #[expect(clippy::should_implement_trait, reason = "what it lends is valid until the next call only")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        match &mut self.0 {
            Inner::Text(parser) => match parser.quick_series() {
                Some(()) => Ok(Some(Event::Series(SeriesEvent(Source::Text(parser))))),
                None => next_of_text(parser),
            },
            Inner::CustomBuckets(parser) => parser.next(),
            #[cfg(feature = "openmetrics2")]
            Inner::OpenMetrics2(parser) => parser.next(),
            Inner::Protobuf(parser) => next_of_protobuf(parser),
        }
    }
}

/// One thing that a page says. Families are named as their metadata names them, which for an OpenMetrics
/// counter is without `_total`; names that are not UTF-8 come with replacement characters and match no series.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'p> {
    /// The family's description.
    Help {
        /// The family's name.
        family: Cow<'p, str>,
        /// The description.
        help: HelpText<'p>,
    },
    /// The family's type.
    Type {
        /// The family's name.
        family: Cow<'p, str>,
        /// The type.
        metric_type: MetricType,
    },
    /// The family's unit; never empty in protobuf.
    Unit {
        /// The family's name.
        family: Cow<'p, str>,
        /// The unit.
        unit: Cow<'p, str>,
    },
    /// A comment of the text format, with its '#'.
    Comment(&'p [u8]),
    /// One sample of a series.
    Series(SeriesEvent<'p>),
    /// One native histogram.
    Histogram(HistogramEvent<'p>),
}

impl<'p> Event<'p> {
    /// What `entry`, which `parser` has just read, says.
    #[inline]
    pub(crate) fn of_text(parser: &'p TextParser<'p>, entry: text::Entry<'p>) -> Self {
        match entry {
            text::Entry::Series { .. } => Self::Series(SeriesEvent(Source::Text(parser))),
            text::Entry::Help { family, help } => Self::Help {
                family: lossy(family),
                help: HelpText { escaped: lossy(help), format: Some(parser.dialect()) },
            },
            text::Entry::Type { family, metric_type } => Self::Type { family: lossy(family), metric_type },
            text::Entry::Unit { family, unit } => Self::Unit { family: lossy(family), unit: lossy(unit) },
            text::Entry::Comment(comment) => Self::Comment(comment),
        }
    }
}

/// A help text as the page writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelpText<'p> {
    escaped: Cow<'p, str>,
    /// The text format whose escapes are in it; protobuf has none.
    format: Option<Dialect>,
}

impl<'p> HelpText<'p> {
    #[cfg(feature = "openmetrics2")]
    pub(crate) fn of_text(escaped: &'p [u8], dialect: Dialect) -> Self {
        Self { escaped: lossy(escaped), format: Some(dialect) }
    }

    /// The text without escapes; allocates only if there are any.
    pub fn unescape(&self) -> Cow<'_, str> {
        match self.format {
            Some(dialect) if self.escaped.contains('\\') => {
                let mut text = String::with_capacity(self.escaped.len());
                unescape(&self.escaped, dialect == Dialect::OpenMetrics, &mut text);
                Cow::Owned(text)
            }
            _ => Cow::Borrowed(&self.escaped),
        }
    }
}

/// One sample of a series, valid until the parser goes on.
///
/// It is no more than where the parser stands: an event that carries the sample is written by parts and read as a whole,
/// which a processor is slow at. That alone was a quarter of a known series' time.
#[derive(Clone, Copy)]
pub struct SeriesEvent<'p>(pub(crate) Source<'p>);

#[derive(Clone, Copy)]
pub(crate) enum Source<'p> {
    Text(&'p TextParser<'p>),
    #[cfg(feature = "openmetrics2")]
    OpenMetrics2(&'p OpenMetrics2Parser<'p>),
    Protobuf(&'p ProtobufParser<'p>),
}

impl<'p> SeriesEvent<'p> {
    /// The value, bit for bit as Prometheus reads it: in the text formats every not-a-number has
    /// [`promferry_model::NORMAL_NAN_BITS`], in protobuf it has the bits that were sent.
    #[inline]
    pub const fn value(&self) -> f64 {
        self.sample().0
    }

    /// The time that the page itself gives the sample.
    #[inline]
    pub const fn timestamp(&self) -> Option<Timestamp> {
        self.sample().1
    }

    #[inline]
    const fn sample(&self) -> (f64, Option<Timestamp>) {
        match self.0 {
            Source::Text(parser) => parser.sample,
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.sample,
            Source::Protobuf(parser) => parser.sample,
        }
    }

    /// Since when a cumulative value has been counted, if the page says so and
    /// [`ParseOptions::parse_start_timestamps`] is set.
    pub fn start(&self) -> Option<Timestamp> {
        match self.0 {
            Source::Text(parser) => parser.start(),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.start(),
            Source::Protobuf(parser) => parser.start(),
        }
    }

    /// The key of the series in its parse context; see [`Parser`] for what may be remembered under it.
    #[inline]
    pub fn key(&self, seed: u64) -> SeriesKey {
        match self.0 {
            Source::Text(parser) => parser.context().key(parser.series(), seed),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.key(seed),
            Source::Protobuf(parser) => parser.key(seed),
        }
    }

    /// The series as a text page writes it; `None` where no bytes of the page are the series' own, as in
    /// protobuf and in the parts of composite values.
    #[inline]
    pub fn series_bytes(&self) -> Option<&'p [u8]> {
        match self.0 {
            Source::Text(parser) => Some(parser.series()),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.series(),
            Source::Protobuf(_) => None,
        }
    }

    /// Splits the series into `labels`, unescaped and with `le` and `quantile` written as
    /// [`ParseOptions::le_format`] says, and judges the series' bytes in full.
    ///
    /// # Errors
    /// Says what is wrong with the series, for which Prometheus would refuse the page.
    pub fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        match self.0 {
            Source::Text(parser) => parser.labels(labels),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.labels(labels),
            Source::Protobuf(parser) => parser.labels(labels),
        }
    }

    /// As [`SeriesEvent::labels`], but copies no text that means what it says: `spans` only notes where names and
    /// values are. Places have 32 bits: a series of 4 GiB and more is for [`SeriesEvent::labels`] alone.
    ///
    /// # Errors
    /// As [`SeriesEvent::labels`].
    #[inline]
    pub fn split<'s>(&self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError>
    where
        'p: 's,
    {
        match self.0 {
            Source::Text(parser) => parser.split(spans),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => spans.fill(|labels| parser.labels(labels)),
            Source::Protobuf(parser) => parser.split(spans),
        }
    }

    /// The type that the page last declared, for whichever family: what decided the meaning of `le` and
    /// `quantile`.
    pub fn metric_type(&self) -> MetricType {
        match self.0 {
            Source::Text(parser) => parser.context().metric_type(),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.metric_type(),
            Source::Protobuf(parser) => parser.metric_type(),
        }
    }

    /// The sample's exemplars.
    pub fn exemplars(&self) -> Exemplars<'p> {
        match self.0 {
            Source::Text(parser) => Exemplars::of_text(parser),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => Exemplars::of_openmetrics2(parser),
            Source::Protobuf(parser) => Exemplars::of_protobuf(parser),
        }
    }
}

impl std::fmt::Debug for SeriesEvent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut labels = LabelBuffer::new();
        let judged = self.labels(&mut labels);
        f.debug_struct("SeriesEvent")
            .field("labels", &judged.map(|()| labels))
            .field("value", &self.value())
            .field("timestamp", &self.timestamp())
            .finish()
    }
}

/// The next event of a text page where it is not known to be a sample that can be read quickly.
#[inline(never)]
fn next_of_text<'p>(parser: &'p mut TextParser<'_>) -> Result<Option<Event<'p>>, ParseError> {
    let Some(entry) = parser.next()? else { return Ok(None) };
    Ok(Some(Event::of_text(parser, entry)))
}

#[inline(never)]
fn next_of_protobuf<'p>(parser: &'p mut ProtobufParser<'_>) -> Result<Option<Event<'p>>, ParseError> {
    let Some(entry) = parser.next()? else { return Ok(None) };
    let parser = &*parser;
    let family = || Cow::Borrowed(parser.family());
    Ok(Some(match entry {
        protobuf::Entry::Series => Event::Series(SeriesEvent(Source::Protobuf(parser))),
        protobuf::Entry::Histogram { timestamp } => {
            Event::Histogram(HistogramEvent::of_protobuf(parser, timestamp))
        }
        protobuf::Entry::Help => Event::Help {
            family: family(),
            help: HelpText { escaped: Cow::Borrowed(parser.help()), format: None },
        },
        protobuf::Entry::Type => Event::Type { family: family(), metric_type: parser.metric_type() },
        protobuf::Entry::Unit => Event::Unit { family: family(), unit: lossy(parser.unit()) },
    }))
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    // For what is UTF-8 this is several times faster than asking for replacement characters.
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}
