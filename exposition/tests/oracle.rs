//! Every page of the corpus means what Prometheus 3.16's own parsers say it means, or is refused as they
//! refuse it. Their verdicts lie in `golden/verdicts.jsonl`; where Go is at hand,
//! `cargo test -p promferry-exposition --test oracle -- --ignored` has them judged anew.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/verdict.rs"]
mod verdict;

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use corpus::{Case, cases, data};
use promferry_exposition::Format;
use verdict::judge;

const GOLDEN: &str = "golden/verdicts.jsonl";

#[test]
fn agrees_with_prometheus() {
    let golden = fs::read_to_string(data(GOLDEN)).unwrap();
    compare(&cases(), &golden);
}

#[test]
#[ignore = "needs Go; writes the verdicts"]
fn judge_anew() {
    let cases = cases();
    let golden = ask_oracle(&cases);
    if std::env::var_os("PROMFERRY_RANDOM_PAGES").is_none() {
        fs::write(data(GOLDEN), &golden).unwrap();
    }
    compare(&cases, &golden);
}

fn compare(cases: &[Case], golden: &str) {
    let mut expected: HashMap<String, serde_json::Value> = HashMap::new();
    for line in golden.lines() {
        let verdict: serde_json::Value = serde_json::from_str(line).unwrap();
        expected.insert(verdict["name"].as_str().unwrap().to_owned(), verdict);
    }
    assert_eq!(expected.len(), cases.len(), "the corpus has changed: have it judged anew");
    let mut differences = Vec::new();
    for case in cases {
        let verdict = &expected.get(&full_name(case)).expect("the corpus has changed: have it judged anew");
        let lines = judge(case);
        let agrees = match verdict["digest"].as_str().or_else(|| verdict["lines"][0].as_str()) {
            // Coming to an end is all that is wanted here.
            Some("hangs") => true,
            _ => match verdict["digest"].as_str() {
                Some(hash) => digest(&lines) == hash,
                None => serde_json::json!(lines) == verdict["lines"],
            },
        };
        if !agrees {
            differences.push(format!(
                "{}\n  page {:?}\n  Prometheus {verdict}\n  here {lines:#?}",
                case.name,
                String::from_utf8_lossy(&case.page[..case.page.len().min(2000)]),
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} pages are judged otherwise than by Prometheus:\n{}",
        differences.len(),
        cases.len(),
        differences[..differences.len().min(12)].join("\n")
    );
}

/// A case's name, with a hash of its page so that a verdict on another page is noticed.
fn full_name(case: &Case) -> String {
    let mut hash = Fnv::default();
    hash.write(&case.page);
    format!("{}#{}", case.name, &hash.hex()[8..])
}

fn ask_oracle(cases: &[Case]) -> String {
    let mut go = Command::new("go")
        .args(["run", "."])
        .env("GOFLAGS", "-p=1")
        .current_dir(data("oracle"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("go runs");
    let mut questions = Vec::new();
    for case in cases {
        let input: String = case.page.iter().map(|byte| format!("{byte:02x}")).collect();
        let format = match case.format {
            Format::Text => "text",
            Format::OpenMetrics => "openmetrics",
            Format::Protobuf => "protobuf",
            other => panic!("no name for {other:?}"),
        };
        let question = serde_json::json!({
            "name": full_name(case),
            "kind": "page",
            "format": format,
            "options": {
                "native": case.options.native_histograms,
                "classic": case.options.always_classic_histograms,
                "start": case.options.parse_start_timestamps,
                "nhcb": false,
                "typeunit": false,
                "om2": false,
            },
            "digest": case.digest,
            "input": input,
        });
        writeln!(questions, "{question}").unwrap();
    }
    let mut stdin = go.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&questions));
    let output = go.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn digest(lines: &[String]) -> String {
    if lines == ["refused"] {
        return "refused".to_owned();
    }
    let mut hash = Fnv::default();
    for line in lines {
        hash.write(line.as_bytes());
        hash.write(b"\n");
    }
    hash.hex()
}

/// FNV-1a of 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}
