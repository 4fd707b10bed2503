//! Classic histograms of the text formats as native ones with custom buckets.

use promferry_model::{Histogram, Timestamp};

use crate::text::TextParser;
use crate::{Event, Exemplars, LabelBuffer, ParseError, ParseOptions, SeriesKey};

/// A text page whose classic histograms are given as native ones with custom buckets.
pub(crate) struct CustomBuckets<'a> {
    text: TextParser<'a>,
}

impl<'a> CustomBuckets<'a> {
    pub(crate) fn new(text: TextParser<'a>, _options: ParseOptions) -> Self {
        Self { text }
    }

    pub(crate) const fn forgo_quick_ways(&mut self) {
        self.text.forgo_quick_ways();
    }

    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        let Some(entry) = self.text.next()? else { return Ok(None) };
        Ok(Some(Event::of_text(&self.text, entry)))
    }

    /// Since when the current histogram has counted.
    pub(crate) const fn start(&self) -> Option<Timestamp> {
        self.text.start()
    }

    pub(crate) fn key(&self, seed: u64) -> SeriesKey {
        self.text.context().key(self.text.series(), seed)
    }

    pub(crate) fn labels(&self, labels: &mut LabelBuffer) -> Result<(), ParseError> {
        self.text.labels(labels)
    }

    pub(crate) const fn exemplars(&self) -> Exemplars<'_> {
        Exemplars::of_text(&self.text)
    }

    pub(crate) fn read_into(&self, _histogram: &mut Histogram) {}
}
