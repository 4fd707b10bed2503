use promferry_model::Timestamp;

use crate::LabelBuffer;
use crate::custom_buckets::CustomBuckets;
#[cfg(feature = "openmetrics2")]
use crate::openmetrics2::OpenMetrics2Parser;
use crate::protobuf::ProtobufParser;
use crate::protobuf::exemplars::ProtobufExemplars;
use crate::text::TextParser;

/// The exemplars of one sample, in the order of the page. A cursor that lends its labels.
#[derive(Clone)]
pub struct Exemplars<'p>(Source<'p>);

#[derive(Clone)]
enum Source<'p> {
    /// `None` when its exemplar, of which there is one at most, has been given.
    Text(Option<&'p TextParser<'p>>),
    /// How many have been given.
    CustomBuckets(&'p CustomBuckets<'p>, usize),
    /// How many have been given.
    #[cfg(feature = "openmetrics2")]
    OpenMetrics2(&'p OpenMetrics2Parser<'p>, usize),
    Protobuf(ProtobufExemplars<'p>),
}

/// What an exemplar says beside its labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExemplarSample {
    /// The observed value.
    pub value: f64,
    /// When it was observed, if the page says so.
    pub timestamp: Option<Timestamp>,
}

impl<'p> Exemplars<'p> {
    pub(crate) const fn of_text(parser: &'p TextParser<'p>) -> Self {
        Self(Source::Text(Some(parser)))
    }

    pub(crate) const fn of_custom_buckets(parser: &'p CustomBuckets<'p>) -> Self {
        Self(Source::CustomBuckets(parser, 0))
    }

    #[cfg(feature = "openmetrics2")]
    pub(crate) const fn of_openmetrics2(parser: &'p OpenMetrics2Parser<'p>) -> Self {
        Self(Source::OpenMetrics2(parser, 0))
    }

    pub(crate) fn of_protobuf(parser: &'p ProtobufParser<'p>) -> Self {
        Self(Source::Protobuf(parser.exemplars()))
    }

    /// The next exemplar, its labels put into `labels`; `None` when there are no more. Label texts are as
    /// the page has them: Prometheus leaves their escapes in.
    pub fn next(&mut self, labels: &mut LabelBuffer) -> Option<ExemplarSample> {
        match &mut self.0 {
            Source::Text(parser) => {
                let parser = parser.take()?;
                let exemplar = parser.exemplar()?;
                parser.exemplar_labels(exemplar, labels);
                Some(ExemplarSample { value: exemplar.value, timestamp: exemplar.timestamp })
            }
            Source::CustomBuckets(parser, next) => parser.exemplar(next, labels),
            #[cfg(feature = "openmetrics2")]
            Source::OpenMetrics2(parser, next) => parser.exemplar(next, labels),
            Source::Protobuf(exemplars) => exemplars.next(labels),
        }
    }
}
