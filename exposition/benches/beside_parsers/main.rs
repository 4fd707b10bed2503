//! What reading a page costs here, in Prometheus' textparse, in VictoriaMetrics' parser and in prometheus-parse, over the
//! same pages in turn: `scripts/parse-cost` builds the rivals' half and runs this.
//!
//! Rounds of each take turns, so that what else the machine does meets all of them; of each the round that took the
//! least CPU time is compared, and the median is given too. Each does what its scraper does:
//!
//! - *known*: which series (its bytes, in protobuf its key) and which value, of every sample;
//! - *labels*: that, and every series split into labels. Ours judges each byte of them as Prometheus does;
//!   VictoriaMetrics passes over what is not UTF-8, over names that are none, and over metadata, which it reads in its
//!   row *with metadata*;
//! - *labels touched*: that, and each label looked at by who asked for them.
#![allow(clippy::print_stdout, reason = "a program that prints its findings")]
#![allow(clippy::unwrap_used, reason = "a bench that can't go on is no bench")]

mod pages;
mod rivals;

use std::{hint::black_box, process::ExitCode, time::Duration};

use pages::{Page, pages};
use promferry_exposition::{Event, HistogramEvent, LabelSpans, SeriesEvent, SplitLabels};
use promferry_model::Histogram;
use rivals::Rivals;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

#[path = "../../tests/support/realistic.rs"]
mod realistic;

/// CPU time of one round of one contender, at least.
const ROUND: Duration = Duration::from_millis(4);

/// By page, what is read and whose: how many times faster ours must be. Nine tenths of what was measured last
/// (BENCHMARKS.md); what noise is left between runs takes no more.
const FLOORS: [(&str, &str, &str, f64); 6] = [
    ("1,000 series, text", "known", TEXTPARSE, 13.0),
    ("1,000 series, text", "known", VICTORIA, 4.1),
    ("1,000 series, text", "labels", TEXTPARSE, 11.8),
    ("1,000 series, text", "labels", VICTORIA, 1.8),
    ("1,000 series, text", "labels", PROMETHEUS_PARSE, 39.0),
    ("1,000 native histograms, protobuf", "labels", TEXTPARSE, 6.3),
];

/// One who reads a page, and how.
struct Contender {
    work: &'static str,
    who: &'static str,
    reader: Reader,
}

