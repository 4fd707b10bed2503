//! Reads an exposition page from standard input and prints a table of its families:
//! `curl -s localhost:9100/metrics | cargo run -p promferry-examples --example families`
//!
//! With `openmetrics` or `protobuf` as the argument, the page is read as that.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is what a command-line program does")]

use std::error::Error;
use std::io::Read as _;
use std::process::ExitCode;

use promferry_exposition::{Format, MetricFamily, ParseOptions, read_families};

const NAME_CHARACTERS: usize = 80;
const HELP_CHARACTERS: usize = 60;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let format = match std::env::args().nth(1).as_deref() {
        None | Some("text") => Format::Text,
        Some("openmetrics") => Format::OpenMetrics,
        Some("protobuf") => Format::Protobuf,
        Some(other) => return Err(format!("{other:?} is none of text, openmetrics, protobuf").into()),
    };
    let mut page = Vec::new();
    std::io::stdin().read_to_end(&mut page)?;

    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.parse_start_timestamps = true;
    let families = read_families(format, &page, options)?;
    let names: Vec<_> = families.iter().map(|family| shortened(&family.name, NAME_CHARACTERS)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().max(6);
    println!("{:width$}  {:14}  {:>7}  {:>6}  help", "family", "type", "metrics", "points");
    for (family, name) in families.iter().zip(&names) {
        let MetricFamily { metric_type, metrics, .. } = family;
        let points: usize = metrics.iter().map(|metric| metric.points.len()).sum();
        let help = shortened(&family.help, HELP_CHARACTERS);
        let line =
            format!("{name:width$}  {:14}  {:>7}  {points:>6}  {help}", metric_type.as_str(), metrics.len());
        println!("{}", line.trim_end());
    }
    Ok(())
}

/// The first line of a text, as far as there is room for it.
fn shortened(text: &str, characters: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
