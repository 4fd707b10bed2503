use std::collections::HashSet;

use promferry_exposition::{
    Encoder, Event, Format, LabelBuffer, MetricFamily, ParseOptions, Parser, go_float, read_families,
    validate, write_families,
};
use promferry_model::{MetadataView, MetricType};

use crate::input::{lines, take_byte};

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

/// A page read into families is written in every format, unless that has rules against it, and reads back as what the
/// format has room for. The input: a byte that chooses the page's format, and the page.
pub fn families_round_trip(mut data: &[u8]) {
    let chosen = usize::from(take_byte(&mut data));
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    let Ok(mut families) = read_families(FORMATS[chosen % FORMATS.len()], data, options) else { return };
    // Of two families of one name a page cannot say whose a sample is.
    let mut names = HashSet::new();
    families.retain(|family| names.insert(stem(&family.name).to_owned()));
    for format in FORMATS {
        let writable: Vec<MetricFamily> = families
            .iter()
            .filter(|family| write_families(format, std::slice::from_ref(family)).is_ok())
            .cloned()
            .collect();
        // Families that are right alone may not go together.
        let Ok(page) = write_families(format, &writable) else { continue };
        let text = String::from_utf8_lossy(&page);
        if format == Format::OpenMetrics
            && let Err(refused) = validate(&page)
        {
            panic!("what is written is not valid: {refused}\n{text}");
        }
        let kept: Vec<MetricFamily> =
            writable.iter().filter_map(|family| family.as_kept_by(format)).collect();
        match read_families(format, &page, options) {
            Ok(read) => assert_eq!(read, kept, "{format:?}\n{text}"),
            Err(error) => panic!("what is written is not read: {error}\n{text}"),
        }
    }
}

/// The name without all suffixes that a type may add or take.
fn stem(mut name: &str) -> &str {
    while let Some(shorter) = name.strip_suffix("_total").or_else(|| name.strip_suffix("_info")) {
        name = shorter;
    }
    name
}

const FORMATS: [Format; 4] = [Format::Text, Format::OpenMetrics, Format::Protobuf, Format::OpenMetrics2];