#[derive(Clone, Copy)]
enum Reader {
    Here(fn(&Page, &mut Buffers) -> Walk),
    /// By the name that the rivals' program has for it.
    There(&'static str),
}

/// What one walk over a page saw.
#[derive(Clone, Copy)]
struct Walk {
    samples: u64,
    /// Keeps the optimiser from leaving out what nobody looks at.
    sum: u64,
}

/// What a scraper keeps from page to page.
#[derive(Default)]
struct Buffers {
    spans: LabelSpans,
    histogram: Option<Histogram>,
}

/// Of keys; any will do.
const SEED: u64 = 7;

const OURS: &str = "promferry";
const TEXTPARSE: &str = "textparse";
const VICTORIA: &str = "VictoriaMetrics";
const VICTORIA_METADATA: &str = "VictoriaMetrics, with metadata";
const PROMETHEUS_PARSE: &str = "prometheus-parse";
const COLUMNS: [&str; 5] = [OURS, TEXTPARSE, VICTORIA, VICTORIA_METADATA, PROMETHEUS_PARSE];
const WORKS: [&str; 3] = ["known", "labels", "labels touched"];

fn contenders(page: &Page) -> Vec<Contender> {
    let of = |work, who, reader| Contender { work, who, reader };
    let mut all = vec![
        of("known", OURS, Reader::Here(known)),
        of("known", TEXTPARSE, Reader::There("textparse")),
        of("labels", OURS, Reader::Here(labels)),
        of("labels", TEXTPARSE, Reader::There("textparse+labels")),
        of("labels touched", OURS, Reader::Here(labels_touched)),
        of("labels touched", TEXTPARSE, Reader::There("textparse+labels+touched")),
    ];
    if page.is_text() {
        all.extend([
            of("known", VICTORIA, Reader::There("victoriametrics")),
            of("labels", VICTORIA, Reader::There("victoriametrics")),
            of("labels", VICTORIA_METADATA, Reader::There("victoriametrics+metadata")),
            of("labels touched", VICTORIA, Reader::There("victoriametrics+touched")),
            of("labels", PROMETHEUS_PARSE, Reader::Here(prometheus_parse)),
        ]);
    }
    all
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(40);
    let after = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let mut pages = pages();
    if let Some(wanted) = after("--page") {
        pages.retain(|page| page.name.contains(wanted));
    }
    let mut rivals = Rivals::start(&pages);
    println!(
        "Each cell: MB/s of page, CPU ns a sample (of the median round), and by how much ours is faster.\n\n\
         | page | read | {} |\n|---|---|{}",
        COLUMNS.join(" | "),
        "---:|".repeat(COLUMNS.len())
    );
    let mut results = Vec::new();
    for (at, page) in pages.iter().enumerate() {
        results.extend(measure(page, at, rounds, rivals.as_mut()));
    }
    if let Some(path) = after("--json") {
        std::fs::write(path, serde_json::to_string_pretty(&results).unwrap() + "\n").unwrap();
    }
    if arguments.iter().any(|argument| argument == "--check") { check(&results) } else { ExitCode::SUCCESS }
}

/// Lets all have their rounds over a page, and prints a line for each.
fn measure(page: &Page, at: usize, rounds: usize, mut rivals: Option<&mut Rivals>) -> Vec<Value> {
    let contenders = contenders(page);
    let mut buffers = Buffers::default();
    let mut turn = |reader: Reader, count: usize| match reader {
        Reader::Here(read) => {
            let start = cpu_ns();
            let mut walk = Walk { samples: 0, sum: 0 };
            for _ in 0..count {
                walk = black_box(read(black_box(page), &mut buffers));
            }
            Some((cpu_ns() - start, walk.samples))
        }
        Reader::There(name) => rivals.as_mut().map(|rivals| rivals.round(name, at, count)),
    };
    let mut counts = Vec::new();
    for contender in &contenders {
        // Twice, as the first one only warms up.
        let once = turn(contender.reader, 1).and_then(|_| turn(contender.reader, 1));
        counts.push(once.map(|(ns, _)| (ROUND.as_nanos() as u64 / ns.max(1) + 1) as usize));
    }
    let mut times: Vec<Vec<f64>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut samples = 0;
    for _ in 0..rounds {
        for ((contender, count), times) in contenders.iter().zip(&counts).zip(&mut times) {
            let Some(count) = *count else { continue };
            let Some((ns, seen)) = turn(contender.reader, count) else { continue };
            // prometheus-parse makes one sample of a histogram.
            if contender.who == OURS {
                samples = seen;
            }
            times.push(ns as f64 / count as f64);
        }
    }
    let mut results: Vec<Value> = Vec::new();
    for (contender, mut times) in contenders.iter().zip(times) {
        if times.is_empty() {
            continue;
        }
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[times.len() / 2]);
        results.push(json!({
            "page": page.name, "bytes": page.bytes.len(), "samples": samples, "read": contender.work,
            "by": contender.who, "megabytes_per_second": page.bytes.len() as f64 * 1e3 / least,
            "least_ns_per_sample": least / samples as f64, "median_ns_per_sample": median / samples as f64,
        }));
    }
    for work in WORKS {
        print(page, work, &mut results);
    }
    results
}

/// Prints a row, and says in the results by how much ours is faster.
fn print(page: &Page, work: &str, results: &mut [Value]) {
    let least = |row: &Value| row["least_ns_per_sample"].as_f64().unwrap();
    let ours = results.iter().find(|row| row["read"] == work && row["by"] == OURS).map(least).unwrap();
    let cells = COLUMNS.map(|who| {
        let Some(row) = results.iter_mut().find(|row| row["read"] == work && row["by"] == who) else {
            return String::new();
        };
        let ratio = least(row) / ours;
        row["ratio_to_ours"] = json!(ratio);
        let faster = if who == OURS { String::new() } else { format!(": **{ratio:.1}×**") };
        format!(
            "{:.0}, {:.1} ({:.1}){faster}",
            row["megabytes_per_second"].as_f64().unwrap(),
            least(row),
            row["median_ns_per_sample"].as_f64().unwrap(),
        )
    });
    println!("| {} | {work} | {} |", page.name, cells.join(" | "));
}

