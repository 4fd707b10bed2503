//! What encoding and compressing costs here and in Prometheus, over the same samples in turn: `scripts/encode-cost`
//! builds Prometheus' half and runs this. Ours is everything between a scrape's values and a request's body: fragments
//! as they are stored, and their joining.
//!
//! Rounds of each take turns, so that what else the machine does meets all of them; the ratio is given of the least and
//! of the median. In 2.0 Prometheus is measured twice: as it is by default, without metadata, and with the metadata
//! that ours has on every series (its feature `metadata-wal-records`).
#![allow(clippy::print_stdout, reason = "a program that prints its findings")]
#![allow(clippy::unwrap_used, reason = "a bench that can't go on is no bench")]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use page::{AT, EXTERNAL_LABEL, METADATA, Page, SERIES, page};
use promferry_model::Labels;
use promferry_remote_write::Protocol;
use promferry_remote_write::encode::{RequestBuilder, RequestLimits};

mod page;

/// A request is a scrape of each.
const TARGETS: [u8; 2] = [34, 35];
const SAMPLES: usize = TARGETS.len() * SERIES;
/// Requests in a row before the other side has its turn.
const IN_A_ROW: usize = 200;

/// CPU nanoseconds for [`IN_A_ROW`] requests, and the bytes of one before and after compression.
struct Round {
    cpu_ns: u64,
    raw_bytes: usize,
    bytes: usize,
}

fn main() {
    let arguments = || std::env::args().skip(1);
    let rounds = arguments().find_map(|argument| argument.parse().ok()).unwrap_or(15);
    let only = arguments().find(|argument| argument.contains('.'));
    let labels: Vec<_> = TARGETS.into_iter().flat_map(|target| page(Protocol::V1, target).labels).collect();
    let mut prometheus = Prometheus::start(&labels);
    println!(
        "encode + compress, a request of {SAMPLES} samples with 12 labels each; {rounds} rounds in turn"
    );
    println!(
        "protocol  who                    CPU ns/sample: least  median   raw bytes/sample  bytes/sample"
    );
    for (protocol, name, theirs) in [
        (Protocol::V1, "1.0", &[("v1", "Prometheus")][..]),
        (Protocol::V2, "2.0", &[("v2+metadata", "Prometheus, metadata"), ("v2", "Prometheus")][..]),
    ] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let mut ours = Ours::new(protocol);
        let mut our_rounds = Vec::new();
        let mut their_rounds: Vec<Vec<Round>> = theirs.iter().map(|_| Vec::new()).collect();
        // The first of each only warms up.
        for round in 0..=rounds {
            let our_round = ours.round();
            let answers = theirs.iter().map(|(command, _)| prometheus.as_mut().map(|p| p.round(command)));
            let answers: Vec<_> = answers.collect();
            if round > 0 {
                our_rounds.push(our_round);
                their_rounds.iter_mut().zip(answers).for_each(|(rounds, answer)| rounds.extend(answer));
            }
        }
        let our_cpu = print(name, "promferry", &our_rounds);
        for ((_, who), rounds) in theirs.iter().zip(&their_rounds).filter(|(_, rounds)| !rounds.is_empty()) {
            let their_cpu = print(name, who, rounds);
            println!(
                "{name:<9} ratio {:38.3} {:7.3}   (goal: at most 0.25)",
                our_cpu.0 / their_cpu.0,
                our_cpu.1 / their_cpu.1
            );
        }
    }
}

/// Prints a line; returns the least and the median CPU time a sample.
fn print(protocol: &str, who: &str, rounds: &[Round]) -> (f64, f64) {
    let mut cpu: Vec<_> =
        rounds.iter().map(|round| round.cpu_ns as f64 / (IN_A_ROW * SAMPLES) as f64).collect();
    cpu.sort_by(f64::total_cmp);
    let (least, median) = (cpu[0], cpu[cpu.len() / 2]);
    let [raw_bytes, bytes] =
        [rounds[0].raw_bytes, rounds[0].bytes].map(|bytes| bytes as f64 / SAMPLES as f64);
    println!("{protocol:<9} {who:<22} {least:20.1} {median:7.1} {raw_bytes:18.1} {bytes:13.2}");
    (least, median)
}

struct Ours {
    pages: Vec<Page>,
    builder: RequestBuilder,
}

impl Ours {
    fn new(protocol: Protocol) -> Self {
        let pages = TARGETS.map(|target| page(protocol, target)).into();
        Self { pages, builder: RequestBuilder::new(protocol, RequestLimits::NONE) }
    }

    fn round(&mut self) -> Round {
        let start = cpu_ns();
        let (mut raw_bytes, mut bytes) = (0, 0);
        for _ in 0..IN_A_ROW {
            for page in &mut self.pages {
                for fragment in page.encode() {
                    let _ = self.builder.push(&fragment).unwrap();
                }
            }
            let request = self.builder.finish().unwrap();
            (raw_bytes, bytes) = (request.raw_len, request.body.len());
        }
        Round { cpu_ns: cpu_ns() - start, raw_bytes, bytes }
    }
}

/// Time on a processor, which this program's only thread has had.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Prometheus' half, a process that waits for commands.
struct Prometheus {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _samples: tempfile::NamedTempFile,
}

impl Prometheus {
    /// `None`, and a line that says so, where it was not built.
    fn start(labels: &[Labels]) -> Option<Self> {
        let Some(program) = std::env::var_os("PROMFERRY_ENCODE_ORACLE").filter(|path| !path.is_empty())
        else {
            println!("SKIPPED Prometheus: scripts/encode-cost builds its half");
            return None;
        };
        let mut text = String::new();
        for (n, labels) in labels.iter().enumerate() {
            // Prometheus adds external labels once a series, too, before its queue.
            write!(text, "{}={}\t", EXTERNAL_LABEL.0, EXTERNAL_LABEL.1).unwrap();
            for label in labels.iter() {
                write!(text, "{}={}\t", label.name, label.value).unwrap();
            }
            writeln!(text, "histogram\t{}\t{}\t{}", METADATA.unit, METADATA.help, n % SERIES).unwrap();
        }
        let mut samples = tempfile::NamedTempFile::new().unwrap();
        samples.write_all(text.as_bytes()).unwrap();
        let mut process = Command::new(program)
            .arg(samples.path())
            .arg(AT.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, commands, answers, _samples: samples })
    }

    fn round(&mut self, command: &str) -> Round {
        writeln!(self.commands, "{command} {IN_A_ROW}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut numbers = answer.split_whitespace().map(|number| number.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        Round { cpu_ns: next(), raw_bytes: next() as usize, bytes: next() as usize }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
