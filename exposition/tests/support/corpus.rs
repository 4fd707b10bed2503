//! The pages that Prometheus' own parsers have judged, made anew each time in the same way.

use std::fs;
use std::path::PathBuf;

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, ParseOptions, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Rng, SeededRng, Span, Timestamp};

/// A page to judge.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) options: ParseOptions,
    pub(crate) page: Vec<u8>,
    /// Whether a hash of the verdict is enough.
    pub(crate) digest: bool,
}

/// Lines with a trap in them; each is judged as a page of either text format, in OpenMetrics with an end.
const TRAPS: &[&[u8]] = &[
    b"",
    b"\n",
    b"  \n\t\n",
    b"a 1\n\nb 2\n",
    b" a 1\n",
    b"\ta{b=\"c\"} 1\n",
    b" {\"a\"} 1\n",
    b" # TYPE a gauge\na 1\n",
    b"a 1",
    b"a",
    b"a\n",
    b"a \n",
    b"a  1\n",
    b"a\t1\n",
    b"a 1 \n",
    b"a 1\t\n",
    b"a 1\r\n",
    b"a 1 2\n",
    b"a 1\t2\n",
    b"a 1  2  \n",
    b"a 1 2 3\n",
    b"a 1 -2\n",
    b"a 1 +2\n",
    b"a 1 1.5\n",
    b"a 1 1e3\n",
    b"a 1 0.0015\n",
    b"a 1 1605301325.123\n",
    b"a 1 9223372036854775807\n",
    b"a 1 9223372036854775808\n",
    b"a 1 99999999999999999999999\n",
    b"a 1 NaN\n",
    b"a 1 Inf\n",
    b"a 1 1_2\n",
    b"a 1 1z\n",
    b"a-1\n",
    b"a+Inf\n",
    b"a.5\n",
    b"a{}1\n",
    b"a{} 1\n",
    b"a{ } 1\n",
    b"a {} 1\n",
    b"a {b=\"c\"} 1\n",
    b"a{b=\"c\"}1\n",
    b"a{b=\"c\"} 1{\n",
    b"a{b=\"c\"} {b=\"c\"} 1\n",
    b"a{b=\"c\",} 1\n",
    b"a{b=\"c\",,} 1\n",
    b"a{,} 1\n",
    b"a{,b=\"c\"} 1\n",
    b"a{b=\"c\"d=\"e\"} 1\n",
    b"a{b=\"c\" d=\"e\"} 1\n",
    b"a{b=\"c\"\"d\"=\"e\"} 1\n",
    b"a{ b = \"c\" , d = \"e\" } 1\n",
    b"a{b='c'} 1\n",
    b"a{b=c} 1\n",
    b"a{b} 1\n",
    b"a{b=} 1\n",
    b"a{=\"c\"} 1\n",
    b"a{b:c=\"d\"} 1\n",
    b"a{1b=\"d\"} 1\n",
    b"a{b=\"c\n",
    b"a{b=\"c\nd\"} 1\n",
    b"a{b=\"} 1\n\"} 2\n",
    b"a{b=\"x=\"\"} 1\n\"} 2\n",
    b"a{b=\"c\"\"} 1\n\"=\"d\"} 2\n",
    b"{\"} 1\n\",b=\"c\"} 2\n",
    b"{\"a\nb\"} 2\n",
    b"{\"a\nb\"=\"c\",\"d\"} 2\n",
    b"a{b=\"}\"} 1\n",
    b"a{b=\"} 1\"} 2\n",
    b"a{b=\"}\",c=\"{\"} 1\n",
    b"a{b=\"#\"} 1\n",
    b"a{b=\" # {\"} 1\n",
    b"a{b=\"\\\"\"} 1\n",
    b"a{b=\"\\\\\"} 1\n",
    b"a{b=\"\\n\"} 1\n",
    b"a{b=\"\\q\"} 1\n",
    b"a{b=\"\\\\n\\\\\\\"\"} 1\n",
    b"a{b=\"\\\n\"} 1\n",
    b"a{b=\"c\\\"} 1\n",
    b"a{b=\"\"} 1\n",
    b"a{b=\" \"} 1\n",
    b"a{b=\"=\"} 1\n",
    b"a{b=\",\"} 1\n",
    b"a{b=\"{\"} 1\n",
    b"a{b=\"c\",b=\"d\"} 1\n",
    b"a{b=\"\xc3\xa4\"} 1\n",
    b"a{b=\"\xff\"} 1\n",
    b"a{\"\xff\"=\"b\"} 1\n",
    b"{\"\xff\"} 1\n",
    b"a{\xff=\"foo\"} 1\n",
    b"a\xff 1\n",
    b"\xff 1\n",
    b"{\"a\"} 1\n",
    b"{\"a\",b=\"c\"} 1\n",
    b"{b=\"c\",\"a\"} 1\n",
    b"{b=\"c\" \"a\"} 1\n",
    b"{\"a\",\"b\"=\"c\"} 1\n",
    b"{\"a\" , \"b\" = \"c\" , } 1\n",
    b"{\"a\",\"b\"} 1\n",
    b"a{\"b\"} 1\n",
    b"{b=\"c\"} 1\n",
    b"{} 1\n",
    b"{\"\"} 1\n",
    b"a{\"\"=\"b\"} 1\n",
    b"{\"a\\\"b\\n\\\\c\"} 1\n",
    b"{\"a\"}1\n",
    b"{\"a\"=\"b\"} 1\n",
    b"{A}0\n",
    b"{\"a\", \"b = \"c\"}\n",
    b"{__name__=\"a\"} 1\n",
    b"a{__name__=\"b\"} 1\n",
    b"1a 1\n",
    b":a 1\n",
    b"_a 1\n",
    b"a NaN\n",
    b"a nan\n",
    b"a +NaN\n",
    b"a -NaN\n",
    b"a Inf\n",
    b"a +Inf\n",
    b"a -inf\n",
    b"a INFINITY\n",
    b"a infinit\n",
    b"a 1e400\n",
    b"a -1e400\n",
    b"a 1e-400\n",
    b"a 0x1\n",
    b"a 0x1p-2\n",
    b"a 1_000\n",
    b"a 1.\n",
    b"a .5\n",
    b"a .\n",
    b"a -\n",
    b"a +1\n",
    b"a -0\n",
    b"a 00012\n",
    b"a 1e\n",
    b"a 1e+\n",
    b"a e1\n",
    b"a 1e05\n",
    b"a 1E+5\n",
    b"a 1e0000000000000000000000000005\n",
    b"a 1.7976931348623157e308\n",
    b"a 1.7976931348623159e308\n",
    b"a 4.9e-324\n",
    b"a 2.4e-324\n",
    b"a 9007199254740993\n",
    b"a 18446744073709551615\n",
    b"a 18446744073709551616\n",
    b"a 123456789012345678901234567890\n",
    b"a 0.1234567890123456789012345\n",
    b"a 0.30000000000000004\n",
    b"a 179769313486231570000000000000000000000e270\n",
    b"a 1.5e22\n",
    b"a 123456789e-30\n",
    b"a true\n",
    b"a 1,2\n",
    b"a 1}\n",
    b"a }\n",
    b"a 0b1\n",
    b"#\n",
    b"# \n",
    b"#a\n",
    b"# a\n",
    b"#HELP a b\n",
    b"#TYPE a b\n",
    b"# HELP\n",
    b"# HELP \n",
    b"# HELP a\n",
    b"# HELP a \n",
    b"# HELP a   \n",
    b"# HELP a  b  c \n",
    b"# HELP a\tb\n",
    b"# HELP a\"b\n",
    b"# HELP \"a b\" c\n",
    b"# HELP \"a\\\"b\" c\n",
    b"# HELP \"a\nb\" c\n",
    b"# HELP \"a c\n",
    b"# HELP 1a c\n",
    b"# HELP a \\\\ \\n \\\" \\q\n",
    b"# HELP a \xff\n",
    b"# HELP \"\xff\" b\n",
    b"# HELP a b\n# HELP a c\n",
    b"#  HELP a b\n",
    b"#\tHELP\ta\tb\n",
    b"# HELPa b\n",
    b"# HELP #\n",
    b"# help a b\n",
    b"# TYPE\n",
    b"# TYPE a\n",
    b"# TYPE a \n",
    b"# TYPE a  counter\n",
    b"# TYPE a counter \n",
    b"# TYPE a\tcounter\n",
    b"# TYPE  a counter\n",
    b"# TYPE a.counter\n",
    b"# TYPE a COUNTER\n",
    b"# TYPE a untyped\na 1\n",
    b"# TYPE a unknown\na 1\n",
    b"# TYPE a info\na 1\n",
    b"# TYPE a stateset\na 1\n",
    b"# TYPE a gaugehistogram\na_bucket{le=\"1\"} 1\n",
    b"# TYPE a gauge\n# TYPE a counter\na 1\n",
    b"a 1\n# TYPE a counter\na 2\n",
    b"# TYPE #\n",
    b"# UNIT a_b b\n",
    b"# UNIT a b\n",
    b"# UNIT ab b\n",
    b"# UNIT _b b\n",
    b"# UNIT b b\n",
    b"# UNIT a_b \n",
    b"# UNIT a_b\n",
    b"# UNIT \"a.x_b\" b\n",
    b"# EOF\na 1\n",
    b"# EOF\n\n",
    b"# EOFa 1\n",
    b"# EOF a\n",
    b"# EO\n",
    b"#EOF\n",
    b" # EOF\n",
    b"# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"1e6\"} 1\nh_bucket{le=\"1e20\"} 1\nh_bucket{le=\"1e21\"} 1\n",
    b"# TYPE h histogram\nh_bucket{le=\"0.00001\"} 1\nh_bucket{le=\"123456789\"} 1\nh_bucket{le=\"100000.5\"} 1\nh_bucket{le=\"Inf\"} 1\n",
    b"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_bucket{le=\"-inf\"} 1\nh_bucket{le=\"nan\"} 1\nh_bucket{le=\"x\"} 1\nh_bucket{le=\"\"} 1\n",
    b"# TYPE h histogram\nh_bucket{le=\"1_0\"} 1\nh_bucket{le=\"0x1p-2\"} 1\nh_bucket{le=\"0X1.8P1\"} 1\nh_bucket{le=\"1e400\"} 1\nh_bucket{le=\"-0\"} 1\n",
    b"# TYPE h histogram\nh_bucket{le=\"0x_1p-2\"} 1\nh_bucket{le=\"0x1.fffffffffffff8p0\"} 1\nh_bucket{le=\"0x1.8p-1075\"} 1\nh_bucket{le=\"0x1p1024\"} 1\nh_bucket{le=\"1__0\"} 1\n",
    b"# TYPE h histogram\nh{quantile=\"1\",le=\"2\",\"le\"=\"3\"} 1\nunrelated{le=\"4\"} 1\n# TYPE g gauge\nh{le=\"5\"} 1\n",
    b"# TYPE s summary\ns{quantile=\"0\",le=\"2\"} 1\ns{quantile=\"0.50\"} 1\ns{quantile=\".5\"} 1\n",
    b"h{le=\"1\"} 1\n# TYPE h histogram\nh{le=\"1\"} 1\n",
    b"a 1 # {} 2\n",
    b"a 1 # {b=\"c\"} 2\n",
    b"a 1 # {b=\"c\"} 2 3.5\n",
    b"a 1 1.5 # {b=\"c\",} 2 3.5\n",
    b"a 1 # {b=\"c\"}2\n",
    b"a 1 # {b=\"c\"}\n",
    b"a 1 # {b=\"c\"} 2 3 4\n",
    b"a 1 # {b=\"c\"} 2 \n",
    b"a 1 # {b=\"c\"} 2 NaN\n",
    b"a 1 # {b=\"c\"} NaN\n",
    b"a 1 # {b=\"c\"} 1_2\n",
    b"a 1 # {b=\"c\"d=\"e\"} 2\n",
    b"a 1 # {\"b\"=\"c\"} 2\n",
    b"a 1 # {\"b\"} 2\n",
    b"a 1 # {b=\"\\\"}\\\\\\n\"} 2\n",
    b"a 1 # {b=\"\xff\"} 2\n",
    b"a 1 # {\"\xff\"=\"b\"} 2\n",
    b"a 1 # {b=\"c\nd\"} 2\n",
    b"a 1 # {b = \"c\"} 2\n",
    b"a 1 #{b=\"c\"} 2\n",
    b"a 1 # b=\"c\"} 2\n",
    b"a 1 #  {b=\"c\"} 2\n",
    b"a 1 #\n",
    b"a 1 # \n",
    b"a 1 # x\n",
    b"a 1 2 #\n",
    b"a{b=\"c\"} 1 # {b=\"c\"} 2\na{b=\"d\"} 1\n",
    b"a{b=\"c\"} 1 # {b=\"} 5\"} 2\n",
    b"# TYPE c counter\nc_total 1\nc_created 1.5\n",
    b"# TYPE c counter\nc_total{a=\"1\"} 1\nc_total{a=\"2\"} 1\nc_created{a=\"2\"} 1.5\nc_created{a=\"1\"} 2.5\n",
    b"# TYPE c counter\nc_total{a=\"1\"} 1 # {x=\"y\"} 1 1\nc_created{a=\"1\"} 1.5 # {x=\"y\"} 1\nc_total{a=\"2\"} 1\nc_created{a=\"2\"} 3\n",
    b"# TYPE c counter\nc_created 1.5\nc_total 1\n",
    b"# TYPE c counter\nc_total 1\n# HELP d d\nc_created 1.5\n",
    b"# TYPE c gauge\nc 1\nc_created 1.5\n",
    b"# TYPE h histogram\nh_bucket{le=\"1\",a=\"b\"} 1\nh_bucket{le=\"+Inf\",a=\"b\"} 1\nh_sum{a=\"b\"} 1\nh_count{a=\"b\"} 1\nh_created{a=\"b\"} 7\n",
    b"# TYPE s summary\ns{quantile=\"1\"} 1\ns_sum 1\ns_count 1\ns_created 7\n",
    b"# TYPE c counter\nc_total 1\nc_created NaN\n",
    b"# TYPE c counter\nc_total 1\nc_created 1e300\n",
    b"# TYPE c counter\nc_total 1\nc_created 0\n",
    b"# TYPE \"c.d\" counter\n{\"c.d_total\",a=\"b\"} 1\n{\"c.d_created\",a=\"b\"} 3\n",
    b"# TYPE c counter\nc_created 5\nc_created{a=\"b\"} 5\nc_total 1\nc_total{a=\"b\"} 2\nx_created 3\n",
    b"\0",
    b"\0a 1\n",
    b"a 1\n\0b x\n",
    b"a 1\n \0b x\n",
    b"a\0 1\n",
    b"a 1\0\n",
    b"a 1\0",
    b"a 1 \0\n",
    b"a 1 2\0\n",
    b"a{\0b=\"c\"} 1\n",
    b"a{b\0=\"c\"} 1\n",
    b"a{b=\0\"c\"} 1\n",
    b"a{b= \0\"c\"} 1\n",
    b"a{b=\"c\0\"} 1\n",
    b"a{b=\"\0\0c\"} 1\n",
    b"a{b=\"c\"\0} 1\n",
    b"a{b=\"c\"\0\0} 1\n",
    b"a{b=\"c\\\0\"d\"} 1\n",
    b"a{b=\"c\"}\0 1\n",
    b"{\"a\0\"} 1\n",
    b"a{\"b\0\"=\"c\"} 1\n",
    b"# HELP a\0 b\n",
    b"# HELP a b\0c\n",
    b"# HELP a \0\n",
    b"# HELP a \0 b\n",
    b"# HELP\0 a b\n",
    b"# H\0ELP a b\n",
    b"# \0HELP a b\n",
    b"#\0 HELP a b\n",
    b"# HELP \0a b\n",
    b"# TYPE a \0counter\n",
    b"# TYPE a counter\0\n",
    b"# TYPE a counter\n\0\na 1\n",
    b"# comment\0x\na 1\n",
    b"#comment\0x\na 1\n",
    b"# comment\n\0a 1\n",
    b"# E\0OF\n",
    b"# EOF\0\n",
    b"# EOF\n\0",
    b"# UNIT a_b \0b\n",
    b"a 1 # {\0b=\"c\"} 2\n",
    b"a 1 # {b=\"c\0\"} 2\n",
    b"a 1 # {b=\"c\"} 2\0\n",
];

