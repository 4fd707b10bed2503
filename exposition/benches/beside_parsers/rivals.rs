//! The rivals' half: a process that waits for commands.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::pages::Page;

pub(crate) struct Rivals {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _pages: tempfile::TempDir,
}

impl Rivals {
    /// `None`, and a line that says so, where it was not built.
    pub(crate) fn start(pages: &[Page]) -> Option<Self> {
        let Some(program) = std::env::var_os("PROMFERRY_PARSERS").filter(|path| !path.is_empty()) else {
            println!("SKIPPED textparse and VictoriaMetrics: scripts/parse-cost builds their half");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let arguments = pages.iter().enumerate().map(|(at, page)| {
            let path = folder.path().join(at.to_string());
            std::fs::write(&path, &page.bytes).unwrap();
            format!("{}:{}", page.format_name(), path.display())
        });
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Some(Self { process, commands, answers, _pages: folder })
    }

    /// CPU nanoseconds of `count` walks over a page, and the samples of one.
    pub(crate) fn round(&mut self, parser: &str, page: usize, count: usize) -> (u64, u64) {
        writeln!(self.commands, "{parser} {page} {count}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let mut numbers = answer.split_whitespace().map(|number| number.parse::<u64>().unwrap());
        let mut next = || numbers.next().expect("the rivals' program has said why it ended");
        (next(), next())
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
