//! In a terminal the line on how things stand is drawn anew, and what is told stays above it.

use std::process::Command;

use crate::account;
use crate::collector::program;

/// Back to the line's beginning, and nothing in it.
const CLEAR: &str = "\r\u{1b}[2K";

#[test]
fn in_a_terminal_it_redraws() {
    if Command::new("script").arg("--version").output().is_err() {
        return eprintln!("SKIPPED the demo in a terminal: script (util-linux) is not installed");
    }
    let run = |environment: &[(&str, &str)]| {
        let command = format!("stty cols 100; '{}' demo --fast", program().display());
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env_remove("KUBERNETES_SERVICE_HOST");
        script.env_remove("NO_COLOR").envs(environment.iter().copied());
        let output = script.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        text
    };
    let text = run(&[]);
    let drawn = text.matches("samples/s").count();
    assert!(drawn >= 3, "{text}");
    assert!(text.matches(CLEAR).count() > drawn, "each is cleared, and before what stays too: {text}");
    assert!(text.contains("\u{1b}[32m"), "it has colours: {text}");

    let plain = run(&[("NO_COLOR", "1")]);
    assert!(!plain.contains("\u{1b}[32m") && !plain.contains("\u{1b}[36m"), "{plain}");
    // What is left to be seen of each line: what was drawn last.
    let lines: Vec<_> = plain
        .lines()
        .map(|line| line.rsplit(CLEAR).next().unwrap())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(lines.iter().all(|line| line.starts_with("DEMO  ")), "{lines:#?}");
    assert_eq!(
        lines.iter().filter(|line| line.contains("samples/s")).count(),
        1,
        "only the last: {lines:#?}"
    );
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "folded or cut to the width: {lines:#?}");
    // Unfolded it is the account that a pipe gets.
    let unfolded = lines.join("\n").replace("\nDEMO      ", " ");
    account(&unfolded);
}