/// What random lines are put together from.
const PIECES: &[&str] = &[
    "a",
    "b",
    "le",
    "quantile",
    "a_total",
    "a_created",
    "{",
    "}",
    "{",
    "}",
    "\"",
    "\"",
    "\"",
    "=",
    "=",
    ",",
    " ",
    " ",
    "\t",
    "\n",
    "\n",
    "\\",
    "\\\"",
    "\\n",
    "#",
    "# ",
    "# {",
    "# TYPE a counter\n",
    "# TYPE a histogram\n",
    "# HELP a ",
    "# UNIT a_b b\n",
    "1",
    "0.5",
    "12",
    "NaN",
    "+Inf",
    "-",
    "+",
    ".",
    "e",
    "1e3",
    "1e400",
    "0x1p1",
    "_",
    "\0",
    "\r",
    "\u{e4}",
    "a 1\n",
    "a{b=\"c\"} 1\n",
    "{\"a.b\",c=\"d\"} 2\n",
    "b=\"c\"",
    "\"b\"=\"c\"",
    "le=\"1\"",
    " # {t=\"u\"} 1",
    " 1700000000",
    "} 1\n",
    "\"} 1\n",
    "=\"",
    "# EOF\n",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let plain = ParseOptions::default();
    let mut started = plain;
    started.parse_start_timestamps = true;
    for (number, trap) in TRAPS.iter().enumerate() {
        let ended = [trap, b"# EOF\n".as_slice()].concat();
        add(&mut cases, format!("trap/text/{number}"), Format::Text, plain, trap.to_vec(), false);
        add(
            &mut cases,
            format!("trap/openmetrics/{number}"),
            Format::OpenMetrics,
            plain,
            ended.clone(),
            false,
        );
        add(
            &mut cases,
            format!("trap/openmetrics-start/{number}"),
            Format::OpenMetrics,
            started,
            ended,
            true,
        );
        add(
            &mut cases,
            format!("trap/openmetrics-endless/{number}"),
            Format::OpenMetrics,
            plain,
            trap.to_vec(),
            true,
        );
    }
    let mut rng = SeededRng::new(3);
    for (name, page) in files("openmetrics", "txt") {
        add(&mut cases, format!("suite/{name}"), Format::OpenMetrics, started, page.clone(), false);
        add(&mut cases, format!("suite-as-text/{name}"), Format::Text, plain, page, true);
    }
    for (extension, format, options) in [("prom", Format::Text, plain), ("om", Format::OpenMetrics, started)]
    {
        for (name, page) in files("pages", extension) {
            add(&mut cases, format!("page/{name}"), format, options, page.clone(), false);
            for number in 0..150 {
                let mutated = mutate(&page, &mut rng);
                add(&mut cases, format!("mutation/{name}/{number}"), format, options, mutated, true);
            }
        }
    }
    for number in 0..random_pages() {
        let page = random_page(&mut rng);
        let ended = [&page, b"\n# EOF\n".as_slice()].concat();
        add(&mut cases, format!("random/text/{number}"), Format::Text, plain, page, true);
        let options = if number % 2 == 0 { plain } else { started };
        add(&mut cases, format!("random/openmetrics/{number}"), Format::OpenMetrics, options, ended, true);
    }
    for (name, page) in protobuf_pages() {
        for flags in 0..8_u8 {
            let mut options = plain;
            options.native_histograms = flags & 1 != 0;
            options.always_classic_histograms = flags & 2 != 0;
            options.parse_start_timestamps = flags & 4 != 0;
            add(
                &mut cases,
                format!("protobuf/{name}/{flags}"),
                Format::Protobuf,
                options,
                page.clone(),
                flags != 3,
            );
        }
        let mut options = plain;
        options.native_histograms = true;
        options.always_classic_histograms = true;
        for number in 0..150 {
            let mutated = mutate_bytes(&page, &mut rng);
            add(
                &mut cases,
                format!("protobuf-mutation/{name}/{number}"),
                Format::Protobuf,
                options,
                mutated,
                true,
            );
        }
    }
    cases
}

