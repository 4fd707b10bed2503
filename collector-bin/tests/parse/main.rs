//! `promferry parse` as its users run it: the program, a page, what it prints and its exit status.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod command_lines;
mod openmetrics_test_data;
mod over_http;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What a run of the program came to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: i32,
    stdout: String,
    stderr: String,
}

/// Starts `promferry parse` with these words.
fn start(words: &[&str]) -> Child {
    let program = std::env::var_os("PROMFERRY_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_promferry")), PathBuf::from);
    Command::new(program)
        .arg("parse")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs `promferry parse` with these words and this page on standard input.
fn parse(words: &[&str], page: &[u8]) -> Run {
    let mut child = start(words);
    // A program that does not want the page closes its end first.
    let _ = child.stdin.take().unwrap().write_all(page);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
