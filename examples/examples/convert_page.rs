//! Reads an exposition page from standard input and writes it in another format to standard output:
//! `curl -s localhost:9100/metrics | cargo run -p promferry-examples --example convert_page -- text openmetrics`
//!
//! The formats are text, openmetrics and protobuf. Families of which the second has no room for all are named on
//! standard error; what it forbids is an error.

#![expect(clippy::print_stderr, reason = "it is what a command-line program does")]

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use promferry_exposition::{Format, ParseOptions, read_families, write_families};

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = arguments.as_slice() else { return Err("usage: convert_page FROM TO".into()) };
    let (from, to) = (format(from)?, format(to)?);
    let mut page = Vec::new();
    std::io::stdin().read_to_end(&mut page)?;

    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.always_classic_histograms = true;
    options.parse_start_timestamps = true;
    let families = read_families(from, &page, options)?;
    for family in &families {
        if family.as_kept_by(to).as_ref() != Some(family) {
            eprintln!("{}: there is no room for all that is said of it", family.name);
        }
    }
    std::io::stdout().write_all(&write_families(to, &families)?)?;
    Ok(())
}

fn format(name: &str) -> Result<Format, String> {
    match name {
        "text" => Ok(Format::Text),
        "openmetrics" => Ok(Format::OpenMetrics),
        "protobuf" => Ok(Format::Protobuf),
        other => Err(format!("{other:?} is none of text, openmetrics, protobuf")),
    }
}
