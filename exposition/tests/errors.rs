//! Where and why a page was refused.

use promferry_exposition::{Event, Format, LabelBuffer, ParseError, ParseOptions, Parser};

fn refusal(format: Format, page: &[u8]) -> ParseError {
    let mut parser = Parser::new(format, page, ParseOptions::default());
    let mut labels = LabelBuffer::new();
    loop {
        match parser.next() {
            Err(error) => return error,
            Ok(None) => panic!("the page was accepted"),
            Ok(Some(Event::Series(series))) => {
                if let Err(error) = series.labels(&mut labels) {
                    return error;
                }
            }
            Ok(Some(_)) => {}
        }
    }
}

#[test]
fn texts() {
    for (format, page, expected) in [
        (
            Format::Text,
            "ok 1\na{b=c} 1\n",
            "line 2, column 5 (byte 9): expected a label value in double quotes, at \"c} 1\"",
        ),
        (
            Format::Text,
            "a\n",
            "line 1, column 2 (byte 1): expected a value after the series, at the end of the line",
        ),
        (
            Format::Text,
            "a 1 -5\n",
            "line 1, column 5 (byte 4): expected a timestamp in milliseconds or the end of the line, at \"-5\"",
        ),
        (
            Format::Text,
            "a 1e400\n",
            "line 1, column 3 (byte 2): number out of the range of a 64-bit float, expected a value, at \"1e400\"",
        ),
        (Format::Text, "a 1\r\n", "line 1, column 3 (byte 2): not a number, expected a value, at \"1\\r\""),
        (
            Format::Text,
            "# TYPE a info\n",
            "line 1, column 10 (byte 9): expected one of counter, gauge, histogram, summary and untyped, at \"info\"",
        ),
        (
            Format::OpenMetrics,
            "a 1\n",
            "line 2, column 1 (byte 4): page does not end with # EOF, at the end of the line",
        ),
        (
            Format::OpenMetrics,
            "# EOF\na 1\n",
            "line 2, column 1 (byte 6): unexpected data after # EOF, at \"a 1\"",
        ),
        (
            Format::OpenMetrics,
            "# UNIT a b\n# EOF\n",
            "line 1, column 10 (byte 9): unit is not a suffix of the metric name, at \"b\"",
        ),
    ] {
        assert_eq!(refusal(format, page.as_bytes()).to_string(), expected);
    }
}

#[test]
fn columns_in_characters() {
    let error = refusal(Format::Text, "a{b=\"\u{e4}\u{f6}\",c} 1\n".as_bytes());
    assert_eq!((error.line(), error.column(), error.column_chars()), (Some(1), Some(13), Some(11)));
    assert_eq!(error.excerpt(), "} 1");
}

#[test]
fn long_texts_are_cut() {
    let page = format!("a{{b={}\n", "x".repeat(10_000));
    assert!(refusal(Format::Text, page.as_bytes()).to_string().len() < 400);
}