/// Whether ours is still as many times faster as it was.
fn check(results: &[Value]) -> ExitCode {
    let mut verdict = ExitCode::SUCCESS;
    for (page, work, who, floor) in FLOORS {
        let row = results.iter().find(|row| row["page"] == page && row["read"] == work && row["by"] == who);
        match row.and_then(|row| row["ratio_to_ours"].as_f64()) {
            Some(ratio) if ratio >= floor => {}
            Some(ratio) => {
                println!(
                    "BROKEN: {page}, {work}: {ratio:.1} times as fast as {who}, it was more than {floor:.1}"
                );
                verdict = ExitCode::FAILURE;
            }
            None => println!("SKIPPED {page}, {work}: not measured beside {who}"),
        }
    }
    verdict
}

// The three are written out, as a scraper has its loop.

/// What a scraper does with series that it knows.
fn known(page: &Page, buffers: &mut Buffers) -> Walk {
    let mut walk = Walk { samples: 0, sum: 0 };
    let mut parser = page.parser();
    while let Some(event) = parser.next().unwrap() {
        match event {
            Event::Series(series) => {
                walk.samples += 1;
                walk.sum ^= series.value().to_bits()
                    ^ series.series_bytes().map_or_else(|| key(&series), |bytes| bytes.len() as u64);
            }
            Event::Histogram(histogram) => {
                walk.samples += 1;
                walk.sum ^= histogram.key(SEED).0[0] ^ read(&histogram, buffers);
            }
            _ => {}
        }
    }
    walk
}

/// What it does with series that it meets for the first time.
fn labels(page: &Page, buffers: &mut Buffers) -> Walk {
    let mut walk = Walk { samples: 0, sum: 0 };
    let mut parser = page.parser();
    while let Some(event) = parser.next().unwrap() {
        match event {
            Event::Series(series) => {
                walk.samples += 1;
                walk.sum ^= series.value().to_bits() ^ series.split(&mut buffers.spans).unwrap().len() as u64;
            }
            Event::Histogram(histogram) => {
                walk.samples += 1;
                walk.sum ^= histogram.split(&mut buffers.spans).unwrap().len() as u64;
                walk.sum ^= read(&histogram, buffers);
            }
            _ => {}
        }
    }
    walk
}

fn labels_touched(page: &Page, buffers: &mut Buffers) -> Walk {
    let mut walk = Walk { samples: 0, sum: 0 };
    let mut parser = page.parser();
    while let Some(event) = parser.next().unwrap() {
        match event {
            Event::Series(series) => {
                walk.samples += 1;
                walk.sum ^= series.value().to_bits() ^ touch(series.split(&mut buffers.spans).unwrap());
            }
            Event::Histogram(histogram) => {
                walk.samples += 1;
                walk.sum ^= touch(histogram.split(&mut buffers.spans).unwrap());
                walk.sum ^= read(&histogram, buffers);
            }
            _ => {}
        }
    }
    walk
}

#[inline(never)]
fn key(series: &SeriesEvent<'_>) -> u64 {
    series.key(SEED).0[0]
}

#[inline(never)]
fn read(event: &HistogramEvent<'_>, buffers: &mut Buffers) -> u64 {
    let histogram = buffers.histogram.get_or_insert_with(|| event.histogram());
    event.read_into(histogram);
    histogram.sum.to_bits()
}

#[inline]
fn touch(labels: SplitLabels<'_>) -> u64 {
    let last = |text: &str| u64::from(text.as_bytes().last().copied().unwrap_or(0));
    labels.iter().map(|(name, value)| name.len() as u64 + last(value)).sum()
}

fn prometheus_parse(page: &Page, _: &mut Buffers) -> Walk {
    let lines = std::str::from_utf8(&page.bytes).unwrap().lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
    Walk { samples: scrape.samples.len() as u64, sum: 0 }
}

/// Time on a processor, which this program's only thread has had.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
