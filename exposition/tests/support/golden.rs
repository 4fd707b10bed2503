//! Prometheus' verdicts in `golden/`, and how its own code is asked for them.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::corpus::{Area, Case, Mutations, data, tag};
use crate::differences::differences;
use crate::verdict::judge;

/// Where Prometheus comes to no judgement, coming to an end is all that is wanted.
const UNJUDGED_HANGS: &str = "hangs";
const UNJUDGED_PANICS: &str = "panics";

/// Mutations that are read otherwise on purpose: instances of what `tests/differences.rs` lists.
const INTENDED: &[&str] = &[
    "custom_buckets/protobuf/jvm/366",
    "custom_buckets/protobuf/node_exporter/165",
    "custom_buckets/protobuf/node_exporter/182",
    "formats/protobuf/jvm/22",
    "formats/protobuf/jvm/32",
    "formats/protobuf/jvm/76",
    "formats/protobuf/jvm/297",
    "formats/protobuf/jvm/314",
    "formats/protobuf/jvm/763",
    "formats/protobuf/jvm/773",
    "formats/protobuf/jvm/871",
    "formats/protobuf/jvm/874",
    "formats/protobuf/jvm/946",
    "formats/protobuf/jvm/1089",
    "formats/protobuf/jvm/1149",
    "formats/protobuf/node_exporter/352",
    "formats/protobuf/node_exporter/498",
];

/// How many are shown.
const SHOWN: usize = 8;

/// Says where what is read here is not what Prometheus reads.
pub(crate) fn compare(area: Area) {
    let cases = area.cases();
    let mut expected: HashMap<String, Value> = HashMap::new();
    for line in read(area, "jsonl").split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let verdict: Value = serde_json::from_slice(line).unwrap();
        expected.insert(verdict["name"].as_str().unwrap().to_owned(), verdict);
    }
    assert_eq!(expected.len(), cases.len(), "the corpus has changed: run scripts/expositions judge");
    let mut differences = Vec::new();
    let mut judged = cases.len();
    let mut stale = Vec::new();
    for case in cases {
        let verdict = expected.get(&full_name(&case));
        let verdict = verdict.expect("the corpus has changed: run scripts/expositions judge");
        let lines = judge(&case);
        let agrees = match verdict["digest"].as_str().or_else(|| verdict["lines"][0].as_str()) {
            Some(UNJUDGED_HANGS | UNJUDGED_PANICS) => true,
            _ => match verdict["digest"].as_str() {
                Some(hash) => digest(&lines) == hash,
                None => json!(lines) == verdict["lines"],
            },
        };
        if !agrees {
            differences.push((case, lines));
        }
    }
    let groups = area.mutations();
    let golden = read(area, "bin");
    let (corpus, mut verdicts) = golden.split_first_chunk::<8>().unwrap();
    assert_eq!(
        u64::from_le_bytes(*corpus),
        corpus_hash(&groups),
        "the corpus has changed: run scripts/expositions judge"
    );
    for group in &groups {
        let of_group = verdicts.split_off(..group.number * 4).unwrap();
        for number in 0..group.number {
            let verdict = u32::from_le_bytes(of_group[number * 4..][..4].try_into().unwrap());
            let case = group.case(number);
            let lines = judge(&case);
            judged += 1;
            let agrees = matches!(verdict, HANGS | PANICS) || verdict == short(&digest(&lines));
            let intended = INTENDED.contains(&case.name.as_str());
            match (agrees, intended) {
                (false, false) => differences.push((case, lines)),
                (true, true) => stale.push(case.name),
                _ => {}
            }
        }
    }
    assert!(verdicts.is_empty(), "verdicts on nothing");
    assert!(stale.is_empty(), "read as Prometheus reads them, and yet listed: {stale:#?}");
    if !differences.is_empty() {
        let asked = std::env::var_os("PROMFERRY_ASK_PROMETHEUS").is_some();
        panic!(
            "{} of {judged} pages are judged otherwise than by Prometheus:\n{}",
            differences.len(),
            report(differences, asked)
        );
    }
}

/// Shows some of each kind of page. Prometheus' lines are shown where it is asked for them.
fn report(differences: Vec<(Case, Vec<String>)>, asked: bool) -> String {
    let names: Vec<&str> = differences.iter().take(60).map(|(case, _)| case.name.as_str()).collect();
    let mut text = names.join("\n");
    let mut shown: Vec<(Case, Vec<String>)> = Vec::new();
    let kind = |case: &Case| case.name.rsplit_once('/').map_or(String::new(), |(kind, _)| kind.to_owned());
    for (mut case, lines) in differences {
        let of_kind = shown.iter().filter(|(other, _)| kind(other) == kind(&case)).count();
        if of_kind < 2 && shown.len() < SHOWN {
            case.digest = false;
            shown.push((case, lines));
        }
    }
    let verdicts =
        if asked { ask(shown.iter().map(|(case, _)| question(case)).collect()) } else { Vec::new() };
    for (at, (case, lines)) in shown.iter().enumerate() {
        let page = case.page[..case.page.len().min(4000)].escape_ascii().to_string();
        text += &format!("\n{} {:?}\n  page b\"{page}\"\n", case.name, case.options);
        match verdicts.get(at) {
            Some(verdict) => {
                let theirs: Vec<String> = serde_json::from_value(verdict["lines"].clone()).unwrap();
                let same = theirs.iter().zip(lines).take_while(|(one, other)| one == other).count();
                text += &format!(
                    "  after {same} lines that are the same\n  Prometheus {:#?} {}\n  here {:#?}\n",
                    &theirs[same..theirs.len().min(same + 6)],
                    verdict["why"],
                    &lines[same..lines.len().min(same + 6)]
                );
            }
            None => text += &format!("  here {lines:#?}\n"),
        }
    }
    if !asked {
        text += "\nPROMFERRY_ASK_PROMETHEUS=1 shows what Prometheus says of them (needs Go 1.26)";
    }
    text
}

