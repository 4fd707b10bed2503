//! A scraper that asks for labels only of keys that it does not know judges every page as one that asks
//! always.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/corpus.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod corpus;

use std::collections::HashMap;

use corpus::{Case, cases};
use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser, SeriesKey};

use proptest::prelude::*;

const SEED: u64 = 0x5eed;

type Known = HashMap<SeriesKey, Vec<(String, String)>>;
/// Labels, value bits and time of each sample; `None` for a refused page.
type Samples = Option<Vec<(Vec<(String, String)>, u64, Option<i64>)>>;

/// Walks a page, asking for the labels of unknown keys only; with nobody known before, of each key once.
fn walk(format: Format, options: ParseOptions, page: &[u8], known: Option<&mut Known>) -> Samples {
    let mut asks_always = Known::new();
    let always = known.is_none();
    let known = known.unwrap_or(&mut asks_always);
    let mut parser = Parser::new(format, page, options);
    let mut samples = Vec::new();
    let mut buffer = LabelBuffer::new();
    while let Some(event) = parser.next().ok()? {
        let Event::Series(series) = event else { continue };
        let key = series.key(SEED);
        let labels = match known.get(&key) {
            Some(labels) if !always => labels.clone(),
            _ => {
                series.labels(&mut buffer).ok()?;
                let labels: Vec<_> = buffer.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                if let Some(before) = known.insert(key, labels.clone()) {
                    assert_eq!(before, labels, "one key, two series");
                }
                labels
            }
        };
        samples.push((labels, series.value().to_bits(), series.timestamp().map(|t| t.as_millis())));
    }
    Some(samples)
}

#[test]
fn pages_of_the_corpus_one_after_the_other() {
    let mut known = Known::new();
    for Case { name, format, options, page, digest } in cases() {
        assert_eq!(
            walk(format, options, &page, Some(&mut known)),
            walk(format, options, &page, None),
            "{name}, digest {digest}"
        );
    }
}

/// Pages of lines that come near each other's bytes.
fn page() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "a{b=\"c\"}",
        "a{b=\"}\"}",
        "{\"a\"}",
        "{",
        "}",
        "\"",
        "\"} 1\n",
        "=\"",
        ",",
        "\\",
        "\\\"",
        " ",
        " 1",
        " 1\n",
        " 2 3\n",
        "\n",
        "# TYPE a histogram\n",
        "# TYPE a counter\n",
        "le=\"1\"",
        "a{le=\"1\"}",
        " # {x=\"}\"} 1",
        "\t",
        "b",
        "=",
    ]);
    prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_one_page_taught_holds_for_the_next(first in page(), second in page(), open_metrics: bool) {
        let (format, end) = if open_metrics { (Format::OpenMetrics, "# EOF\n") } else { (Format::Text, "") };
        let options = ParseOptions::default();
        let mut known = Known::new();
        for page in [format!("{first}{end}"), format!("{first}{second}{end}"), format!("{second}{end}")] {
            prop_assert_eq!(
                walk(format, options, page.as_bytes(), Some(&mut known)),
                walk(format, options, page.as_bytes(), None)
            );
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut options = ParseOptions::default();
        options.native_histograms = true;
        options.always_classic_histograms = true;
        options.parse_start_timestamps = true;
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            let _ = walk(format, options, &bytes, None);
        }
    }
}

#[test]
fn one_spelling_is_several_series_in_several_contexts() {
    let page = "x{le=\"1\"} 1\n# TYPE x histogram\nx{le=\"1\"} 1\n# TYPE x gauge\nx{le=\"1\"} 1\n";
    let samples =
        walk(Format::Text, ParseOptions::default(), page.as_bytes(), Some(&mut Known::new())).unwrap();
    let bounds: Vec<&str> = samples.iter().map(|(labels, ..)| labels[1].1.as_str()).collect();
    assert_eq!(bounds, ["1", "1.0", "1"]);
    let key = |format, page: &str, seed| {
        let mut parser = Parser::new(format, page.as_bytes(), ParseOptions::default());
        loop {
            match parser.next().unwrap().unwrap() {
                Event::Series(series) => return series.key(seed),
                _ => continue,
            }
        }
    };
    let text = key(Format::Text, "x 1\n", 1);
    assert_eq!(text, key(Format::Text, "x 2 3\n", 1), "value and time are no part of it");
    for other in [
        key(Format::Text, "x 1\n", 2),
        key(Format::Text, "y 1\n", 1),
        key(Format::OpenMetrics, "x 1\n# EOF\n", 1),
        key(Format::Text, "# TYPE x gauge\nx 1\n", 1),
    ] {
        assert_ne!(text, other);
    }
    let with_unit = key(Format::OpenMetrics, "# TYPE x_s gauge\n# UNIT x_s s\nx_s 1\n# EOF\n", 1);
    assert_ne!(with_unit, key(Format::OpenMetrics, "# TYPE x_s gauge\nx_s 1\n# EOF\n", 1));
}
