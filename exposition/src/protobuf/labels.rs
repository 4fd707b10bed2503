//! The labels of a sample: those of its metric, with what the sample's part of it adds.

use std::cell::{Cell, Ref, RefCell};

use promferry_model::{BUCKET_LABEL, METRIC_NAME, QUANTILE_LABEL};

use super::fields::last_of;
use super::metric::next_of;
use super::{Part, ProtobufParser};
use crate::context::TypeAndUnit;
use crate::wire::{Message, WireError, WireProblem};
use crate::{LabelBuffer, LabelSpans, ParseError, SplitLabels};

impl<'a> ProtobufParser<'a> {
    pub(crate) fn labels(&self, buffer: &mut LabelBuffer) -> Result<(), ParseError> {
        self.begin_labels(buffer);
        if let Some(text) = self.quick_labels() {
            let place = |[start, end]: [usize; 2]| text.get(start..end).unwrap_or_default();
            if walk_labels(text, |name, value| buffer.push(place(name), place(value))).is_some() {
                self.end_labels(buffer);
                return Ok(());
            }
            self.begin_labels(buffer);
        }
        for (name, value) in self.judged_labels().map_err(|error| self.refused(error))?.iter() {
            buffer.push(name, value);
        }
        self.end_labels(buffer);
        Ok(())
    }

    /// The labels that all samples of the metric have, by the careful way.
    fn judged_labels(&self) -> Result<Ref<'_, LabelBuffer>, WireError> {
        if !self.has_judged_labels() {
            self.judge_labels(&mut self.judged_labels.labels.borrow_mut())?;
            self.judged_labels.metric_start.set(Some(self.metric.start));
        }
        Ok(self.judged_labels.labels.borrow())
    }

    fn has_judged_labels(&self) -> bool {
        self.judged_labels.metric_start.get() == Some(self.metric.start)
    }

    fn judge_labels(&self, labels: &mut LabelBuffer) -> Result<(), WireError> {
        labels.clear();
        let type_and_unit = self.type_and_unit()?;
        for (name, value) in type_and_unit.into_iter().flat_map(TypeAndUnit::labels) {
            labels.push(name, value);
        }
        let mut fields = self.metric_message();
        while let Some(label) = next_of(&mut fields, 1, Message::skip) {
            let (name, value) = judge(label)?;
            if !type_and_unit.is_some_and(|labels| labels.replaces(name)) {
                labels.push(name, value);
            }
        }
        Ok(())
    }

    fn begin_labels(&self, buffer: &mut LabelBuffer) {
        buffer.clear();
        buffer.push_with(
            |text| text.push_str(METRIC_NAME),
            |text| {
                text.push_str(self.family.name);
                text.push_str(self.suffix());
            },
        );
    }

    fn end_labels(&self, buffer: &mut LabelBuffer) {
        if let Some((name, bound)) = self.bound() {
            let write = |text: &mut String| self.bounds.write(bound, self.options.le_format, text);
            buffer.push_with(|text| text.push_str(name), write);
        }
    }

    /// As [`ProtobufParser::labels`], with the texts left on the page where that can be.
    #[inline]
    pub(crate) fn split<'s>(&'s self, spans: &'s mut LabelSpans) -> Result<SplitLabels<'s>, ParseError> {
        if let Some(text) = self.split_quickly(spans) {
            return Ok(spans.split(text));
        }
        spans.fill(|labels| self.labels(labels))
    }

    #[inline]
    fn split_quickly(&self, spans: &mut LabelSpans) -> Option<&'a str> {
        let text = self.quick_labels()?;
        spans.begin(text, |name| {
            name.push_str(self.family.name);
            name.push_str(self.suffix());
        });
        walk_labels(text, |name, value| spans.push(name, value))?;
        if let Some((name, bound)) = self.bound() {
            spans.push_written(text, name, |text| self.bounds.write(bound, self.options.le_format, text));
        }
        Some(text)
    }

    /// The labels' fields, if all of them are UTF-8 and are all that there is to a sample's labels.
    #[inline]
    fn quick_labels(&self) -> Option<&'a str> {
        if self.options.type_and_unit_labels || self.has_judged_labels() {
            return None;
        }
        self.labels_text.or_else(|| self.read_labels_text())
    }

    #[inline]
    pub(super) fn read_labels_text(&self) -> Option<&'a str> {
        if !self.metric.has_runs {
            return None;
        }
        let (start, end) = self.metric.labels.unwrap_or_default();
        str::from_utf8(&self.page[start..end]).ok().filter(|text| u32::try_from(text.len()).is_ok())
    }

    const fn suffix(&self) -> &'static str {
        match self.part {
            Part::Value | Part::Native | Part::CustomBuckets | Part::Quantile { .. } => "",
            Part::Count => "_count",
            Part::Sum => "_sum",
            Part::Bucket { .. } | Part::InfinityBucket => "_bucket",
        }
    }

    /// The label that the sample has beside its metric's, and its number.
    const fn bound(&self) -> Option<(&'static str, f64)> {
        match self.part {
            Part::Quantile { quantile, .. } => Some((QUANTILE_LABEL, quantile)),
            Part::Bucket { upper_bound, .. } => Some((BUCKET_LABEL, upper_bound)),
            Part::InfinityBucket => Some((BUCKET_LABEL, f64::INFINITY)),
            _ => None,
        }
    }

    fn type_and_unit(&self) -> Result<Option<TypeAndUnit<'_>>, WireError> {
        if !self.options.type_and_unit_labels {
            return Ok(None);
        }
        let unit = str::from_utf8(self.family.unit)
            .map_err(|_| WireError { at: last_of(self.family_message(), 5), problem: WireProblem::Unit })?;
        Ok(Some(TypeAndUnit { metric_type: self.metric_type(), unit }))
    }
}

