//! The quick way through the labels of a series that is written as nearly all are: without blanks, quoted names and
//! escapes. What it leaves alone is split by the whole grammar.

use promferry_model::{BUCKET_LABEL, MetricType, QUANTILE_LABEL};

use crate::block::LabelMarks;
use crate::spans::{SeriesText, Span, Spans};
use crate::text::TextParser;
use crate::text_lexer::is_metric_name_start;
use crate::{LabelBuffer, LabelSpans, LeFormat, ParseError, SplitLabels};

impl<'a> TextParser<'a> {
    /// Splits the current series, judging its bytes, and copies no text that is meant as it is written.
    #[inline(always)]
    pub(crate) fn split<'s>(&'s self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError> {
        if self.quick_split(&mut spans.spans).is_none() {
            return self.careful_split(spans);
        }
        Ok(spans.spans.labels(self.series_text()))
    }

    #[inline(always)]
    fn series_text(&self) -> SeriesText<'_> {
        match self.text {
            Some(Some(page)) => SeriesText::Str(page.get(self.series.clone()).unwrap_or_default()),
            _ => SeriesText::Bytes { series: self.series(), asked: &self.asked_texts },
        }
    }

    /// Whether nothing in the series needs the whole grammar or has another meaning than it seems to have.
    #[cold]
    #[inline(never)]
    fn is_plain_after_all(&self) -> bool {
        let series = self.series();
        self.quick
            && !self.options.type_and_unit_labels
            && self.lines.covers(self.series.start, self.series.end)
            && memchr::memchr2(b'\\', 0, series).is_none()
            && str::from_utf8(series).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn careful_split<'s>(&self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError> {
        spans.fill(|labels| self.careful_labels(labels))
    }

    /// As [`TextParser::split`], into copies.
    pub(crate) fn labels(&self, buffer: &mut LabelBuffer) -> Result<(), ParseError> {
        let mut spans = std::mem::take(buffer.spans_mut());
        let judged = match self.quick_split(&mut spans) {
            Some(()) => {
                buffer.clear();
                for (name, value) in spans.labels(self.series_text()).iter() {
                    buffer.push(name, value);
                }
                Ok(())
            }
            None => self.careful_labels(buffer),
        };
        *buffer.spans_mut() = spans;
        judged
    }

    /// `None` says nothing about the series.
    #[inline(never)]
    fn quick_split(&self, spans: &mut Spans) -> Option<()> {
        let start = self.series.start;
        if !self.is_plain && !self.is_plain_after_all() {
            return None;
        }
        let mut marks = self.label_marks.borrow_mut();
        marks.mark(self.page, &self.lines);
        let number_label = match (self.context.metric_type(), self.options.le_format) {
            (_, LeFormat::Verbatim) => "",
            (MetricType::Histogram, _) => BUCKET_LABEL,
            (MetricType::Summary, _) => QUANTILE_LABEL,
            _ => "",
        };
        split(self.series(), start - self.lines.base(), &marks, number_label, self.options.le_format, spans)
    }
}

/// Splits `text`, which starts at `start` in what is marked. The values of `number_label`, if that is not empty, are
/// written anew.
#[inline(always)]
fn split(
    text: &[u8],
    start: usize,
    marks: &LabelMarks,
    number_label: &str,
    le_format: LeFormat,
    spans: &mut Spans,
) -> Option<()> {
    // Places are kept in 32 bits.
    if text.len() > u32::MAX as usize / 2 || !is_metric_name_start(*text.first()?) {
        return None;
    }
    let mut at = 0;
    loop {
        let length = marks.name_length(start + at);
        at += length;
        match text.get(at) {
            Some(b':') => at += 1,
            Some(_) if length == u64::BITS as usize => {}
            _ => break,
        }
    }
    let (places, rewritten) = spans.places()?;
    rewritten.clear();
    places[0] = Span { name: [0, 0], value: [0, at as u32] };
    let mut count = 1;
    if at == text.len() {
        spans.set_count(count);
        return Some(());
    }
    if *text.get(at)? != b'{' {
        return None;
    }
    at += 1;
    let mut quotes = marks.quotes(start, text.len());
    loop {
        let (Some(open), Some(close)) = (quotes.next(), quotes.next()) else {
            // No label, perhaps behind a comma.
            spans.set_count(count);
            return (text.get(at..)? == b"}").then_some(());
        };
        let &next = text.get(close + 1)?;
        let name_end = open - 1;
        let length = name_end.wrapping_sub(at);
        let is_name = (1..=u64::BITS as usize).contains(&length)
            && marks.are_of_names(start + at, length)
            && !text[at].is_ascii_digit();
        if !is_name || text[name_end] != b'=' {
            return None;
        }
        let mut value = [open as u32 + 1, close as u32];
        if length == number_label.len() && &text[at..name_end] == number_label.as_bytes() {
            value = number(text, value, le_format, rewritten)?;
        }
        *places.get_mut(count)? = Span { name: [at as u32, name_end as u32], value };
        count += 1;
        at = close + 2;
        if next == b'}' {
            spans.set_count(count);
            return (at == text.len()).then_some(());
        }
        if next != b',' {
            return None;
        }
    }
}

