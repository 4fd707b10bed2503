use promferry_model::Timestamp;

use crate::LabelBuffer;
use crate::protobuf::ProtobufParser;
use crate::text::TextParser;

/// The exemplars of one sample, in the order of the page. A cursor that lends its labels.
#[derive(Clone)]
pub struct Exemplars<'p> {
    source: Source<'p>,
    next: usize,
}

#[derive(Clone)]
enum Source<'p> {
    Text(&'p TextParser<'p>),
    Protobuf(&'p ProtobufParser<'p>),
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
        Self { source: Source::Text(parser), next: 0 }
    }

    pub(crate) const fn of_protobuf(parser: &'p ProtobufParser<'p>) -> Self {
        Self { source: Source::Protobuf(parser), next: 0 }
    }

    /// The next exemplar, its labels put into `labels`; `None` when there are no more. Label texts are as
    /// the page has them: Prometheus leaves their escapes in.
    pub fn next(&mut self, labels: &mut LabelBuffer) -> Option<ExemplarSample> {
        match self.source {
            Source::Text(parser) => {
                let exemplar = parser.exemplar().filter(|_| self.next == 0)?;
                self.next = 1;
                parser.exemplar_labels(exemplar, labels);
                Some(ExemplarSample { value: exemplar.value, timestamp: exemplar.timestamp })
            }
            Source::Protobuf(parser) => parser.exemplar(&mut self.next, labels),
        }
    }
}
