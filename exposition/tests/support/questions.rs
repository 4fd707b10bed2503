//! What is asked besides pages: headers, names and numbers, by hand and put together at random.

use std::collections::HashMap;
use std::fs;

use promferry_exposition::{Format, ScrapeProtocol, format_for, go_float, negotiate};
use promferry_model::{EscapingScheme, Rng as _, SeededRng, escape_name, unescape_name};
use serde_json::{Value, json};

use crate::corpus::{data, seed_of};
use crate::golden::{ask, hexadecimal};

const GOLDEN: &str = "golden/questions.jsonl";

/// How many of each kind are put together at random.
const RANDOM: usize = 250;

pub(crate) const KINDS: &[&str] = &["content-type", "escape", "unescape", "float", "negotiate"];

const SCHEMES: [(EscapingScheme, &str); 4] = [
    (EscapingScheme::AllowUtf8, "allow-utf-8"),
    (EscapingScheme::Underscores, "underscores"),
    (EscapingScheme::Dots, "dots"),
    (EscapingScheme::Values, "values"),
];

const FALLBACKS: [(Option<ScrapeProtocol>, &str); 3] = [
    (None, ""),
    (Some(ScrapeProtocol::PrometheusText0_0_4), "text/plain"),
    (Some(ScrapeProtocol::PrometheusProto), "application/vnd.google.protobuf"),
];

/// What a target offers here, preferred ones first, as Go's prometheus/common spells it.
const OFFERS: [&str; 5] = [
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "application/openmetrics-text; version=0.0.1; charset=utf-8",
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    "text/plain; version=1.0.0; charset=utf-8",
    "text/plain; version=0.0.4; charset=utf-8",
];

