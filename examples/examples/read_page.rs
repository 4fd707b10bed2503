//! Reads an exposition page from standard input and prints its series, labels and values:
//! `curl -s localhost:9100/metrics | cargo run -p promferry-examples --example read_page`
//!
//! With `openmetrics` or `protobuf` as the argument, the page is read as that.

#![expect(clippy::print_stdout, reason = "it is what a command-line program does")]

use std::error::Error;
use std::io::Read as _;

use promferry_exposition::{Event, Format, LabelBuffer, ParseOptions, Parser};

fn main() -> Result<(), Box<dyn Error>> {
    let format = match std::env::args().nth(1).as_deref() {
        None | Some("text") => Format::Text,
        Some("openmetrics") => Format::OpenMetrics,
        Some("protobuf") => Format::Protobuf,
        Some(other) => return Err(format!("{other:?} is none of text, openmetrics, protobuf").into()),
    };
    let mut page = Vec::new();
    std::io::stdin().read_to_end(&mut page)?;

    let mut parser = Parser::new(format, &page, ParseOptions::default());
    let mut labels = LabelBuffer::new();
    let mut series_count = 0;
    while let Some(event) = parser.next()? {
        match event {
            Event::Type { family, metric_type } => println!("{family} is a {}", metric_type.as_str()),
            Event::Help { family, help } => println!("{family}: {}", help.unescape()),
            Event::Series(series) => {
                series.labels(&mut labels)?;
                println!("{labels:?} = {}", series.value());
                series_count += 1;
            }
            _ => {}
        }
    }
    println!("{series_count} series in {} bytes", page.len());
    Ok(())
}
