//! The names of fields, to say where in a family something is wrong.

use std::fmt::Write as _;

use crate::wire::{LENGTH, Message};

/// A field of `io/prometheus/client/metrics.proto`.
struct FieldName {
    number: i32,
    name: &'static str,
    repeated: bool,
    /// Those of its message, if it is one.
    fields: &'static [Self],
}

const fn one(number: i32, name: &'static str) -> FieldName {
    FieldName { number, name, repeated: false, fields: &[] }
}

const fn many(number: i32, name: &'static str) -> FieldName {
    FieldName { number, name, repeated: true, fields: &[] }
}

impl FieldName {
    const fn of(self, fields: &'static [Self]) -> Self {
        Self { fields, ..self }
    }
}

const VALUE: &[FieldName] = &[one(1, "value")];
const LABEL: &[FieldName] = &[one(1, "name"), one(2, "value")];
const TIME: &[FieldName] = &[one(1, "seconds"), one(2, "nanos")];
const EXEMPLAR: &[FieldName] = &[many(1, "label").of(LABEL), one(2, "value"), one(3, "timestamp").of(TIME)];
const COUNTER: &[FieldName] =
    &[one(1, "value"), one(2, "exemplar").of(EXEMPLAR), one(3, "created_timestamp").of(TIME)];
const QUANTILE: &[FieldName] = &[one(1, "quantile"), one(2, "value")];
const SUMMARY: &[FieldName] = &[
    one(1, "sample_count"),
    one(2, "sample_sum"),
    many(3, "quantile").of(QUANTILE),
    one(4, "created_timestamp").of(TIME),
];
const BUCKET: &[FieldName] = &[
    one(1, "cumulative_count"),
    one(2, "upper_bound"),
    one(3, "exemplar").of(EXEMPLAR),
    one(4, "cumulative_count_float"),
];
const SPAN: &[FieldName] = &[one(1, "offset"), one(2, "length")];
const HISTOGRAM: &[FieldName] = &[
    one(1, "sample_count"),
    one(2, "sample_sum"),
    many(3, "bucket").of(BUCKET),
    one(4, "sample_count_float"),
    one(5, "schema"),
    one(6, "zero_threshold"),
    one(7, "zero_count"),
    one(8, "zero_count_float"),
    many(9, "negative_span").of(SPAN),
    many(10, "negative_delta"),
    many(11, "negative_count"),
    many(12, "positive_span").of(SPAN),
    many(13, "positive_delta"),
    many(14, "positive_count"),
    one(15, "created_timestamp").of(TIME),
    many(16, "exemplars").of(EXEMPLAR),
];
const METRIC: &[FieldName] = &[
    many(1, "label").of(LABEL),
    one(2, "gauge").of(VALUE),
    one(3, "counter").of(COUNTER),
    one(4, "summary").of(SUMMARY),
    one(5, "untyped").of(VALUE),
    one(6, "timestamp_ms"),
    one(7, "histogram").of(HISTOGRAM),
];
const FAMILY: &[FieldName] =
    &[one(1, "name"), one(2, "help"), one(3, "type"), many(4, "metric").of(METRIC), one(5, "unit")];

/// The way from a family to its field that holds the byte at `at`: `metric[3].histogram.bucket[7]`. Empty if that
/// is not in the family, and as far as names are known.
pub(super) fn field_at(family: Message<'_>, at: usize) -> String {
    let (mut path, mut message, mut names) = (String::new(), family, FAMILY);
    while let Some((name, index, content)) = step_to(message, names, at) {
        let dot = if path.is_empty() { "" } else { "." };
        let _ = write!(path, "{dot}{}", name.name);
        if name.repeated {
            let _ = write!(path, "[{index}]");
        }
        let Some(content) = content else { break };
        (message, names) = (content, name.fields);
    }
    path
}

/// The message's field that holds the byte, with how many of its name stand before it and with its content where the
/// byte is in that.
fn step_to<'a>(
    mut message: Message<'a>,
    names: &'static [FieldName],
    at: usize,
) -> Option<(&'static FieldName, usize, Option<Message<'a>>)> {
    let mut seen = [0_usize; 17];
    while message.at() <= at {
        let field = message.field().ok()??;
        let name = names.iter().find(|name| name.number == field.number);
        let before = seen.get_mut(field.number as usize);
        let index = before.as_deref().copied().unwrap_or_default();
        let content = match field.wire {
            LENGTH => message.message(field).map(Some),
            _ => message.skip(field).map(|()| None),
        };
        match content {
            Ok(_) if message.at() <= at => {
                if let Some(before) = before {
                    *before += 1;
                }
            }
            Ok(content) => {
                let content = content.filter(|content| content.at() <= at);
                return name.map(|name| (name, index, content));
            }
            Err(_) => return name.map(|name| (name, index, None)),
        }
    }
    None
}

/// Where the content of the message's last field of this number begins; if it has none, the last byte before it.
#[cold]
pub(super) fn last_of(mut message: Message<'_>, number: i32) -> usize {
    let mut at = message.at() - 1;
    while let Ok(Some(field)) = message.field() {
        if field.number == number {
            at = message.at();
        }
        if message.skip(field).is_err() {
            break;
        }
    }
    at
}
