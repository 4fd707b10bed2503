//! What is asked besides pages: headers, names and numbers, by hand and put together at random.

use std::collections::HashMap;
use std::fs;

use promferry_exposition::{Format, ScrapeProtocol, format_for, go_float, negotiate};
use promferry_model::{EscapingScheme, Rng as _, SeededRng, escape_name, unescape_name};
use serde_json::{Value, json};

use crate::corpus::{data, seed_of};
use crate::golden::{ask, hexadecimal};
use crate::question_texts::{
    ACCEPT_PIECES, ACCEPTS, CONTENT_TYPE_PIECES, CONTENT_TYPES, ESCAPED_NAME_PIECES, ESCAPED_NAMES,
    NAME_PIECES, NAMES, NUMBER_PIECES, NUMBERS,
};

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
