//! What this crate says of a page, spelled as the oracle spells it.

use std::fmt::Write as _;

use promferry_exposition::{Event, Exemplars, LabelBuffer, Parser};
use promferry_model::{BucketCounts, CUSTOM_BUCKETS_SCHEMA, ResetHint, Span, Timestamp};

use crate::corpus::Case;

pub(crate) fn judge(case: &Case) -> Vec<String> {
    lines(case).unwrap_or_else(|_| vec!["refused".to_owned()])
}

fn lines(case: &Case) -> Result<Vec<String>, promferry_exposition::ParseError> {
    let mut parser = Parser::new(case.format, &case.page, case.options);
    let mut labels = LabelBuffer::new();
    let mut lines = Vec::new();
    while let Some(event) = parser.next()? {
        match event {
            Event::Help { family, help } => {
                lines.push(format!("help {} {}", quote(&family), quote(&help.unescape())));
            }
            Event::Type { family, metric_type } => {
                lines.push(format!("type {} {}", quote(&family), metric_type.as_str()));
            }
            Event::Unit { family, unit } => lines.push(format!("unit {} {}", quote(&family), quote(&unit))),
            Event::Comment(comment) => {
                lines.push(format!("comment {}", quote(&String::from_utf8_lossy(comment))));
            }
            Event::Series(series) => {
                series.labels(&mut labels)?;
                let bits = series.value().to_bits();
                lines.push(format!("series {} {bits:016x}{}", spell(&labels), stamp(series.timestamp())));
                details(&mut lines, series.start(), series.exemplars());
            }
            Event::Histogram(event) => {
                event.labels(&mut labels)?;
                let value = histogram(&event.histogram());
                lines.push(format!("histogram {} {value}{}", spell(&labels), stamp(event.timestamp())));
                details(&mut lines, event.start(), event.exemplars());
            }
            _ => unreachable!("an event that the oracle does not know"),
        }
    }
    lines.push("end".to_owned());
    Ok(lines)
}

fn details(lines: &mut Vec<String>, start: Option<Timestamp>, mut exemplars: Exemplars<'_>) {
    if let Some(start) = start {
        lines.push(format!("start {start}"));
    }
    let mut labels = LabelBuffer::new();
    while let Some(exemplar) = exemplars.next(&mut labels) {
        let bits = exemplar.value.to_bits();
        lines.push(format!("exemplar {} {bits:016x}{}", spell(&labels), stamp(exemplar.timestamp)));
    }
}

fn spell(labels: &LabelBuffer) -> String {
    let mut pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{}={}", quote(n), quote(v))).collect();
    pairs.sort();
    format!("{{{}}}", pairs.join(","))
}

fn stamp(timestamp: Option<Timestamp>) -> String {
    timestamp.map(|t| format!(" @{t}")).unwrap_or_default()
}

fn histogram(h: &promferry_model::Histogram) -> String {
    let bits = f64::to_bits;
    let gauge = h.reset_hint == ResetHint::Gauge;
    let (positive, negative) = (spans(&h.positive_spans), spans(&h.negative_spans));
    let (schema, threshold, sum) = (h.schema, bits(h.zero_threshold), bits(h.sum));
    let value = match &h.counts {
        BucketCounts::Integer { count, zero_count, positive: p, negative: n } => format!(
            "integer schema={schema} threshold={threshold:016x} zero={zero_count} count={count} sum={sum:016x} \
             positive={positive}{} negative={negative}{} gauge={gauge}",
            list(p.iter().map(i64::to_string)),
            list(n.iter().map(i64::to_string)),
        ),
        BucketCounts::Float { count, zero_count, positive: p, negative: n } => format!(
            "float schema={schema} threshold={threshold:016x} zero={:016x} count={:016x} sum={sum:016x} \
             positive={positive}{} negative={negative}{} gauge={gauge}",
            bits(*zero_count),
            bits(*count),
            list(p.iter().map(|v| format!("{:016x}", v.to_bits()))),
            list(n.iter().map(|v| format!("{:016x}", v.to_bits()))),
        ),
    };
    value + &custom_values(h)
}

fn custom_values(h: &promferry_model::Histogram) -> String {
    if h.schema != CUSTOM_BUCKETS_SCHEMA && h.custom_values.is_empty() {
        return String::new();
    }
    format!(" custom={}", list(h.custom_values.iter().map(|v| format!("{:016x}", v.to_bits()))))
}

fn spans(spans: &[Span]) -> String {
    let spelled: Vec<String> = spans.iter().map(|s| format!("{}:{}", s.offset, s.length)).collect();
    format!("<{}>", spelled.join(" "))
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(" "))
}

fn quote(text: &str) -> String {
    if text.contains('\u{fffd}') {
        return "<not UTF-8>".to_owned();
    }
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        if !(0x20..=0x7e).contains(&byte) || byte == b'"' || byte == b'\\' {
            let _ = write!(quoted, "\\x{byte:02x}");
        } else {
            quoted.push(char::from(byte));
        }
    }
    quoted.push('"');
    quoted
}
