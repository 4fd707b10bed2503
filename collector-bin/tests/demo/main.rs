//! The demo as a newcomer runs it: what it tells is what happened, and the account at its end is true.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod picture;
mod terminal;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use regex::Regex;

use crate::collector::program;

/// `promferry` as it is typed, outside of Kubernetes wherever this test runs.
fn promferry(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_remove("KUBERNETES_SERVICE_HOST").stdin(Stdio::null());
    command
}

/// A demo that is under way; it is ended when this is dropped.
struct Demo {
    process: Child,
    lines: BufReader<ChildStdout>,
    /// What it printed so far.
    told: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let mut process = promferry(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines, told: String::new() }
    }

    /// Reads up to the first line that has `text` in it.
    fn until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended before {text:?}: {}", self.told);
            self.told.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where its status page is.
    fn address(&mut self) -> String {
        let line = self.until("status page: http://");
        line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
    }

    fn interrupt(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// Its exit status and all that it printed.
    fn end(mut self) -> (i32, String) {
        self.lines.read_to_string(&mut self.told).unwrap();
        let code = self.process.wait().unwrap().code().unwrap();
        (code, std::mem::take(&mut self.told))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The numbers of the first line that `pattern` fits; its groups are numbers.
fn numbers<const N: usize>(text: &str, pattern: &str) -> [u64; N] {
    let found = Regex::new(&format!("(?m)^DEMO  {pattern}$")).unwrap();
    let found = found.captures(text).unwrap_or_else(|| panic!("no line is {pattern}:\n{text}"));
    std::array::from_fn(|at| found[at + 1].replace(',', "").parse().unwrap())
}

/// What the account at the end says.
struct Account {
    delivered: u64,
    refused: u64,
    signed: u64,
}

/// Checks that the account balances, as its own sum and against what the receiver counted.
fn account(text: &str) -> Account {
    let [scraped, delivered, refused, received] = numbers(
        text,
        r"account: ([\d,]+) samples scraped = ([\d,]+) delivered \+ ([\d,]+) refused; the receiver counted ([\d,]+)\. It balances\.",
    );
    assert_eq!(scraped, delivered + refused, "{text}");
    assert_eq!(received, delivered, "{text}");
    let [histograms, exemplars] = numbers(
        text,
        r"  each series came in order, and nothing twice; ([\d,]+) of them native histograms, and ([\d,]+) exemplars came along",
    );
    assert!(histograms > 0 && exemplars > 0 && histograms < delivered, "{text}");
    let [verified, signed] = numbers(text, r"  signatures checked: ([\d,]+) of ([\d,]+)(?:;.*)?");
    assert_eq!(verified, signed, "{text}");
    Account { delivered, refused, signed }
}

#[test]
fn the_three_scenes_are_told_and_balance() {
    // Without arguments, as `cargo run --release` calls it.
    let output = promferry(&[]).output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(text.lines().all(|line| line.starts_with("DEMO  ")), "{text}");
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0]
            .starts_with("DEMO  4 exporters (text, OpenMetrics, protobuf, one behind a gateway) → discover")
    );
    assert!(lines[0].ends_with("→ SigV4 → remote write → a receiver that verifies"), "{}", lines[0]);
    let status = Regex::new(
        r"^DEMO  (\d)/4 up +\d+ samples/s  delivered +[\d,]+  waiting +[\d,]+  refused [\d,]+  spool +\d+ KiB  oldest +\d+\.\d s  signatures (\d+)/(\d+)$",
    )
    .unwrap();
    let up: Vec<_> =
        lines.iter().filter_map(|line| status.captures(line)).map(|found| found[1].to_owned()).collect();
    // A machine that is busy elsewhere misses a scrape now and then.
    let all = up.iter().filter(|up| *up == "4").count();
    assert!(up.len() >= 30 && all >= up.len() / 2, "{all} of {}: {text}", up.len());

    let at =
        |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}"));
    let scenes = [at("scene 1 of 3: "), at("scene 2 of 3: "), at("scene 3 of 3: ")];
    assert!(scenes.is_sorted(), "{text}");
    let most_waiting = |from: usize, to: usize| {
        let waiting = Regex::new(r"waiting +([\d,]+) ").unwrap();
        let numbers = lines[from..to].iter().filter_map(|line| waiting.captures(line));
        numbers.map(|found| found[1].replace(',', "").parse::<u64>().unwrap()).max().unwrap()
    };
    let [requests, waited, _] = numbers(
        &text,
        r"  … ([\d,]+) requests? answered 503; ([\d,]+) samples \((\d+) KiB\) wait on disk, and scraping goes on",
    );
    assert!(requests > 0 && waited > 300, "ten seconds of 60 samples and more: {text}");
    assert!(most_waiting(scenes[0], scenes[1]) >= waited / 2, "the spool grew: {text}");
    let drained = at(" s later, each series in order, nothing twice");
    assert!(scenes[0] < drained && drained < scenes[1], "{text}");

    let [refused, held_back, taken] = numbers(
        &text,
        r"  … (\d+) samples? refused, by name; (\d+) more of its series held back unsent; the other (\d+) of the request were taken",
    );
    assert!(taken > 0, "{text}");
    let [of_reason] = numbers(
        &text,
        r#"  refused: (\d+) × label_value_too_long: orders_total\{note="please wrap.*…"\} of checkout"#,
    );
    assert!(text.contains("the data waits\n") && text.contains(" s later: nothing lost\n"), "{text}");
    let [expired] = numbers(
        &text,
        r"  signatures checked: .*; (\d+) requests? with expired credentials (?:was|were) refused, signed anew and sent again",
    );
    assert!(expired > 0);

    let account = account(&text);
    // The scene's line is of its end; a sample of the scrape that was going on then is refused after it.
    assert!(account.refused >= refused + held_back, "{text}");
    assert_eq!(account.refused, of_reason, "nothing else is lost: {text}");
    assert!(account.delivered > 1000 && account.signed > 30, "{text}");
    assert!(text.contains(" run --dry-run --config.file=prometheus.yml"), "{text}");
}

