//! The programs of this folder that read pages, run: a table of families, and pages in other formats.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/program.rs"]
mod program;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use program::program;
use promferry_exposition::{Format, MetricFamily, ParseOptions, read_families, write_families};

/// What an example makes of a page on its standard input.
fn read_by(name: &str, arguments: &[&str], page: &[u8]) -> Output {
    let mut process = Command::new(program(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(page).unwrap();
    process.wait_with_output().unwrap()
}

const TEXT_PAGE: &str = r#"# HELP http_requests_total Requests served\nsince the start.
# TYPE http_requests_total counter
http_requests_total{code="200",path="C:\\x"} 1027 1395066363000
http_requests_total{code="500"} 3
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.5"} 2
latency_seconds_bucket{le="+Inf"} 3
latency_seconds_sum 1.5
latency_seconds_count 3
# TYPE "queue.length" gauge
{"queue.length","queue.name"="a \"b\""} NaN
"#;

const OPENMETRICS_PAGE: &str = r#"# TYPE jobs counter
# HELP jobs Jobs done.
jobs_total 3.0 # {trace_id="4bf92f"} 0.25 1395066363.500
jobs_created 1395066000.000
# TYPE build info
build_info{version="1"} 1.0
# TYPE queue_seconds gaugehistogram
# UNIT queue_seconds seconds
queue_seconds_bucket{le="+Inf"} 2.0
queue_seconds_gsum 4.0
queue_seconds_gcount 2.0
# EOF
"#;

fn families_in(format: Format, page: &[u8]) -> Vec<MetricFamily> {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    read_families(format, page, options).unwrap()
}

/// The pages, the last one of the first one's families.
fn pages() -> [(&'static str, Format, Vec<u8>); 3] {
    let protobuf =
        write_families(Format::Protobuf, &families_in(Format::Text, TEXT_PAGE.as_bytes())).unwrap();
    [
        ("text", Format::Text, TEXT_PAGE.into()),
        ("openmetrics", Format::OpenMetrics, OPENMETRICS_PAGE.into()),
        ("protobuf", Format::Protobuf, protobuf),
    ]
}

#[test]
fn families_of_a_page_are_a_table() {
    let of_text = "\
family           type            metrics  points  help
http_requests    counter               2       2  Requests served
latency_seconds  histogram             1       1
queue.length     gauge                 1       1
";
    let of_openmetrics = "\
family         type            metrics  points  help
jobs           counter               1       1  Jobs done.
build          info                  1       1
queue_seconds  gaugehistogram        1       1
";
    for ((name, _, page), expected) in pages().into_iter().zip([of_text, of_openmetrics, of_text]) {
        let output = read_by("families", &[name], &page);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
    let refused = read_by("families", &[], b"a 1\nb{ 2\n");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("line 2, column 4"), "{refused:?}");
}

#[test]
fn a_page_in_another_format_says_what_that_has_room_for() {
    for (from, format, page) in pages() {
        let families = families_in(format, &page);
        for (to, target) in
            [("text", Format::Text), ("openmetrics", Format::OpenMetrics), ("protobuf", Format::Protobuf)]
        {
            let output = read_by("convert_page", &[from, to], &page);
            assert!(output.status.success(), "{from} to {to}: {output:?}");
            let kept: Vec<_> = families.iter().filter_map(|family| family.as_kept_by(target)).collect();
            assert_eq!(families_in(target, &output.stdout), kept, "{from} to {to}");
            let lost: Vec<String> = families
                .iter()
                .filter(|family| family.as_kept_by(target).as_ref() != Some(family))
                .map(|family| format!("{}: there is no room for all that is said of it\n", family.name))
                .collect();
            assert_eq!(String::from_utf8_lossy(&output.stderr), lost.concat(), "{from} to {to}");
        }
        let same = read_by("convert_page", &[from, from], &page);
        if format != Format::Protobuf {
            assert_eq!(String::from_utf8_lossy(&same.stdout), String::from_utf8_lossy(&page));
        }
    }
}
