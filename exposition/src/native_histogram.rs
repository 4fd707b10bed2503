use std::fmt;

use promferry_model::{Histogram, Timestamp};

use crate::custom_buckets::CustomBuckets;
#[cfg(feature = "openmetrics2")]
use crate::openmetrics2::OpenMetrics2Parser;
use crate::protobuf::ProtobufParser;
use crate::{Exemplars, LabelBuffer, LabelSpans, ParseError, SeriesKey, SplitLabels};

/// One native histogram, valid until the parser goes on.
#[derive(Clone, Copy)]
pub struct HistogramEvent<'p> {
    source: Source<'p>,
    timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy)]
enum Source<'p> {
    Protobuf(&'p ProtobufParser<'p>),
    CustomBuckets(&'p CustomBuckets<'p>),
    #[cfg(feature = "openmetrics2")]
    OpenMetrics2(&'p OpenMetrics2Parser<'p>),
}

impl<'p> HistogramEvent<'p> {
    pub(crate) const fn of_protobuf(parser: &'p ProtobufParser<'p>, timestamp: Option<Timestamp>) -> Self {
        Self { source: Source::Protobuf(parser), timestamp }
    }

    pub(crate) const fn of_custom_buckets(
        parser: &'p CustomBuckets<'p>,
        timestamp: Option<Timestamp>,
    ) -> Self {
        Self { source: Source::CustomBuckets(parser), timestamp }
    }

    #[cfg(feature = "openmetrics2")]
    pub(crate) const fn of_openmetrics2(
        parser: &'p OpenMetrics2Parser<'p>,
        timestamp: Option<Timestamp>,
    ) -> Self {
        Self { source: Source::OpenMetrics2(parser), timestamp }
    }

    /// The time that the page itself gives the histogram.
    pub const fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    /// Since when it has been counted, under [`crate::ParseOptions::parse_start_timestamps`].
    pub fn start(&self) -> Option<Timestamp> {
        match self.source {
            Source::Protobuf(parser) => parser.start(),
            Source::CustomBuckets(parser) => parser.start(),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.start(),
        }
    }

    /// As [`crate::SeriesEvent::key`].
    pub fn key(&self, seed: u64) -> SeriesKey {
        match self.source {
            Source::Protobuf(parser) => parser.key(seed),
            Source::CustomBuckets(parser) => parser.key(seed),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.key(seed),
        }
    }

    /// As [`crate::SeriesEvent::labels`].
    ///
    /// # Errors
    /// Says what is wrong with the labels, for which Prometheus would refuse the page.
    pub fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        match self.source {
            Source::Protobuf(parser) => parser.labels(labels),
            Source::CustomBuckets(parser) => {
                parser.labels(labels);
                Ok(())
            }
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.labels(labels),
        }
    }

    /// As [`crate::SeriesEvent::split`].
    ///
    /// # Errors
    /// As [`HistogramEvent::labels`].
    pub fn split<'s>(&self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError>
    where
        'p: 's,
    {
        match self.source {
            Source::Protobuf(parser) => parser.split(spans),
            _ => spans.fill(|labels| self.labels(labels)),
        }
    }

    /// The exemplars that have a timestamp: the histogram's own or, if it has none, those of its classic
    /// buckets. (Prometheus 3.16 forgets them from a family's second metric on; here all are given.)
    ///
    /// Those of a text page's classic histogram that was converted come from its classic series, with a time or
    /// without.
    pub fn exemplars(&self) -> Exemplars<'p> {
        match self.source {
            Source::Protobuf(parser) => Exemplars::of_protobuf(parser),
            Source::CustomBuckets(parser) => parser.exemplars(),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => Exemplars::of_openmetrics2(parser),
        }
    }

    /// The histogram in a form of its own; [`HistogramEvent::read_into`] says which.
    pub fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::stale();
        self.read_into(&mut histogram);
        histogram
    }

    /// Puts the histogram into `histogram`, whose lists are used again, with empty buckets taken out, as Prometheus
    /// keeps it. Spans and buckets agree in number; whether counts make sense is not judged.
    pub fn read_into(&self, histogram: &mut Histogram) {
        match self.source {
            Source::Protobuf(parser) => parser.read_into(histogram),
            Source::CustomBuckets(parser) => parser.read_into(histogram),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser) => parser.read_into(histogram),
        }
    }
}

impl fmt::Debug for HistogramEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut labels = LabelBuffer::new();
        let judged = self.labels(&mut labels);
        f.debug_struct("HistogramEvent")
            .field("labels", &judged.map(|()| labels))
            .field("histogram", &self.histogram())
            .field("timestamp", &self.timestamp)
            .finish()
    }
}
