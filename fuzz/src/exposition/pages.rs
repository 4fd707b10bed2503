use std::collections::HashMap;

use promferry_exposition::{
    Event, Exemplars, Format, LabelBuffer, LabelSpans, LeFormat, ParseError, ParseOptions, Parser, ReadError,
    SeriesKey, read_families,
};
use promferry_model::HistogramError;

/// A page in the text format.
pub fn text(data: &[u8]) {
    page(Format::Text, data);
}

/// A page in OpenMetrics, as Prometheus reads it.
pub fn openmetrics(data: &[u8]) {
    page(Format::OpenMetrics, data);
}

/// A page in OpenMetrics 2.0.
pub fn openmetrics2(data: &[u8]) {
    page(Format::OpenMetrics2, data);
}

/// A page in delimited protobuf.
pub fn protobuf(data: &[u8]) {
    page(Format::Protobuf, data);
}

fn page(format: Format, page: &[u8]) {
    for options in option_sets() {
        let (said, refused) = said(Parser::new(format, page, options), options);
        let careful = said_of_careful(format, page, options);
        assert_eq!(
            (&said, refused.as_ref().and_then(ParseError::line)),
            (&careful.0, careful.1),
            "{format:?} {options:?}"
        );
        if let Some(error) = &refused {
            assert!(error.offset() <= page.len(), "{error:?} is outside of the page");
            assert!(error.line().is_none_or(|line| line >= 1), "{error:?}");
            assert!(!error.to_string().is_empty());
            let _ = error.excerpt();
        }
        match read_families(format, page, options) {
            Ok(_) => assert!(refused.is_none(), "{options:?}: families of a page that is refused"),
            Err(ReadError::Parse(error)) => {
                let offset = refused.map(|error| error.offset());
                assert_eq!(
                    offset,
                    Some(error.offset()),
                    "{options:?}: no families of a page that is accepted"
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// What the whole grammar reads, without the quick ways for what is common.
fn said_of_careful(format: Format, page: &[u8], options: ParseOptions) -> (Vec<String>, Option<usize>) {
    let (said, refused) = said(Parser::without_quick_ways(format, page, options), options);
    (said, refused.and_then(|error| error.line()))
}

pub(super) fn option_sets() -> [ParseOptions; 6] {
    let plain = ParseOptions::default();
    let mut everything = plain;
    everything.native_histograms = true;
    everything.always_classic_histograms = true;
    everything.parse_start_timestamps = true;
    everything.le_format = LeFormat::Verbatim;
    let mut native = plain;
    native.native_histograms = true;
    native.le_format = LeFormat::Otel;
    let mut custom_buckets = plain;
    custom_buckets.convert_classic_to_custom_buckets = true;
    let mut every_bucket = everything;
    every_bucket.convert_classic_to_custom_buckets = true;
    let mut type_and_unit = plain;
    type_and_unit.type_and_unit_labels = true;
    [plain, native, everything, custom_buckets, every_bucket, type_and_unit]
}

/// All that a page says, and why it was refused in the end.
fn said(mut parser: Parser<'_>, options: ParseOptions) -> (Vec<String>, Option<ParseError>) {
    let mut said = Vec::new();
    let refused = walk(&mut parser, options, &mut said).err();
    (said, refused)
}

fn walk(parser: &mut Parser<'_>, options: ParseOptions, said: &mut Vec<String>) -> Result<(), ParseError> {
    let (mut labels, mut exemplar_labels, mut spans) =
        (LabelBuffer::new(), LabelBuffer::new(), LabelSpans::new());
    // A key stands for the labels, wherever on the page it comes up.
    let mut known: HashMap<SeriesKey, String> = HashMap::new();
    while let Some(event) = parser.next()? {
        let (key, start, value) = match &event {
            Event::Series(series) => {
                let split = series.split(&mut spans);
                let judged = series.labels(&mut labels);
                assert_eq!(judged.as_ref().err(), split.as_ref().err());
                judged?;
                let split = split?;
                // An empty name is none.
                let is_there = |label: &(&str, &str)| *label != ("__name__", "");
                let mut labels: Vec<_> = labels.iter().filter(is_there).collect();
                let mut split: Vec<_> = split.iter().filter(is_there).collect();
                labels.sort_unstable();
                split.sort_unstable();
                assert_eq!(labels, split);
                let value = format!(
                    "{:016x} {:?} {:?}{}",
                    series.value().to_bits(),
                    series.timestamp(),
                    series.metric_type(),
                    drain(series.exemplars(), &mut exemplar_labels)
                );
                let _ = series.series_bytes();
                (series.key(7), series.start(), value)
            }
            Event::Histogram(histogram) => {
                histogram.labels(&mut labels)?;
                let read = histogram.histogram();
                // Prometheus' parser lets spans go back, too; it is the storage that refuses them.
                if let Err(error @ HistogramError::SpansBucketsMismatch { .. }) = read.check_spans() {
                    panic!("a histogram was accepted that is none: {error}: {read:?}");
                }
                let exemplars = drain(histogram.exemplars(), &mut exemplar_labels);
                (
                    histogram.key(7),
                    histogram.start(),
                    format!("{read:?} {:?}{exemplars}", histogram.timestamp()),
                )
            }
            Event::Help { family, help } => {
                said.push(format!("help {family} {}", help.unescape()));
                continue;
            }
            event => {
                said.push(format!("{event:?}"));
                continue;
            }
        };
        assert!(options.parse_start_timestamps || start.is_none());
        assert!(!labels.is_empty());
        let shown = format!("{labels:?}");
        let first = known.entry(key).or_insert_with(|| shown.clone());
        assert_eq!(*first, shown, "one key for two series");
        said.push(format!("{shown} {value} {start:?}"));
    }
    Ok(())
}

fn drain(mut exemplars: Exemplars<'_>, labels: &mut LabelBuffer) -> String {
    let mut said = String::new();
    while let Some(exemplar) = exemplars.next(labels) {
        said += &format!(" {labels:?} {exemplar:?}");
    }
    said
}