#[test]
fn fast_skips_the_scenes() {
    let output = promferry(&["demo", "--fast"]).output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("4/4 up") && !text.contains("scene"), "{text}");
    let account = account(&text);
    assert_eq!(account.refused, 0);
}

#[test]
fn seconds_end_it_in_the_middle_of_a_scene_too() {
    let output = promferry(&["demo", "--seconds=9"]).output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("scene 1 of 3") && !text.contains("scene 2 of 3"), "{text}");
    account(&text);
}

#[test]
fn a_taken_port_is_said() {
    // Demos of other tests may have taken it as well.
    let mut first = Demo::start(&["demo", "--fast", "--seconds=60"]);
    let first_address = first.address();
    let mut second = Demo::start(&["demo", "--fast", "--seconds=60"]);
    let second_address = second.address();
    assert_ne!(first_address, second_address);
    for (demo, address) in [(&first, &first_address), (&second, &second_address)] {
        let is_said = demo.told.contains(" (port 9090 is taken) ");
        assert_eq!(is_said, address != "127.0.0.1:9090", "{}", demo.told);
    }
}

#[test]
fn ctrl_c_accounts_early() {
    let mut demo = Demo::start(&["demo"]);
    demo.until("scene 1 of 3");
    demo.until("samples/s");
    demo.interrupt();
    let (code, text) = demo.end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("ended early: "), "{text}");
    assert!(account(&text).delivered > 0);
}

#[test]
fn it_refuses_to_run_in_kubernetes() {
    let output = promferry(&["demo"]).env("KUBERNETES_SERVICE_HOST", "10.0.0.1").output().unwrap();
    assert_eq!((output.status.code(), told(&output).as_str()), (Some(64), ""));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("DEMO  ") && said.contains("refuses to run in Kubernetes"), "{said}");
}

#[test]
fn proxies_of_the_environment_are_no_obstacle() {
    let mut command = promferry(&["demo", "--fast"]);
    for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:9");
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(account(&told(&output)).delivered > 0);
}