struct Question {
    kind: &'static str,
    input: String,
    scheme: (EscapingScheme, &'static str),
    fallback: (Option<ScrapeProtocol>, &'static str),
}

impl Question {
    fn json(&self, number: usize) -> Value {
        json!({
            "name": format!("{}/{number}#{:08x}", self.kind, self.hash() as u32),
            "kind": self.kind,
            "input": hexadecimal(self.input.as_bytes()),
            "scheme": self.scheme.1,
            "fallback": self.fallback.1,
            "offers": OFFERS,
        })
    }

    fn hash(&self) -> u64 {
        seed_of(&format!("{} {} {}", self.scheme.1, self.fallback.1, self.input))
    }

    /// What is said here, as the oracle spells it.
    fn answer(&self) -> Vec<String> {
        let input = self.input.as_str();
        match self.kind {
            "content-type" => vec![match format_for(Some(input), self.fallback.0) {
                Ok(Format::Text) => "text".to_owned(),
                Ok(Format::OpenMetrics) => "openmetrics".to_owned(),
                Ok(Format::Protobuf) => "protobuf".to_owned(),
                Ok(format) => format!("{format:?}"),
                Err(_) => "refused".to_owned(),
            }],
            "negotiate" => vec![negotiate(input, self.scheme.0).to_string()],
            "escape" => vec![quote(&escape_name(input, self.scheme.0))],
            "unescape" => vec![quote(&unescape_name(input, self.scheme.0))],
            "float" => match go_float::parse(input.as_bytes()) {
                Ok(value) => vec![
                    // Go has one NaN.
                    format!("{:016x}", if value.is_nan() { 0x7ff8_0000_0000_0001 } else { value.to_bits() }),
                    go_float::format(value),
                    go_float::format_openmetrics(value),
                ],
                Err(go_float::NumberError::Range) => vec!["range".to_owned()],
                Err(_) => vec!["syntax".to_owned()],
            },
            kind => panic!("no kind {kind:?}"),
        }
    }
}

/// Says where what is answered here is not what Prometheus answers.
pub(crate) fn compare(kind: &'static str) {
    let mut expected: HashMap<String, Value> = HashMap::new();
    for line in fs::read_to_string(data(GOLDEN)).unwrap().lines() {
        let verdict: Value = serde_json::from_str(line).unwrap();
        expected.insert(verdict["name"].as_str().unwrap().to_owned(), verdict);
    }
    let questions = questions(kind);
    let mut differences = Vec::new();
    for (number, question) in questions.iter().enumerate() {
        let asked = question.json(number);
        let verdict = expected.get(asked["name"].as_str().unwrap());
        let verdict = verdict.expect("the questions have changed: run scripts/expositions judge");
        let answer = question.answer();
        let theirs = match verdict["lines"][0].as_str() {
            Some(theirs) if kind == "negotiate" => json!([as_negotiated_here(theirs)]),
            _ => verdict["lines"].clone(),
        };
        // Parameters in pieces (RFC 2231), which nobody sends, are passed over here.
        let in_pieces = kind == "content-type" && question.input.contains("version*");
        if json!(answer) != theirs && !in_pieces {
            let (scheme, fallback) = (question.scheme.1, question.fallback.1);
            differences.push(format!(
                "{:?} {scheme} {fallback}\n  Prometheus {verdict}\n  here {answer:?}",
                question.input
            ));
        }
    }
    let number = differences.len();
    assert!(
        number == 0,
        "{number} of {} are answered otherwise than by Prometheus:\n{}",
        questions.len(),
        differences[..number.min(20)].join("\n")
    );
}

/// Prometheus' library announces names as they are in versions that have no way to write them, and then escapes them.
fn as_negotiated_here(content_type: &str) -> String {
    let versions = ["text/plain; version=0.0.4", "application/openmetrics-text; version=0.0.1"];
    match content_type.strip_suffix("allow-utf-8") {
        Some(rest) if versions.iter().any(|version| rest.starts_with(version)) => {
            format!("{rest}underscores")
        }
        _ => content_type.to_owned(),
    }
}

/// Has Prometheus answer everything and writes it.
pub(crate) fn judge_anew() {
    let mut asked = Vec::new();
    for kind in KINDS {
        asked.extend(questions(kind).iter().enumerate().map(|(number, question)| question.json(number)));
    }
    let lines: Vec<String> = ask(asked).iter().map(|verdict| format!("{verdict}\n")).collect();
    fs::write(data(GOLDEN), lines.concat()).unwrap();
}

fn questions(kind: &'static str) -> Vec<Question> {
    let mut rng = SeededRng::new(seed_of(kind));
    let plain = Question { kind, input: String::new(), scheme: SCHEMES[0], fallback: FALLBACKS[0] };
    let (by_hand, pieces): (Vec<&str>, &[&str]) = match kind {
        "content-type" => (CONTENT_TYPES.to_vec(), CONTENT_TYPE_PIECES),
        "negotiate" => (ACCEPTS.to_vec(), ACCEPT_PIECES),
        "escape" => (NAMES.to_vec(), NAME_PIECES),
        "unescape" => (ESCAPED_NAMES.to_vec(), ESCAPED_NAME_PIECES),
        "float" => (NUMBERS.to_vec(), NUMBER_PIECES),
        kind => panic!("no kind {kind:?}"),
    };
    let mut inputs: Vec<String> = by_hand.into_iter().map(str::to_owned).collect();
    for _ in 0..RANDOM {
        let number = 1 + below(&mut rng, 8);
        inputs.push((0..number).map(|_| pieces[below(&mut rng, pieces.len())]).collect());
    }
    if kind == "float" {
        for _ in 0..RANDOM {
            let value = f64::from_bits(rng.next_u64());
            let decimals = 1 + below(&mut rng, 25);
            inputs.push(if below(&mut rng, 2) == 0 {
                format!("{value:e}")
            } else {
                format!("{value:.decimals$e}")
            });
            inputs.push(format!(
                "{}",
                (rng.next_u64() >> below(&mut rng, 64)) as f64 / 10_f64.powi(below(&mut rng, 12) as i32)
            ));
        }
    }
    let mut questions = Vec::new();
    for (number, input) in inputs.into_iter().enumerate() {
        match kind {
            "escape" | "unescape" => {
                questions.extend(SCHEMES.map(|scheme| Question { input: input.clone(), scheme, ..plain }));
            }
            "content-type" => questions.push(Question { input, fallback: FALLBACKS[number % 3], ..plain }),
            "negotiate" => questions.push(Question { input, scheme: SCHEMES[number % 4], ..plain }),
            _ => questions.push(Question { input, ..plain }),
        }
    }
    questions
}

fn quote(text: &str) -> String {
    if text.contains('\u{fffd}') {
        return "<not UTF-8>".to_owned();
    }
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\x{byte:02x}"),
        0x20..=0x7e => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    format!("\"{}\"", text.bytes().map(byte).collect::<String>())
}

fn below(rng: &mut SeededRng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

const CONTENT_TYPES: &[&str] = &[
    "",
    " ",
    ";",
    "text",
    "text/",
    "/plain",
    "text/plain",
    "TEXT/PLAIN",
    " text/plain ",
    "text /plain",
    "text/ plain",
    "text/plain/x",
    "text/plain;",
    "text/plain; ",
    "text/plain;;",
    "text/plain; version=0.0.4",
    "text/plain; version=0.0.4; charset=utf-8",
    "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
    "text/plain;version=0.0.4;version=0.0.4",
    "text/plain;version=0.0.4;version=1.0.0",
    "text/plain;version",
    "text/plain;version=",
    "text/plain;=1",
    "text/plain;version=\"0.0.4\"",
    "text/plain;version=\"0.0.4",
    "text/plain;version=\"0\\.0\\\"4\"",
    "text/plain;version=0.0.4 x",
    "text/plain;version=0.0.4,x",
    "text/plain,application/openmetrics-text",
    "text/plain; a=b c",
    "text/plain; a=b; c",
    "text/plain; \u{fc}=b",
    "text/plain; a=\u{fc}",
    "text/plain; a=\"\u{fc}\"",
    "text/html",
    "text/html; charset=utf-8",
    "application/json",
    "application/openmetrics-text",
    "application/openmetrics-text; version=0.0.1",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "application/openmetrics-text; version=2.0.0",
    "application/openmetrics-text; version=\"2.0.0\"",
    "application/openmetrics-text; VERSION=2.0.0",
    "application/openmetrics-text; version*=utf-8''2.0.0",
    "application/openmetrics-text; version*=2.0.0",
    "application/openmetrics-text; version*=utf-8'en'2%2e0%2e0",
    "application/openmetrics-text; version*=utf-8'en'2%2",
    "application/openmetrics-text; version*=latin1''2.0.0",
    "application/openmetrics-text; version*0=2.; version*1=0.0",
    "application/openmetrics-text; version*1=0.0; version*0=2.",
    "application/openmetrics-text; version*0*=utf-8''2%2e; version*1=0.0",
    "application/openmetrics-text; version*0=2.; version*2=0.0",
    "application/openmetrics-text; version*1=2.0.0",
    "application/openmetrics-text; version=1.0.0; version*=utf-8''2.0.0",
    "application/openmetrics-text; version=3.0.0",
    "application/vnd.google.protobuf",
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text",
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=compact-text",
    "application/x-protobuf",
    "*/*",
    "\ttext/plain\t;\tversion=0.0.4",
    "\u{a0}text/plain",
    "text/plain\u{a0}",
    "text/plain;\u{a0}version=1",
];

const CONTENT_TYPE_PIECES: &[&str] = &[
    "text/plain",
    "text/plain",
    "application/openmetrics-text",
    "application/openmetrics-text",
    "application/vnd.google.protobuf",
    ";",
    ";",
    "; ",
    ";version=",
    ";version=2.0.0",
    ";version=\"2.0.0\"",
    ";version=0.0.4",
    ";charset=utf-8",
    ";a=\"b\\\"c\"",
    ";a=\"",
    ";version*=utf-8''2.0.0",
    ";version*0=2.0",
    ";version*1=.0",
    "\"",
    "=",
    " ",
    ",",
    "/",
    "x",
    "A",
    "*",
    "%20",
    "\\",
    "\u{e4}",
    "\t",
    "\r\n",
];

const ACCEPTS: &[&str] = &[
    "",
    "*/*",
    "*",
    "text/plain",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=0.0.4;escaping=allow-utf-8",
    "text/plain;version=2.0.0",
    "text/*",
    "text/*;version=0.0.4",
    "text/html",
    "text/html,*/*;q=0.1",
    "application/openmetrics-text",
    "application/openmetrics-text;version=0.0.1",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=values",
    "application/openmetrics-text;version=2.0.0",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "application/openmetrics-text; version=1.0.0; charset=latin1",
    "application/vnd.google.protobuf",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=dots",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
    "application/*;version=1.0.0",
    "*/*;version=0.0.4",
    "*/*;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    "text/plain;q=0.3,application/openmetrics-text;version=1.0.0;q=0.6",
    "text/plain;q=0.6,application/openmetrics-text;version=1.0.0;q=0.3",
    "text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.5",
    "application/openmetrics-text;version=1.0.0;q=0,text/plain",
    "application/openmetrics-text;version=1.0.0;q=0",
    "application/openmetrics-text;version=1.0.0;q=-1,text/plain;q=-2",
    "application/openmetrics-text;version=1.0.0;q=x,text/plain;q=0.9",
    "application/openmetrics-text;version=1.0.0; q=0.2,text/plain; q=0.9",
    "application/openmetrics-text;version=1.0.0;q=NaN,text/plain;q=0.9",
    "application/openmetrics-text;version=1.0.0;q=2,text/plain",
    "text/plain;escaping=dots,application/openmetrics-text;version=1.0.0;escaping=values",
    "text/html;escaping=dots,text/plain",
    "text/html;escaping=bogus,text/plain;escaping=",
    "TEXT/PLAIN",
    "Application/OpenMetrics-Text;version=1.0.0",
    "application/openmetrics-text;VERSION=1.0.0",
    "application/openmetrics-text;version=\"1.0.0\"",
    "application/openmetrics-text;version=1.0.0;version=0.0.1",
    "application/openmetrics-text ; version = 1.0.0",
    "application / openmetrics-text;version=1.0.0",
    ",,,text/plain",
    ";,text/plain;version=1.0.0",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,application/openmetrics-text;version=0.0.1;q=0.6,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3",
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "a/b;q=0.1,a/b;q=0.2,a/b;q=0.3,a/b;q=0.4,a/b;q=0.5,a/b;q=0.6,a/b;q=0.7,a/b;q=0.8,text/plain;q=0.5,application/openmetrics-text;q=0.5",
];

const ACCEPT_PIECES: &[&str] = &[
    "text/plain",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=0.0.1",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    "*/*",
    "text/*",
    "text/html",
    ",",
    ",",
    ",",
    ",",
    ";q=0.5",
    ";q=0.5",
    ";q=0.7",
    ";q=1",
    ";q=0",
    ";q=x",
    ";escaping=values",
    ";escaping=dots",
    ";escaping=allow-utf-8",
    ";escaping=underscores",
    ";escaping=x",
    ";charset=utf-8",
    ";version=1.0.0",
    " ",
    ";",
    "=",
    "/",
];

const NAMES: &[&str] = &[
    "",
    "a",
    "_",
    "__",
    "a_b",
    "a:b",
    ":a",
    "1a",
    "a1",
    "a.b",
    ".",
    "a..b",
    "a b",
    "a-b",
    "http.requests.total",
    "a_dot_b",
    "a__b",
    "U__a",
    "U__a_2e_b",
    "\u{fc}",
    "a\u{fc}b",
    "\u{4e16}\u{754c}",
    "\u{1f600}",
    "\u{10ffff}",
    "\u{ffff}x",
    "a\nb",
    "a\"b\\c",
    "1",
    "1.5",
    "__name__",
    "\0",
];

const NAME_PIECES: &[&str] = &[
    "a",
    "b1",
    "Z",
    "_",
    "__",
    ".",
    "..",
    ":",
    "-",
    " ",
    "1",
    "9",
    "_dot_",
    "U__",
    "_2e_",
    "\u{fc}",
    "\u{4e16}",
    "\u{1f600}",
    "\u{100000}",
    "\"",
    "\\",
    "\n",
    "{",
    "=",
    "/",
    "\u{7f}",
];

const ESCAPED_NAMES: &[&str] = &[
    "",
    "a",
    "U__",
    "U__a",
    "U_a",
    "u__a_2e_b",
    "U__a_2e_b",
    "U__a_2E_b",
    "U___2e_",
    "U__a__b",
    "U__a_b",
    "U__a_",
    "U__a_2e",
    "U__a_2g_b",
    "U__a__2e__b",
    "U__a_fc_",
    "U__a_4e16_",
    "U__a_1f600_",
    "U__a_01f600_",
    "U__a_001f600_",
    "U__a_10ffff_",
    "U__a_0fffff_",
    "U__a_100000_",
    "U__a_fffff_",
    "U__a_110000_",
    "U__a_d800_",
    "U__a_dfff_",
    "U__a_fffd_",
    "U__a_FFFD_",
    "U__a_0_",
    "U__a_00000_",
    "U__a_ _",
    "U__a_+1_",
    "U__\u{fc}",
    "U__a_\u{fc}_",
    "U__a.b",
    "a_dot_b",
    "a__dot__b",
    "a___b",
    "a____b",
    "_dot_",
    "__dot_",
    "_dot__dot_",
    "a__b_dot_c",
    "dot",
];

const ESCAPED_NAME_PIECES: &[&str] = &[
    "U__", "U__", "U__", "a", "b1", "_", "_", "__", "_dot_", "2e", "_2e_", "_20_", "_fc_", "_4e16_",
    "_1f600_", "_10ffff_", "_d800_", "_FFFD_", "_0_", "f", "g", "A", ".", ":", "\u{fc}", "_12345_",
    "_00041_", "_000041_",
];

const NUMBERS: &[&str] = &[
    "",
    "0",
    "-0",
    "+0",
    "1",
    "-1",
    "01",
    "1.",
    ".5",
    ".",
    "-.",
    "+",
    "-",
    "e",
    "1e",
    "1e+",
    "1e1",
    "1E1",
    "1e+1",
    "1e-1",
    "1e01",
    "1e400",
    "-1e400",
    "1e-400",
    "1e99999999999999999999",
    "1e-99999999999999999999",
    "0e99999999999",
    "NaN",
    "nan",
    "NAN",
    "+NaN",
    "-NaN",
    "NaN1",
    "Inf",
    "inf",
    "+Inf",
    "-Inf",
    "INF",
    "Infinity",
    "infinity",
    "-INFINITY",
    "infinit",
    "in",
    "infinityx",
    "0x",
    "0x1",
    "0x1p",
    "0x1p1",
    "0X1P1",
    "0x1p+1",
    "0x1p-1",
    "0x.8p1",
    "0x8.p1",
    "0x.p1",
    "0x1.8p3",
    "0x1p1024",
    "0x1p1023",
    "0x1p-1074",
    "0x1p-1075",
    "0x1.8p-1075",
    "0x1.fffffffffffff8p0",
    "0x1.fffffffffffff7p0",
    "0x1.fffffffffffffp1023",
    "0x1.fffffffffffff8p1023",
    "-0x1p1",
    "0x1p1.5",
    "0xgp1",
    "0x123456789abcdef0123456789p0",
    "0x0.00000000000000000000001p0",
    "0x1e5",
    "0b1",
    "0o7",
    "0b1p1",
    "1_0",
    "1__0",
    "_1",
    "1_",
    "1_.5",
    "1._5",
    "1_e1",
    "1e_1",
    "1e1_0",
    "0_1",
    "0x_1p1",
    "0x1_0p1",
    "0x1p1_0",
    "0x__1p1",
    "1_000_000.5",
    "1.7976931348623157e308",
    "1.7976931348623158e308",
    "1.7976931348623159e308",
    "2.2250738585072014e-308",
    "2.2250738585072011e-308",
    "4.9e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "9007199254740993",
    "9007199254740992.5",
    "18446744073709551616",
    "123456",
    "1234567",
    "999999",
    "1000000",
    "0.0001",
    "0.00001",
    "0.000123",
    "1e20",
    "1e21",
    "1e22",
    "1e23",
    "100000",
    "1e5",
    "1e6",
    "0.1",
    "0.2",
    "0.30000000000000004",
    "3.14159",
    "1.5e300",
    " 1",
    "1 ",
    "1,5",
    "1\0",
    "--1",
    "+-1",
    "1e--1",
    "\u{661}",
    "1f",
    "1d",
    "0x1P",
];

const NUMBER_PIECES: &[&str] = &[
    "0",
    "1",
    "9",
    "5",
    "123",
    "000",
    "999999999",
    "12345678901234567890",
    ".",
    ".",
    "e",
    "E",
    "e-",
    "e+",
    "-",
    "+",
    "_",
    "x",
    "0x",
    "p",
    "p-",
    "a",
    "f",
    "Inf",
    "NaN",
    "1e",
    "300",
];