/// More than are kept can be judged in one go: `PROMFERRY_RANDOM_PAGES=100000`.
fn random_pages() -> usize {
    std::env::var("PROMFERRY_RANDOM_PAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

fn add(
    cases: &mut Vec<Case>,
    name: String,
    format: Format,
    options: ParseOptions,
    page: Vec<u8>,
    digest: bool,
) {
    cases.push(Case { name, format, options, page, digest });
}

pub(crate) fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn files(folder: &str, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(data("data").join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn below(rng: &mut SeededRng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

fn random_page(rng: &mut SeededRng) -> Vec<u8> {
    let mut page = Vec::new();
    for _ in 0..1 + below(rng, 14) {
        page.extend_from_slice(PIECES[below(rng, PIECES.len())].as_bytes());
    }
    page
}

/// The page with one to three pieces put in, taken out or doubled.
fn mutate(page: &[u8], rng: &mut SeededRng) -> Vec<u8> {
    let mut page = page.to_vec();
    for _ in 0..1 + below(rng, 3) {
        let at = below(rng, page.len());
        match below(rng, 3) {
            0 => {
                let piece = PIECES[below(rng, PIECES.len())];
                page.splice(at..at, piece.bytes());
            }
            1 => {
                page.remove(at);
            }
            _ => {
                let end = (at + 1 + below(rng, 40)).min(page.len());
                let doubled = page[at..end].to_vec();
                page.splice(at..at, doubled);
            }
        }
    }
    page
}

fn mutate_bytes(page: &[u8], rng: &mut SeededRng) -> Vec<u8> {
    let mut page = page.to_vec();
    for _ in 0..1 + below(rng, 2) {
        let at = below(rng, page.len());
        match below(rng, 6) {
            0 => page[at] = rng.next_u64() as u8,
            1 => page[at] = page[at].wrapping_add(1),
            2 => page[at] ^= 1 << below(rng, 8),
            3 => page[at] ^= 0x80,
            4 => page.truncate(at.max(1)),
            _ => {
                page.remove(at);
                if page.is_empty() {
                    page.push(0);
                }
            }
        }
    }
    page
}

fn protobuf_pages() -> Vec<(&'static str, Vec<u8>)> {
    let family =
        |family, metric_type| MetadataView { family, metric_type, unit: "", help: "Some \u{fc}ber help." };
    let exemplar = |value, timestamp: Option<i64>| PointExemplar {
        labels: &[("trace_id", "0af765"), ("span", "\u{e4}\"\\")],
        value,
        timestamp: timestamp.map(Timestamp::from_millis),
    };
    let labels: &[(&str, &str)] = &[("code", "200"), ("path", "/a\n\"b\"")];
    let point = Point { labels, timestamp: None, start: Some(Timestamp::from_millis(1_600_000_000_125)) };
    let stamped = Point { labels: &[], timestamp: Some(Timestamp::from_millis(-5)), start: None };

    let mut simple = Encoder::new(Format::Protobuf);
    simple
        .family(family("requests", MetricType::Counter))
        .number(point, 7.0)
        .number(stamped, f64::NAN)
        .number_with_exemplar(&[("code", "500")], 3.0, exemplar(0.5, None));
    simple
        .family(MetadataView { unit: "seconds", ..family("age", MetricType::Gauge) })
        .number(point, f64::from_bits(0x7ff0_0000_0000_0002))
        .number(stamped, -0.0);
    simple.family(family("empty", MetricType::Gauge));
    simple.family(family("what.ever", MetricType::Unknown)).number(&[], 1e300);
    let quantiles = [(0.5, 0.25), (0.99, f64::NAN), (1.0, 1e6)];
    simple
        .family(family("latency", MetricType::Summary))
        .summary(point, &SummaryPoint { quantiles: &quantiles, count: 3.0, sum: 0.75 })
        .summary(stamped, &SummaryPoint::default());

    let bucket =
        |upper_bound, cumulative_count, exemplar| BucketPoint { upper_bound, cumulative_count, exemplar };
    let with_infinity =
        [bucket(1.0, 2.0, Some(exemplar(0.7, Some(1_700_000_000_123)))), bucket(f64::INFINITY, 3.0, None)];
    let without = [bucket(0.1, 1.0, None), bucket(1e6, 2.5, Some(exemplar(9.0, None)))];
    let mut classic = Encoder::new(Format::Protobuf);
    classic
        .family(family("size_bytes", MetricType::Histogram))
        .histogram(point, &HistogramPoint { buckets: &with_infinity, count: 3.0, sum: 4.5, native: None })
        .histogram(stamped, &HistogramPoint { buckets: &without, count: 7.25, sum: -1.0, native: None })
        .histogram(&[], &HistogramPoint::default());
    classic
        .family(family("depth", MetricType::GaugeHistogram))
        .histogram(point, &HistogramPoint { buckets: &without, count: 7.0, sum: 1.0, native: None });

    let span = |offset, length| Span { offset, length };
    let integer = Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        sum: 12.5,
        counts: BucketCounts::Integer {
            count: 9,
            zero_count: 1,
            positive: vec![2, -2, 0, 3, -1, -2],
            negative: vec![1, 0],
        },
        positive_spans: vec![span(-2, 2), span(0, 1), span(3, 3)],
        negative_spans: vec![span(4, 1), span(0, 0), span(2, 1)],
        custom_values: vec![],
        reset_hint: Default::default(),
    };
    let float = Histogram {
        counts: BucketCounts::Float {
            count: 3.5,
            zero_count: 0.5,
            positive: vec![0.0, 1.5, 0.0, 0.0, 1.0, 0.0],
            negative: vec![0.0, 0.5],
        },
        schema: -4,
        ..integer.clone()
    };
    let nothing = Histogram {
        positive_spans: vec![],
        negative_spans: vec![],
        zero_threshold: 0.0,
        counts: BucketCounts::Integer { count: 0, zero_count: 0, positive: vec![], negative: vec![] },
        ..integer.clone()
    };
    let mut native = Encoder::new(Format::Protobuf);
    native.family(family("rpc_seconds", MetricType::Histogram)).histogram(
        point,
        &HistogramPoint { buckets: &with_infinity, count: 9.0, sum: 12.5, native: Some(&integer) },
    );
    native
        .family(family("mixed_seconds", MetricType::Histogram))
        .histogram(point, &HistogramPoint { native: Some(&float), ..HistogramPoint::default() })
        .histogram(stamped, &HistogramPoint { buckets: &without, count: 3.0, sum: 1.0, native: None })
        .histogram(&[], &HistogramPoint { native: Some(&nothing), ..HistogramPoint::default() });
    native
        .family(family("depth", MetricType::GaugeHistogram))
        .histogram(&[], &HistogramPoint { native: Some(&integer), ..HistogramPoint::default() });
    vec![("simple", simple.finish()), ("classic", classic.finish()), ("native", native.finish())]
}
