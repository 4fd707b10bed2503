//! What a walk over a page gives.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use promferry_exposition::{Event, Format, LabelBuffer, ParseError, ParseOptions, Parser};

fn walk(format: Format, page: &[u8]) -> Result<Vec<String>, ParseError> {
    let mut parser = Parser::new(format, page, ParseOptions::default());
    let mut labels = LabelBuffer::new();
    let mut lines = Vec::new();
    while let Some(event) = parser.next()? {
        lines.push(match event {
            Event::Series(series) => {
                series.labels(&mut labels)?;
                format!("{labels:?} {:?} {:?}", series.value(), series.timestamp().map(|t| t.as_millis()))
            }
            Event::Type { family, metric_type } => format!("type {family} {}", metric_type.as_str()),
            Event::Help { family, help } => format!("help {family} {:?}", help.unescape()),
            Event::Unit { family, unit } => format!("unit {family} {unit}"),
            Event::Comment(_) => "comment".to_owned(),
            _ => "other".to_owned(),
        });
    }
    Ok(lines)
}

#[test]
fn text() {
    let page = b"# HELP a_total what \\n it is\n# TYPE a_total counter\na_total{x=\"y\"} 12\na_total{x=\"z\"} 0.5 1700000000000\n# a comment\nbare 1e3\n{\"quoted.name\",a=\"b\"} +Inf\n";
    let lines = walk(Format::Text, page).unwrap();
    assert_eq!(
        lines,
        [
            r#"help a_total "what \n it is""#,
            "type a_total counter",
            r#"{"__name__": "a_total", "x": "y"} 12.0 None"#,
            r#"{"__name__": "a_total", "x": "z"} 0.5 Some(1700000000000)"#,
            "comment",
            r#"{"__name__": "bare"} 1000.0 None"#,
            r#"{"__name__": "quoted.name", "a": "b"} inf None"#,
        ]
    );
}

#[test]
fn openmetrics() {
    let page = b"# TYPE h_seconds histogram\n# UNIT h_seconds seconds\nh_seconds_bucket{le=\"1\"} 5 # {t=\"a}\"} 0.5 1.5\nh_seconds_bucket{le=\"+Inf\"} 6 12.5\n# EOF\n";
    let lines = walk(Format::OpenMetrics, page).unwrap();
    assert_eq!(
        lines,
        [
            "type h_seconds histogram",
            "unit h_seconds seconds",
            r#"{"__name__": "h_seconds_bucket", "le": "1.0"} 5.0 None"#,
            r#"{"__name__": "h_seconds_bucket", "le": "+Inf"} 6.0 Some(12500)"#,
        ]
    );
    let error = walk(Format::OpenMetrics, b"a 1\nb  2\n# EOF\n").unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(2), Some(2)));
}
