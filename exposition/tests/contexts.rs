//! The same bytes are other series in other contexts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser};

fn labels(format: Format, options: ParseOptions, page: &str) -> Vec<String> {
    let mut parser = Parser::new(format, page.as_bytes(), options);
    let mut labels = LabelBuffer::new();
    let mut series = Vec::new();
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(event) = event {
            event.labels(&mut labels).unwrap();
            series.push(format!("{labels:?}"));
        }
    }
    series
}

#[test]
fn every_bound_of_a_series_is_written_anew() {
    let page = "# TYPE a histogram\na{x=\"1\",le=\"1\",y=\"2\",le=\"100000000\",le=\"z\",z=\"3\"} 1\n";
    assert_eq!(
        labels(Format::Text, ParseOptions::default(), page),
        [r#"{"__name__": "a", "x": "1", "le": "1.0", "y": "2", "le": "1e+08", "le": "z", "z": "3"}"#]
    );
}