/// Where the number at `value` is written as it is to be.
fn number(text: &[u8], value: [u32; 2], le_format: LeFormat, rewritten: &mut String) -> Option<[u32; 2]> {
    let number = &text[value[0] as usize..value[1] as usize];
    let written = if le_format == LeFormat::Prometheus3 { canonical(number) } else { Canonical::Unknown };
    let start = rewritten.len();
    match written {
        Canonical::Is => return Some(value),
        Canonical::Lacks(fraction) => {
            rewritten.push_str(str::from_utf8(number).ok()?);
            rewritten.push_str(fraction);
        }
        Canonical::Unknown => match le_format.text(str::from_utf8(number).ok()?) {
            Some(number) => rewritten.push_str(&number),
            None => return Some(value),
        },
    }
    let place = |at: usize| (text.len() + at) as u32;
    Some([place(start), place(rewritten.len())])
}

/// Whether a number is written as `go_float::format_openmetrics` writes it.
#[derive(Debug, PartialEq, Eq)]
enum Canonical {
    Is,
    /// It is but for this at its end.
    Lacks(&'static str),
    Unknown,
}

/// A decimal of at most fifteen significant digits is the shortest one that reads back equal, if it has no zeros to
/// spare.
fn canonical(text: &[u8]) -> Canonical {
    /// From this many digits before the point on, an exponent is written.
    const MAX_INTEGER_DIGITS: usize = 6;
    const MAX_FRACTION_DIGITS: usize = 9;
    let integer_digits = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (integer, rest) = text.split_at(integer_digits);
    let starts_well = match integer {
        [] | [b'0', _, ..] => false,
        _ => integer_digits <= MAX_INTEGER_DIGITS,
    };
    if !starts_well {
        return if text == b"+Inf" { Canonical::Is } else { Canonical::Unknown };
    }
    match rest {
        [] => Canonical::Lacks(".0"),
        b".0" => Canonical::Is,
        [b'.', fraction @ .., b'1'..=b'9']
            if fraction.len() < MAX_FRACTION_DIGITS
                && fraction.iter().all(u8::is_ascii_digit)
                // Below 0.0001 an exponent is written.
                && (integer != b"0" || !fraction.starts_with(b"0000")) =>
        {
            Canonical::Is
        }
        _ => Canonical::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::go_float;

    fn agrees(text: &str) {
        let written = go_float::parse(text.as_bytes()).map(go_float::format_openmetrics);
        match canonical(text.as_bytes()) {
            Canonical::Is => assert_eq!(written, Ok(text.to_owned())),
            Canonical::Lacks(fraction) => assert_eq!(written, Ok(format!("{text}{fraction}"))),
            Canonical::Unknown => {}
        }
    }

    #[test]
    fn bounds() {
        for bound in ["0.005", "0.01", "2.5", "0.0001", "1.0", "0.0", "123456.123456789", "+Inf", "0.00025"] {
            assert_eq!(canonical(bound.as_bytes()), Canonical::Is, "{bound}");
            agrees(bound);
        }
        for bound in ["0", "1", "10", "123456"] {
            assert_eq!(canonical(bound.as_bytes()), Canonical::Lacks(".0"), "{bound}");
            agrees(bound);
        }
        for bound in [
            "", "1.", ".5", "1.50", "01", "00", "1000000", "1e-05", "0.00001", "-1", "-0.0", "NaN",
            "0.00002", "1.5 ", "1.x5", "0.0000",
        ] {
            assert_eq!(canonical(bound.as_bytes()), Canonical::Unknown, "{bound}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_kept_is_what_would_be_written(text in "[0-9]{0,7}(\\.[0-9]{0,11})?", near in "0?\\.0{0,6}[0-9]{0,3}") {
            agrees(&text);
            agrees(&near);
        }
    }
}
