//! Command lines, and what exactly they print.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use promferry_exposition::{Format, MetricFamily, ParseOptions, read_families};

use crate::{Run, parse, start};

const TEXT: &str = "\
# HELP http_requests_total Requests served.
# TYPE http_requests_total counter
http_requests_total{code=\"200\"} 7
http_requests_total{code=\"500\"} 1 1520879607789
# TYPE size histogram
size_bucket{le=\"1\"} 1
size_bucket{le=\"+Inf\"} 2
size_sum 3
size_count 2
up 1
";

const OPENMETRICS: &str = "\
# TYPE request_seconds summary
# UNIT request_seconds seconds
# HELP request_seconds One\\nline.
request_seconds{quantile=\"0.5\"} 0.25
request_seconds_count 2
# EOF
";

/// A gauge `a` of value 1.
const PROTOBUF: &[u8] = b"\x12\x0a\x01a\x18\x01\x22\x0b\x12\x09\x09\x00\x00\x00\x00\x00\x00\xf0\x3f";

const TABLE: &str = "\
family         type       unit  metrics  points  help
http_requests  counter                2       2  Requests served.
size           histogram              1       1
up             unknown                1       1
3 families, 4 metrics, 4 points
";

#[track_caller]
fn expect(words: &[&str], page: impl AsRef<[u8]>, status: i32, stdout: &str, stderr: &str) {
    let run = parse(words, page.as_ref());
    let expected = Run { status, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
    assert_eq!(run, expected, "{words:?}");
}

#[test]
fn an_accepted_page_is_a_table() {
    expect(&["--format=text"], TEXT, 0, TABLE, "");
    expect(&["--format=text", "-"], TEXT, 0, TABLE, "");
    expect(
        &["--format", "openmetrics"],
        OPENMETRICS,
        0,
        "family           type     unit     metrics  points  help\n\
         request_seconds  summary  seconds        1       1  One line.\n\
         1 family, 1 metric, 1 point\n",
        "",
    );
    expect(
        &["--format=protobuf"],
        PROTOBUF,
        0,
        "family  type   unit  metrics  points  help\n\
         a       gauge              1       1\n\
         1 family, 1 metric, 1 point\n",
        "",
    );
    expect(
        &["--format=text"],
        "",
        0,
        "family  type  unit  metrics  points  help\n0 families, 0 metrics, 0 points\n",
        "",
    );
    // Nothing on a page moves the cursor.
    expect(
        &["--format=text"],
        "# HELP a \x1b[2Jb\n# TYPE a gauge\na 1\n",
        0,
        "family  type   unit  metrics  points  help\n\
         a       gauge              1       1  \u{fffd}[2Jb\n\
         1 family, 1 metric, 1 point\n",
        "",
    );
}

#[test]
fn a_format_that_nobody_said_is_guessed() {
    let guessed = |format| format!("standard input: read as {format}, which is a guess: --format says it\n");
    expect(&["--output=none"], TEXT, 0, "", &guessed("text"));
    expect(&["--output=none"], OPENMETRICS, 0, "", &guessed("openmetrics"));
    expect(&["--output=none"], PROTOBUF, 0, "", &guessed("protobuf"));
    expect(&["--output=none", "--strict"], OPENMETRICS, 0, "", "");
    expect(&["--output=none", "--strict", "--format=openmetrics"], OPENMETRICS, 0, "", "");
}

#[test]
fn a_refused_page_is_said_with_its_place() {
    expect(
        &["--format=text"],
        "up 1\na{b=c} 1\n",
        1,
        "",
        "standard input:2:5: expected a label value in double quotes\na{b=c} 1\n    ^\n",
    );
    expect(
        &["--format=text", "--output=none"],
        "a{ä=\"b\"} 1\n",
        1,
        "",
        "standard input:1:3: expected a label name or '}'\na{ä=\"b\"} 1\n  ^\n",
    );
    expect(
        &["--format=openmetrics", "--output=json"],
        "a 1\n",
        1,
        "",
        "standard input:2:1: page does not end with # EOF\n\n^\n",
    );
    expect(
        &["--strict"],
        "# TYPE a counter\na_total{b=\"c\"} -1\n# EOF\n",
        1,
        "",
        "standard input:2:16: expected a value that is not negative\n\
         a_total{b=\"c\"} -1\n               ^\n\
         rule sample-value: totals, counts, buckets and sums are neither NaN nor negative, counts and buckets are \
         integers, quantiles are not negative, info is 1, a state is 0 or 1\n\
         OpenMetrics 1.0, Metric Types\n",
    );
    // A scrape refuses it, and so does this.
    let run = parse(&["--format=text"], b"a{b=\"c\",b=\"d\"} 1\n");
    assert_eq!(run.status, 1);
    assert_eq!(run.stderr, "standard input: line 1: label name \"b\" of the metric \"a\" is not unique\n");
    let run = parse(&["--format=protobuf"], b"\x09\x0a\x01a\x18\x01\x22\x02\x12\x05");
    assert_eq!((run.status, &*run.stdout), (1, ""));
    assert!(run.stderr.starts_with("standard input: byte 9, family \"a\""), "{}", run.stderr);
}

#[test]
fn prometheus_accepts_what_strict_mode_refuses() {
    let page = "# TYPE a counter\na 1\n# EOF\n";
    expect(&["--format=openmetrics", "--output=none"], page, 0, "", "");
    assert_eq!(parse(&["--strict", "--output=none"], page.as_bytes()).status, 1);
}

#[test]
fn what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.prom");
    let path = path.to_str().unwrap();
    expect(
        &[path],
        "",
        2,
        "",
        &format!("error: {path} cannot be read: No such file or directory (os error 2)\n"),
    );
    expect(
        &["--max-bytes=10"],
        TEXT,
        2,
        "",
        "error: standard input is longer than 10 bytes; --max-bytes allows more\n",
    );
    let bomb = gzip(&vec![b'\n'; 1 << 20]);
    expect(
        &["--max-bytes=100000"],
        bomb,
        2,
        "",
        "error: standard input is longer than 100000 bytes; --max-bytes allows more\n",
    );
    let run = parse(&[], &gzip(TEXT.as_bytes())[..40]);
    assert_eq!(run.status, 2, "{run:?}");
}

#[test]
fn wrong_command_lines() {
    for words in [
        &["--format=xml"][..],
        &["--output=yaml"],
        &["--escaping=dots"],
        &["--to=text", "--output=json"],
        &["--to=text", "--escaping=none"],
        &["--max-bytes=many"],
        &["a.prom", "b.prom"],
        &["--strict", "--format=text"],
        &["--strict", "--format=openmetrics2"],
    ] {
        let run = parse(words, b"");
        assert_eq!((run.status, &*run.stdout), (64, ""), "{words:?}");
        assert!(run.stderr.starts_with("error: "), "{words:?}: {}", run.stderr);
    }
}

#[test]
fn files_are_named_and_may_be_compressed() {
    let folder = tempfile::tempdir().unwrap();
    for (name, page) in [("page.prom", TEXT.as_bytes().to_vec()), ("page.prom.gz", gzip(TEXT.as_bytes()))] {
        let path = folder.path().join(name);
        std::fs::write(&path, page).unwrap();
        let path = path.to_str().unwrap();
        expect(&["--format=text", path], "", 0, TABLE, "");
        let run = parse(&["--format=openmetrics", "--output=none", path], b"");
        assert_eq!(run.status, 1);
        assert!(run.stderr.starts_with(&format!("{path}:11:1: page does not end")), "{}", run.stderr);
    }
}

#[test]
fn json_is_the_owned_model() {
    for (format, name, page) in [
        (Format::Text, "text", TEXT.as_bytes()),
        (Format::OpenMetrics, "openmetrics", OPENMETRICS.as_bytes()),
        (Format::Protobuf, "protobuf", PROTOBUF),
    ] {
        let run = parse(&["--format", name, "--output=json"], page);
        assert_eq!((run.status, &*run.stderr), (0, ""));
        let printed: Vec<MetricFamily> = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(printed, read_families(format, page, ParseOptions::default()).unwrap());
    }
}

#[test]
fn options_of_a_scrape() {
    let created = "# TYPE a counter\na_total 1\na_created 1520879607.5\n# EOF\n";
    let json = |words: &[&str], page: &[u8]| {
        let run = parse(&[words, &["--output=json"]].concat(), page);
        assert_eq!(run.status, 0, "{}", run.stderr);
        run.stdout
    };
    assert!(!json(&["--format=openmetrics"], created.as_bytes()).contains("start_ms"));
    assert!(
        json(&["--format=openmetrics", "--start-timestamps"], created.as_bytes())
            .contains("\"start_ms\": 1520879607500")
    );
    assert!(!json(&["--format=text"], TEXT.as_bytes()).contains("custom_values"));
    let custom = json(&["--format=text", "--custom-buckets"], TEXT.as_bytes());
    assert!(custom.contains("custom_values") && !custom.contains("upper_bound"), "{custom}");
    let both = json(&["--format=text", "--custom-buckets", "--classic-histograms"], TEXT.as_bytes());
    assert!(both.contains("custom_values") && both.contains("upper_bound"), "{both}");
}

#[test]
fn a_page_in_another_format() {
    expect(
        &["--format=openmetrics", "--to=text"],
        OPENMETRICS,
        0,
        "# HELP request_seconds One\\nline.\n# TYPE request_seconds summary\n\
         request_seconds{quantile=\"0.5\"} 0.25\nrequest_seconds_count 2\n",
        "",
    );
    // There and back, and valid by the specification in between.
    let openmetrics = parse(&["--format=text", "--to=openmetrics"], TEXT.as_bytes());
    assert_eq!((openmetrics.status, &*openmetrics.stderr), (0, ""));
    expect(&["--strict", "--output=none"], &openmetrics.stdout, 0, "", "");
    let families =
        |format, page: &str| read_families(format, page.as_bytes(), ParseOptions::default()).unwrap();
    let back = parse(&["--format=openmetrics", "--to=text"], openmetrics.stdout.as_bytes());
    assert_eq!(families(Format::Text, &back.stdout), families(Format::Text, TEXT));
    for (escaping, name) in [
        ("allow-utf-8", "{\"a.b\"} 1\n"),
        ("underscores", "a_b 1\n"),
        ("dots", "a_dot_b 1\n"),
        ("values", "U__a_2e_b 1\n"),
    ] {
        let run = parse(&["--format=text", "--to=text", "--escaping", escaping], b"{\"a.b\"} 1\n");
        assert_eq!((run.status, &*run.stderr), (0, ""));
        assert!(run.stdout.ends_with(name), "{escaping}: {}", run.stdout);
    }
    // What OpenMetrics forbids is not written as OpenMetrics.
    let run = parse(&["--format=text", "--to=openmetrics"], b"# TYPE a counter\na -1\n");
    assert_eq!((run.status, &*run.stdout), (1, ""));
    assert!(
        run.stderr.starts_with("standard input: cannot be written as openmetrics: family \"a\""),
        "{}",
        run.stderr
    );
}

/// A name may be longer than anything that is padded, and is not what every other line is padded to.
#[test]
fn a_long_name_is_cut() {
    let others: String = (0..100).map(|n| format!("b{n} 1\n")).collect();
    let page = format!("{} 1\n{others}", "a".repeat(70_000));
    let run = parse(&["--format=text"], page.as_bytes());
    assert_eq!((run.status, &*run.stderr), (0, ""));
    let mut lines = run.stdout.lines().skip(1);
    assert_eq!(lines.next(), Some(&*format!("{}…  unknown              1       1", "a".repeat(79))));
    assert!(lines.all(|line| line.len() < 200), "{}", run.stdout);
}

/// The specification lets NUL stand where no scrape reads it.
#[test]
fn what_only_the_specification_accepts_is_judged_and_not_printed() {
    let page = "# TYPE a counter\na_total{b=\"x\"} 1 # {c=\"\0\"} 1\n# EOF\n";
    expect(&["--strict", "--output=none"], page, 0, "", "");
    let run = parse(&["--strict"], page.as_bytes());
    assert_eq!((run.status, &*run.stdout), (1, ""));
    assert!(run.stderr.contains("\nthe specification accepts the page, but"), "{}", run.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let families: String = (0..20_000).map(|n| format!("a{n} 1\n")).collect();
    let mut child = start(&["--format=text"]);
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(families.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

fn gzip(page: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(page).unwrap();
    encoder.finish().unwrap()
}
