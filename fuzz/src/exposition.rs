use std::collections::HashMap;

use promferry_exposition::{
    Encoder, Event, Exemplars, Format, LabelBuffer, LeFormat, ParseError, ParseOptions, Parser, SeriesKey,
    go_float,
};
use promferry_model::{HistogramError, MetadataView, MetricType};

use crate::input::lines;

/// A page in the text format.
pub fn text(data: &[u8]) {
    page(Format::Text, data);
}

/// A page in OpenMetrics.
pub fn openmetrics(data: &[u8]) {
    page(Format::OpenMetrics, data);
}

/// A page in delimited protobuf.
pub fn protobuf(data: &[u8]) {
    page(Format::Protobuf, data);
}

/// What the encoder writes of one series reads back, alike in every format. The input's lines: the family's name, a
/// label's name, the number; the rest is the label's value.
pub fn exposition_round_trip(data: &[u8]) {
    let [family, label, number, value] = lines::<4>(data);
    let is_name = |name: &str| !name.is_empty() && name != "__name__" && !name.chars().any(char::is_control);
    let value = value.replace('\0', "");
    if !is_name(&family) || !is_name(&label) {
        return;
    }
    let number = go_float::parse_value(number.as_bytes()).unwrap_or(1.5);
    // An empty value stays: that it means an absent label is decided by who makes a series of it.
    let mut expected = vec![("__name__".to_owned(), family.clone()), (label.clone(), value.clone())];
    expected.sort();
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let mut encoder = Encoder::new(format);
        let metadata =
            MetadataView { family: &family, metric_type: MetricType::Gauge, ..MetadataView::default() };
        encoder.family(metadata).number(&[(label.as_str(), value.as_str())], number);
        let page = encoder.finish();
        let mut parser = Parser::new(format, &page, ParseOptions::default());
        let mut labels = LabelBuffer::new();
        let mut samples = 0;
        loop {
            let event = match parser.next() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => panic!("{format:?}: {error} in {:?}", String::from_utf8_lossy(&page)),
            };
            if let Event::Series(series) = event {
                if let Err(error) = series.labels(&mut labels) {
                    panic!("{format:?}: {error} in {:?}", String::from_utf8_lossy(&page));
                }
                let mut read: Vec<_> =
                    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                read.sort();
                assert_eq!(read, expected, "{format:?}");
                assert!(
                    series.value() == number || (series.value().is_nan() && number.is_nan()),
                    "{format:?}"
                );
                samples += 1;
            }
        }
        assert_eq!(samples, 1, "{format:?}: {:?}", String::from_utf8_lossy(&page));
    }
}

fn page(format: Format, page: &[u8]) {
    let mut everything = ParseOptions::default();
    everything.native_histograms = true;
    everything.always_classic_histograms = true;
    everything.parse_start_timestamps = true;
    everything.le_format = LeFormat::Verbatim;
    let mut native = ParseOptions::default();
    native.native_histograms = true;
    native.le_format = LeFormat::Otel;
    for options in [ParseOptions::default(), native, everything] {
        if let Err(error) = walk(format, page, options) {
            assert!(error.offset() <= page.len(), "{error:?} is outside of the page");
            assert!(error.line().is_none_or(|line| line >= 1), "{error:?}");
            assert!(!error.to_string().is_empty());
            let _ = error.excerpt();
            // A refusal is a judgement of the bytes, the same every time.
            assert_eq!(walk(format, page, options).err().map(|again| again.offset()), Some(error.offset()));
        }
    }
}

fn walk(format: Format, page: &[u8], options: ParseOptions) -> Result<(), ParseError> {
    let mut parser = Parser::new(format, page, options);
    let mut labels = LabelBuffer::new();
    let mut exemplar_labels = LabelBuffer::new();
    // A key stands for the labels, wherever on the page it comes up.
    let mut known: HashMap<SeriesKey, String> = HashMap::new();
    while let Some(event) = parser.next()? {
        let (key, start) = match &event {
            Event::Series(series) => {
                series.labels(&mut labels)?;
                let _ = (series.value(), series.timestamp(), series.metric_type(), series.series_bytes());
                drain(series.exemplars(), &mut exemplar_labels);
                (series.key(7), series.start())
            }
            Event::Histogram(histogram) => {
                histogram.labels(&mut labels)?;
                drain(histogram.exemplars(), &mut exemplar_labels);
                let read = histogram.histogram();
                // Prometheus' parser lets spans go back, too; it is the storage that refuses them.
                if let Err(error @ HistogramError::SpansBucketsMismatch { .. }) = read.check_spans() {
                    panic!("a histogram was accepted that is none: {error}: {read:?}");
                }
                (histogram.key(7), histogram.start())
            }
            Event::Help { help, .. } => {
                let _ = help.unescape();
                continue;
            }
            _ => continue,
        };
        assert!(options.parse_start_timestamps || start.is_none());
        assert!(!labels.is_empty());
        let shown = format!("{labels:?}");
        let first = known.entry(key).or_insert_with(|| shown.clone());
        assert_eq!(*first, shown, "one key for two series");
    }
    Ok(())
}

fn drain(mut exemplars: Exemplars<'_>, labels: &mut LabelBuffer) {
    while let Some(exemplar) = exemplars.next(labels) {
        let _ = format!("{labels:?} {exemplar:?}");
    }
}
