//! `le` and `quantile`, which are numbers in labels, under each `le_format` and in each format of page.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::{Event, Format, LabelBuffer, LeFormat, ParseOptions, Parser, SeriesKey};

const FORMATS: [LeFormat; 3] = [LeFormat::Prometheus3, LeFormat::Verbatim, LeFormat::Otel];

fn options(le_format: LeFormat) -> ParseOptions {
    let mut options = ParseOptions::default();
    options.le_format = le_format;
    options
}

/// The values of `label` on a page, and the series' keys.
fn values(format: Format, page: &[u8], le_format: LeFormat, label: &str) -> Vec<(String, SeriesKey)> {
    let mut parser = Parser::new(format, page, options(le_format));
    let mut labels = LabelBuffer::new();
    let mut values = Vec::new();
    while let Some(event) = parser.next().unwrap() {
        let Event::Series(series) = event else { continue };
        series.labels(&mut labels).unwrap();
        if let Some(value) = labels.get(label) {
            values.push((value.to_owned(), series.key(7)));
        }
    }
    values
}

#[test]
fn text_pages() {
    // What the page has, and what becomes of it as Prometheus 3 and as the OpenTelemetry Collector write it.
    for (written, prometheus3, otel) in [
        ("1", "1.0", "1"),
        ("1.0", "1.0", "1"),
        ("0.50", "0.5", "0.5"),
        ("1000000", "1e+06", "1000000"),
        ("1e+06", "1e+06", "1000000"),
        ("1e-05", "1e-05", "0.00001"),
        ("+Inf", "+Inf", "+Inf"),
        ("Inf", "+Inf", "+Inf"),
        ("0", "0.0", "0"),
        ("-2", "-2.0", "-2"),
        ("many", "many", "many"),
    ] {
        for (kind, label, other) in [("histogram", "le", "quantile"), ("summary", "quantile", "le")] {
            let line = format!("# TYPE x {kind}\nx{{{other}=\"1\",{label}=\"{written}\"}} 1\n");
            for (format, page) in
                [(Format::Text, line.clone()), (Format::OpenMetrics, format!("{line}# EOF\n"))]
            {
                for (le_format, expected) in FORMATS.into_iter().zip([prometheus3, written, otel]) {
                    let of = |label| values(format, page.as_bytes(), le_format, label)[0].0.clone();
                    assert_eq!(of(label), expected, "{le_format:?} {page}");
                    assert_eq!(of(other), "1", "{le_format:?} {page}");
                }
            }
        }
    }
    let gauge = b"# TYPE x gauge\nx{le=\"1\"} 1\n";
    for le_format in FORMATS {
        assert_eq!(values(Format::Text, gauge, le_format, "le")[0].0, "1", "no number in a gauge");
    }
}

#[test]
fn protobuf_pages() {
    // A family h of type HISTOGRAM with one metric: count 3, and buckets up to 1 and up to 1e6.
    let page = [
        &[37, 0x0a, 1, b'h', 0x18, 4, 0x22, 30, 0x3a, 28, 0x08, 3][..],
        &[0x1a, 11, 0x08, 1, 0x11][..],
        &1_f64.to_le_bytes()[..],
        &[0x1a, 11, 0x08, 2, 0x11][..],
        &1e6_f64.to_le_bytes()[..],
    ]
    .concat();
    for (le_format, expected) in
        FORMATS.into_iter().zip([["1.0", "1e+06"], ["1.0", "1e+06"], ["1", "1000000"]])
    {
        let values = values(Format::Protobuf, &page, le_format, "le");
        let bounds: Vec<&str> = values.iter().map(|(value, _)| value.as_str()).collect();
        assert_eq!(bounds, [expected[0], expected[1], "+Inf"], "{le_format:?}");
    }
}

#[test]
fn what_was_learnt_under_one_format_is_not_remembered_under_another() {
    let page = b"# TYPE x histogram\nx{le=\"1\"} 1\n";
    let keys = FORMATS.map(|le_format| values(Format::Text, page, le_format, "le")[0].1);
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
}
