//! The same bytes are other series in other contexts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use promferry_exposition::{Event, Format, LabelBuffer, LeFormat, ParseOptions, Parser, SeriesKey};

/// Keys and labels of a page's series.
fn series(format: Format, options: ParseOptions, page: &str) -> Vec<(SeriesKey, String)> {
    let mut parser = Parser::new(format, page.as_bytes(), options);
    let mut labels = LabelBuffer::new();
    let mut series = Vec::new();
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(event) = event {
            event.labels(&mut labels).unwrap();
            let mut sorted: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            sorted.sort_unstable();
            series.push((event.key(1), sorted.join(" ")));
        }
    }
    series
}

fn labels(format: Format, options: ParseOptions, page: &str) -> Vec<String> {
    series(format, options, page).into_iter().map(|(_, labels)| labels).collect()
}

fn options(le_format: LeFormat, type_and_unit_labels: bool) -> ParseOptions {
    let mut options = ParseOptions::default();
    options.le_format = le_format;
    options.type_and_unit_labels = type_and_unit_labels;
    options
}

#[test]
fn every_bound_of_a_series_is_written_anew() {
    let page = "# TYPE a histogram\na{x=\"1\",le=\"1\",y=\"2\",le=\"100000000\",le=\"z\",z=\"3\"} 1\n";
    assert_eq!(
        labels(Format::Text, ParseOptions::default(), page),
        ["__name__=a le=1.0 le=1e+08 le=z x=1 y=2 z=3"]
    );
}

/// One line, `x_s{le="1",quantile="1"} 1`, below each type, with each option, in both formats.
#[test]
fn one_line_in_every_context() {
    const LINE: &str = "x_s{le=\"1\",quantile=\"1\"} 1\n";
    let mut meant: HashMap<SeriesKey, String> = HashMap::new();
    let mut rows = 0;
    for format in [Format::Text, Format::OpenMetrics] {
        for metric_type in ["", "gauge", "histogram", "summary"] {
            for unit in ["", "s"] {
                if format == Format::Text && !unit.is_empty() {
                    continue;
                }
                for le_format in [LeFormat::Prometheus3, LeFormat::Verbatim, LeFormat::Otel] {
                    for type_and_unit in [false, true] {
                        let mut page = String::new();
                        if !metric_type.is_empty() {
                            page += &format!("# TYPE x_s {metric_type}\n");
                        }
                        if !unit.is_empty() {
                            page += &format!("# UNIT x_s {unit}\n");
                        }
                        page += LINE;
                        if format == Format::OpenMetrics {
                            page += "# EOF\n";
                        }
                        let written = if le_format == LeFormat::Prometheus3 { "1.0" } else { "1" };
                        let le = if metric_type == "histogram" { written } else { "1" };
                        let quantile = if metric_type == "summary" { written } else { "1" };
                        let added = |name: &str, value: &str| match value {
                            _ if !type_and_unit => String::new(),
                            "" => String::new(),
                            value => format!("{name}={value} "),
                        };
                        let (added_type, added_unit) =
                            (added("__type__", metric_type), added("__unit__", unit));
                        let expected =
                            format!("__name__=x_s {added_type}{added_unit}le={le} quantile={quantile}");
                        let found = series(format, options(le_format, type_and_unit), &page);
                        let [(key, labels)] = found.as_slice() else { panic!("{page:?} has {found:?}") };
                        assert_eq!(*labels, expected, "{format:?} {le_format:?} {type_and_unit} {page:?}");
                        // What is one series may have several keys, but one key is one series.
                        assert_eq!(
                            meant.insert(*key, labels.clone()),
                            None,
                            "two contexts have the key of {page:?}"
                        );
                        rows += 1;
                    }
                }
            }
        }
    }
    assert_eq!(rows, 72);
}

#[test]
fn types_and_units_as_labels() {
    let on = options(LeFormat::Prometheus3, true);
    for (format, page, expected) in [
        // What the page itself says gives way to what is known, and only to that.
        (
            Format::Text,
            "# TYPE a gauge\na{__type__=\"x\",__unit__=\"y\",\"__name__\"=\"z\"} 1\n",
            vec!["__name__=a __type__=gauge __unit__=y"],
        ),
        (Format::Text, "a{__type__=\"x\"} 1\n", vec!["__name__=a __type__=x"]),
        (Format::Text, "# TYPE a untyped\na 1\n", vec!["__name__=a"]),
        // The last type counts, of whatever family.
        (
            Format::Text,
            "# TYPE a gauge\nb 1\n# TYPE b counter\nb 1\n",
            vec!["__name__=b __type__=gauge", "__name__=b __type__=counter"],
        ),
        // The last unit counts in OpenMetrics, of whatever family, until there is another one.
        (
            Format::OpenMetrics,
            "# TYPE a_s gauge\n# UNIT a_s s\na_s 1\n# TYPE b gauge\nb 1\n# UNIT b \nb 1\n# EOF\n",
            vec![
                "__name__=a_s __type__=gauge __unit__=s",
                "__name__=b __type__=gauge __unit__=s",
                "__name__=b __type__=gauge",
            ],
        ),
        (
            Format::OpenMetrics,
            "# TYPE a info\n{\"a.b\",c=\"d\"} 1\n# EOF\n",
            vec!["__name__=a.b __type__=info c=d"],
        ),
    ] {
        assert_eq!(labels(format, on, page), expected, "{page:?}");
    }
    // Without the option the unit of another family is not meant, and is no part of the key.
    let page = "# TYPE a_s gauge\n# UNIT a_s s\n# TYPE b gauge\nb 1\n# EOF\n";
    let plain = "# TYPE b gauge\nb 1\n# EOF\n";
    let key = |options, page| series(Format::OpenMetrics, options, page)[0].0;
    assert_eq!(key(ParseOptions::default(), page), key(ParseOptions::default(), plain));
    assert_ne!(key(on, page), key(on, plain));
}