/// Has Prometheus judge everything and writes its verdicts, unless there are more pages than usual.
pub(crate) fn judge_anew(area: Area) {
    let cases = area.cases();
    let written = std::env::var_os("PROMFERRY_RANDOM_PAGES").is_none();
    if !written {
        return compare_now(cases);
    }
    let verdicts = ask(cases.iter().map(question).collect());
    let lines: Vec<String> = verdicts.iter().map(|verdict| format!("{verdict}\n")).collect();
    fs::write(path(area, "jsonl"), lines.concat()).unwrap();
    let groups = area.mutations();
    let mut golden = corpus_hash(&groups).to_le_bytes().to_vec();
    for group in &groups {
        let questions = (0..group.number).map(|number| question(&group.case(number))).collect();
        for verdict in ask(questions) {
            golden.extend_from_slice(&short(verdict["digest"].as_str().unwrap()).to_le_bytes());
        }
    }
    fs::write(path(area, "bin"), golden).unwrap();
}

/// Asks Prometheus about pages of which nothing is kept.
pub(crate) fn compare_now(cases: Vec<Case>) {
    let verdicts = ask(cases.iter().map(question).collect());
    let mut differences = Vec::new();
    for (case, verdict) in cases.into_iter().zip(&verdicts) {
        let lines = judge(&case);
        let theirs = match verdict["digest"].as_str() {
            Some(hash) => hash.to_owned(),
            None => digest(&serde_json::from_value::<Vec<String>>(verdict["lines"].clone()).unwrap()),
        };
        if ![UNJUDGED_HANGS, UNJUDGED_PANICS].contains(&theirs.as_str()) && theirs != digest(&lines) {
            differences.push((case, lines));
        }
    }
    let number = differences.len();
    assert!(number == 0, "{number} of {} pages differ:\n{}", verdicts.len(), report(differences, true));
}

/// Has Prometheus judge what is read otherwise on purpose.
pub(crate) fn judge_differences() {
    let questions = differences().iter().map(|difference| question(&difference.case)).collect();
    let lines: Vec<String> = ask(questions).iter().map(|verdict| format!("{verdict}\n")).collect();
    fs::write(data("golden/differences.jsonl"), lines.concat()).unwrap();
}

/// The verdicts of `tests/oracle`, one for each question.
pub(crate) fn ask(questions: Vec<Value>) -> Vec<Value> {
    let mut go = Command::new("go")
        .args(["run", "."])
        .env("GOFLAGS", "-p=1")
        .current_dir(data("oracle"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("go runs");
    let number = questions.len();
    let mut stdin = go.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let lines: Vec<String> = questions.into_iter().map(|question| format!("{question}\n")).collect();
        stdin.write_all(lines.concat().as_bytes())
    });
    let output = go.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let lines = output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let verdicts: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(verdicts.len(), number);
    verdicts
}

fn question(case: &Case) -> Value {
    let format = tag(case.format);
    json!({
        "name": full_name(case),
        "kind": "page",
        "format": format,
        "options": {
            "native": case.options.native_histograms,
            "classic": case.options.always_classic_histograms,
            "start": case.options.parse_start_timestamps,
            "nhcb": case.options.convert_classic_to_custom_buckets,
            "typeunit": case.options.type_and_unit_labels,
            "om2": format == "openmetrics2",
        },
        "digest": case.digest,
        "input": hexadecimal(&case.page),
    })
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for &byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn path(area: Area, extension: &str) -> std::path::PathBuf {
    data(&format!("golden/{}.{extension}", area.name()))
}

fn read(area: Area, extension: &str) -> Vec<u8> {
    fs::read(path(area, extension)).unwrap_or_else(|error| panic!("{area:?}.{extension}: {error}"))
}

/// A case's name, with a hash of its page so that a verdict on another page is noticed.
fn full_name(case: &Case) -> String {
    let mut hash = Fnv::default();
    hash.write(&case.page);
    format!("{}#{}", case.name, &hash.hex()[8..])
}

/// So that verdicts on other mutations are noticed.
fn corpus_hash(groups: &[Mutations]) -> u64 {
    let mut hash = Fnv::default();
    for group in groups {
        hash.write(group.name.as_bytes());
        hash.write(&group.number.to_le_bytes());
        for number in 0..12 {
            let case = group.case(number);
            hash.write(&case.page);
            hash.write(format!("{:?}", question(&case)["options"]).as_bytes());
        }
    }
    hash.0
}

fn digest(lines: &[String]) -> String {
    if let [verdict] = lines
        && ["refused", UNJUDGED_HANGS, UNJUDGED_PANICS].contains(&verdict.as_str())
    {
        return verdict.clone();
    }
    let mut hash = Fnv::default();
    for line in lines {
        hash.write(line.as_bytes());
        hash.write(b"\n");
    }
    hash.hex()
}

const REFUSED: u32 = 0;
const HANGS: u32 = 1;
const PANICS: u32 = 2;

/// What is kept of a digest.
fn short(digest: &str) -> u32 {
    match digest {
        "refused" => REFUSED,
        UNJUDGED_HANGS => HANGS,
        UNJUDGED_PANICS => PANICS,
        digest => u32::from_str_radix(&digest[8..], 16).unwrap(),
    }
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