/// What the careful way made of a metric's labels: it walks all of the metric for them, which it is not to do for each
/// bucket.
#[derive(Default)]
pub(super) struct JudgedLabels {
    /// Where the metric starts that has them.
    metric_start: Cell<Option<usize>>,
    labels: RefCell<LabelBuffer>,
}

const LABEL: u8 = 1 << 3 | 2;
const NAME: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

/// The quick way over labels, which knows those with a name and a value of less than 128 bytes each. Tags and lengths
/// are then ASCII, so that the fields together are UTF-8 if and only if each name and value is. Gives where each name
/// and value starts and ends; `None` if there is anything else.
#[inline]
fn walk_labels(text: &str, mut found: impl FnMut([usize; 2], [usize; 2])) -> Option<()> {
    let mut rest = text.as_bytes();
    while let [LABEL, length @ 0..0x80, after @ ..] = rest {
        let (label, after) = after.split_at_checked(usize::from(*length))?;
        let [NAME, name_length @ 1..0x80, texts @ ..] = label else { return None };
        let end = text.len() - after.len();
        let name = end - texts.len();
        let name_end = name + usize::from(*name_length);
        match texts.get(usize::from(*name_length)..)? {
            [] => found([name, name_end], [name_end, name_end]),
            [VALUE, value_length @ 0..0x80, value @ ..] if value.len() == usize::from(*value_length) => {
                found([name, name_end], [end - value.len(), end]);
            }
            _ => return None,
        }
        rest = after;
    }
    rest.is_empty().then_some(())
}

/// A label's name and value. Every name is judged, and every value, if there are several, of which the last counts.
fn judge(mut label: Message<'_>) -> Result<(&str, &str), WireError> {
    let (mut name, mut value) = ("", "");
    while let Some(field) = label.field()? {
        match field.number {
            1 => {
                let message = label.message(field)?;
                name = text(message, WireProblem::LabelName)?;
                if name.is_empty() {
                    // The last byte of its length.
                    return Err(WireError { at: message.at() - 1, problem: WireProblem::EmptyLabelName });
                }
            }
            2 => value = text(label.message(field)?, WireProblem::LabelValue)?,
            _ => label.skip(field)?,
        }
    }
    Ok((name, value))
}

fn text<'a>(message: Message<'a>, problem: WireProblem) -> Result<&'a str, WireError> {
    str::from_utf8(message.bytes()).map_err(|_| WireError { at: message.at(), problem })
}
