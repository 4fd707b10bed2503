use std::cell::Cell;
use std::fmt;

use promferry_model::METRIC_NAME;

use crate::{LabelBuffer, ParseError};

/// How many labels have room from the start.
pub(crate) const MANY: usize = 64;

/// Where a series' labels are, for [`crate::SeriesEvent::split`]: refilled for every series, so that splitting
/// allocates only when a series has more labels than every one before, or where [`LabelBuffer`] does.
#[derive(Clone, Debug, Default)]
pub struct LabelSpans {
    pub(crate) spans: Spans,
    copied: LabelBuffer,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    /// The metric's name first; those behind `count` mean nothing.
    spans: Vec<Span>,
    count: usize,
    /// Texts that the page does not have as they are meant: with escapes, or of another form of number.
    pub(crate) rewritten: String,
}

/// Where a label's name and value start and end, in the series' text with the rewritten one behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Of no meaning for the metric's name.
    pub(crate) name: [u32; 2],
    pub(crate) value: [u32; 2],
}

impl LabelSpans {
    /// Without labels.
    pub const fn new() -> Self {
        Self { spans: Spans::new(), copied: LabelBuffer::new() }
    }

    /// Holds copies of the labels that `labels` gives.
    pub(crate) fn fill(
        &mut self,
        labels: impl FnOnce(&mut LabelBuffer) -> Result<(), ParseError>,
    ) -> Result<SplitLabels<'_>, ParseError> {
        let Self { spans, copied } = self;
        labels(copied)?;
        spans.clear();
        let named = copied.iter().position(|(name, _)| name == METRIC_NAME);
        let name = named.and_then(|at| copied.label(at)).map_or("", |(_, name)| name);
        spans.push_copy("", name);
        for (at, (name, value)) in copied.iter().enumerate() {
            if Some(at) != named {
                spans.push_copy(name, value);
            }
        }
        Ok(self.spans.labels(SeriesText::Str("")))
    }
}

impl Spans {
    pub(crate) const fn new() -> Self {
        Self { spans: Vec::new(), count: 0, rewritten: String::new() }
    }

    /// Room for as many labels as nearly all series have; [`Spans::set_count`] is then to say how many there are.
    #[inline(always)]
    pub(crate) fn places(&mut self) -> Option<(&mut [Span; MANY], &mut String)> {
        if self.spans.len() < MANY {
            self.spans.resize(MANY, Span::default());
        }
        Some((self.spans.first_chunk_mut()?, &mut self.rewritten))
    }

    #[inline(always)]
    pub(crate) const fn set_count(&mut self, count: usize) {
        self.count = count;
    }

    #[inline]
    fn push(&mut self, span: Span) {
        match self.spans.get_mut(self.count) {
            Some(place) => *place = span,
            None => self.spans.push(span),
        }
        self.count += 1;
    }

    /// Adds a label that has no place in the series, which has no text.
    fn push_copy(&mut self, name: &str, value: &str) {
        let mut copy = |text: &str| {
            let start = self.rewritten.len() as u32;
            self.rewritten.push_str(text);
            [start, self.rewritten.len() as u32]
        };
        let span = Span { name: copy(name), value: copy(value) };
        self.push(span);
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.rewritten.clear();
    }

    /// The labels whose places in `series` these are.
    #[inline]
    pub(crate) fn labels<'s>(&'s self, series: SeriesText<'s>) -> SplitLabels<'s> {
        SplitLabels {
            series,
            spans: self.spans.get(..self.count).unwrap_or_default(),
            rewritten: &self.rewritten,
        }
    }
}

/// Filling in place, by who knows that all texts are within `series` or written for it: first the metric's name, then
/// the other labels.
impl LabelSpans {
    /// Begins anew with the metric's name as `write` writes it.
    #[inline]
    pub(crate) fn begin(&mut self, series: &str, write: impl FnOnce(&mut String)) {
        self.spans.clear();
        self.push_written(series, "", write);
    }

    /// Adds a label by the places of its name and its value in the series' text.
    #[inline]
    pub(crate) fn push(&mut self, name: [usize; 2], value: [usize; 2]) {
        let place = |[start, end]: [usize; 2]| [start as u32, end as u32];
        self.spans.push(Span { name: place(name), value: place(value) });
    }

    /// Adds a label that is not in the series' text.
    #[inline]
    pub(crate) fn push_written(&mut self, series: &str, name: &str, write: impl FnOnce(&mut String)) {
        let start = series.len() + self.spans.rewritten.len();
        self.spans.rewritten.push_str(name);
        let value_start = series.len() + self.spans.rewritten.len();
        write(&mut self.spans.rewritten);
        let end = series.len() + self.spans.rewritten.len();
        self.push([start, value_start], [value_start, end]);
    }

    /// What has been filled in.
    #[inline]
    pub(crate) fn split<'s>(&'s self, series: &'s str) -> SplitLabels<'s> {
        self.spans.labels(SeriesText::Str(series))
    }
}

/// A series' labels, borrowed from its page. The metric's name comes first, as `__name__`; the others follow in
/// the order of the page, with empty values and repeated names as the page has them (a scraper judges those).
#[derive(Clone, Copy)]
pub struct SplitLabels<'s> {
    series: SeriesText<'s>,
    spans: &'s [Span],
    rewritten: &'s str,
}

/// The text that spans are places in. It has been judged to be UTF-8.
#[derive(Clone, Copy)]
pub(crate) enum SeriesText<'s> {
    Str(&'s str),
    Bytes {
        series: &'s [u8],
        /// How many series' bytes have been turned into texts: the page as a whole is the cheaper one, if it
        /// is for many.
        asked: &'s Cell<u32>,
    },
}

impl<'s> SplitLabels<'s> {
    /// How many labels there are, the metric's name included: never none.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "there is always a metric's name")]
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// The metric's name; empty if the page gave an empty one.
    pub fn metric_name(&self) -> &'s str {
        self.iter().next().map_or("", |(_, name)| name)
    }

    /// The value of the first label of this name.
    pub fn get(&self, name: &str) -> Option<&'s str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Names and values.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'s str, &'s str)> + Clone + use<'s> {
        let Self { series, spans, rewritten } = *self;
        let series = match series {
            SeriesText::Str(series) => series,
            SeriesText::Bytes { series, asked } => {
                asked.set(asked.get().saturating_add(1));
                str::from_utf8(series).unwrap_or_default()
            }
        };
        let text = move |[start, end]: [u32; 2]| {
            let (start, end) = (start as usize, end as usize);
            let text = match series.get(start..end) {
                Some(text) => Some(text),
                None => rewritten.get(start - series.len()..end - series.len()),
            };
            text.unwrap_or_default()
        };
        spans
            .iter()
            .enumerate()
            .map(move |(at, span)| (if at == 0 { METRIC_NAME } else { text(span.name) }, text(span.value)))
    }
}

impl fmt::Debug for SplitLabels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
