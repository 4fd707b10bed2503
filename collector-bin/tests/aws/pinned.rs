//! What the program says, held against files.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;

/// Panics unless `tests/data/denials/NAME.txt` says the same as this line of a log, but for the time and what differs
/// from run to run.
pub(crate) fn assert_pinned(name: &str, line: &str) {
    assert_is_in_file(&format!("denials/{name}"), &(steady(line) + "\n"));
}

/// Panics unless `tests/data/FILE.txt` says the same. With `PROMFERRY_PIN=1` the file is written instead.
pub(crate) fn assert_is_in_file(file: &str, said: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file).with_extension("txt");
    if std::env::var_os("PROMFERRY_PIN").is_some() {
        return std::fs::write(&file, said).unwrap();
    }
    let pinned =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {}: {said}", file.display()));
    assert_eq!(said, pinned, "{}; PROMFERRY_PIN=1 takes what is said now", file.display());
}

/// The line with names in place of what differs from run to run.
fn steady(line: &str) -> String {
    static CHANGES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let changes = [
            (r"^\S+ +(ERROR|WARN|INFO|DEBUG) +", "$1 "),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
            (r"promferry-\d{9,}", "promferry-TIME"),
            (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
            (r"\b(AKIA|ASIA|AROA)[A-Z0-9]{10,}\b", "$1…"),
            (r"\bid/[0-9A-F]{32}\b", "id/CLUSTER"),
            (r"/\S*/(token)\b", "/…/$1"),
            (r"\b\d{10}\b", "SECONDS"),
            (r"\b20\d{6}T\d{6}Z\b", "TIME"),
            (r"failures=\d+", "failures=N"),
            (r"\(\d+ s\)", "(N s)"),
        ];
        changes.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).into()
    });
    CHANGES
        .iter()
        .fold(line.to_owned(), |line, (pattern, name)| pattern.replace_all(&line, *name).into_owned())
}
