//! The program, run to its end in a folder of the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program under test: what `PROMFERRY_BINARY` names, else what cargo built.
fn program() -> PathBuf {
    std::env::var_os("PROMFERRY_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_promferry").into(), PathBuf::from)
}

/// What came of a dry run.
#[derive(Debug)]
pub(crate) struct DryRun {
    pub(crate) status: i32,
    pub(crate) report: String,
    pub(crate) log: String,
}

impl DryRun {
    /// The lines below `wrong: N`.
    pub(crate) fn findings(&self) -> Vec<&str> {
        let (_, findings) = self.report.split_once("\nwrong: ").unwrap_or_else(|| panic!("{self:?}"));
        let mut lines = findings.lines();
        let count: usize = lines.next().unwrap().parse().unwrap();
        let findings: Vec<_> = lines.map(str::trim_start).collect();
        assert_eq!(findings.len(), count, "{}", self.report);
        findings
    }
}

/// A command that runs in `folder` and knows no credentials but these, of which nobody can be asked.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.current_dir(folder).arg("run").args(arguments).stdin(Stdio::null());
    command.env_clear().envs([
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    command
}

/// Never to be seen in what the program says.
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Runs it to its end.
pub(crate) fn dry_run(folder: &Path, arguments: &[&str]) -> DryRun {
    dry_run_as(folder, arguments, |_| {})
}

/// The same, with other credentials.
pub(crate) fn dry_run_as(
    folder: &Path,
    arguments: &[&str],
    credentials: impl FnOnce(&mut Command),
) -> DryRun {
    let mut all = arguments.to_vec();
    for (flag, default) in [
        ("--dry-run", "--dry-run"),
        ("--storage.agent.path", "--storage.agent.path=data"),
        ("--web.listen-address", "--web.listen-address=127.0.0.1:0"),
    ] {
        if !arguments.iter().any(|argument| argument.starts_with(flag)) {
            all.push(default);
        }
    }
    let mut command = command(folder, &all);
    credentials(&mut command);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (report, log) = (text(output.stdout), text(output.stderr));
    assert!(!report.contains(SECRET_KEY) && !log.contains(SECRET_KEY), "{report}\n{log}");
    DryRun { status: output.status.code().unwrap(), report, log }
}
