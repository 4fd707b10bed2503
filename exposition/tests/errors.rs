//! Where and why a page was refused.

use promferry_exposition::{Event, Format, LabelBuffer, ParseError, ParseOptions, Parser};

fn refusal(format: Format, page: &[u8]) -> ParseError {
    judged(format, page).expect_err("the page was accepted")
}

fn judged(format: Format, page: &[u8]) -> Result<(), ParseError> {
    let mut parser = Parser::new(format, page, ParseOptions::default());
    let mut labels = LabelBuffer::new();
    while let Some(event) = parser.next()? {
        if let Event::Series(series) = event {
            series.labels(&mut labels)?;
        }
    }
    Ok(())
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

/// Every place of the text formats where a page can be refused, and what could have stood there.
#[test]
fn what_was_expected() {
    let both = [Format::Text, Format::OpenMetrics];
    let text = [Format::Text];
    let openmetrics = [Format::OpenMetrics];
    let rows: [(&[Format], &[u8], &str); 43] = [
        (&text, b"?", "a metric name, '{', '#' or an empty line"),
        (&text, b"1 2\n", "a metric name, '{', '#' or an empty line"),
        (&openmetrics, b"?", "a metric name, '{' or one of # HELP, # TYPE, # UNIT and # EOF"),
        (&openmetrics, b"\n# EOF\n", "a metric name, '{' or one of # HELP, # TYPE, # UNIT and # EOF"),
        (&openmetrics, b"#EOF\n", "a metric name, '{' or one of # HELP, # TYPE, # UNIT and # EOF"),
        (&openmetrics, b"", "# EOF"),
        (&openmetrics, b"a 1\n", "# EOF"),
        (&openmetrics, b"# EOF\n\n", "the end of the page"),
        (&both, b"# TYPE 1 gauge\n", "a metric name in the metadata line"),
        (&both, b"# HELP \n", "a metric name in the metadata line"),
        (&openmetrics, b"# HELP a\n", "a text after the metric name"),
        (&openmetrics, b"# UNIT a\n", "a text after the metric name"),
        (&text, b"# TYPE a info\n", "one of counter, gauge, histogram, summary and untyped"),
        (
            &openmetrics,
            b"# TYPE a untyped\n",
            "one of counter, gauge, gaugehistogram, histogram, info, stateset, summary and unknown",
        ),
        (&both, b"# HELP a \xff\n", "UTF-8"),
        (&openmetrics, b"# UNIT a b\n", "what the metric name ends with after '_'"),
        (&text, b"# HELP a\0b\n", "the end of the line after the metadata"),
        (&both, b"a\n", "a value after the series"),
        (&both, b"a{}\n", "a value after the series"),
        (&both, b"{b=\"c\"} 1\n", "a metric name, as in {\"name\"} or name{}"),
        (&both, b"a{1} 1\n", "a label name or '}'"),
        (&both, b"a{b} 1\n", "'=' after the label name"),
        (&both, b"a{b=c} 1\n", "a label value in double quotes"),
        (&both, b"a{b=\"c} 1\n", "a label value in double quotes"),
        (&openmetrics, b"a{b=\"c\" d=\"e\"} 1\n", "',' or '}' after the label"),
        (&both, b"{\"a\",\"b\"} 1\n", "a label name with '=' and a value"),
        (&both, b"a{b=\"\xff\"} 1\n", "UTF-8"),
        (&both, b"{\"\xff\"} 1\n", "UTF-8"),
        (&both, b"a{\"\xff\"=\"b\"} 1\n", "UTF-8"),
        (&both, b"a x\n", "a value"),
        (&both, b"a 1_0\n", "a value"),
        (&both, b"a 1e400\n", "a value"),
        (&text, b"a 1 x\n", "a timestamp in milliseconds or the end of the line"),
        (&text, b"a 1 9223372036854775808\n", "a timestamp in milliseconds"),
        (&text, b"a 1 2 3\n", "the end of the line after the timestamp"),
        (&openmetrics, b"a 1\t2\n", "a value"),
        (&openmetrics, b"a 1 x\n", "a timestamp in seconds"),
        (&openmetrics, b"a 1 NaN\n", "a finite timestamp in seconds"),
        (&openmetrics, b"a 1 \n", "a timestamp in seconds, an exemplar or the end of the line"),
        (&openmetrics, b"a 1 2 \n", "an exemplar or the end of the line"),
        (&openmetrics, b"a 1 # {\"b\"} 1\n", "'=' after the exemplar's label name"),
        (&openmetrics, b"a 1 # {}\n", "a value after the exemplar's labels"),
        (&openmetrics, b"a 1 # {} 1 \n", "a timestamp in seconds or the end of the line"),
    ];
    let mut wrong = Vec::new();
    for (formats, page, expected) in rows {
        for &format in formats {
            let error = judged(format, page).err();
            if error.as_ref().and_then(ParseError::expected) != Some(expected) {
                wrong.push((format, String::from_utf8_lossy(page), expected, error));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
