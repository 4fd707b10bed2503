//! From the words of a command line to what is to be done.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Error, Parser as _};

use super::Cli;

/// Reads a command line, whose first word is the program's name.
///
/// Where Prometheus' or the OpenTelemetry Collector's command line stands, `run` is meant: flags without a command,
/// or a program that was started by their name.
///
/// # Errors
/// What is wrong with it, or, as clap has it, the help or version that was asked for: [`Error::print`] shows either,
/// and [`exit_status`] is what to end with.
pub fn parse(words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Cli, Error> {
    let mut words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    if means_run(&words) {
        words.insert(1, "run".into());
    }
    Cli::try_parse_from(words).map_err(suggest_command)
}

/// The exit status after an error of [`parse`]: 64 (`EX_USAGE` of sysexits.h), and 0 when it is an answer.
pub fn exit_status(error: &Error) -> u8 {
    if error.use_stderr() { EX_USAGE } else { 0 }
}

const EX_USAGE: u8 = 64;

/// Suggests the command whose letters are those of the word that is none: clap finds two that changed places in a short
/// word too unlike it.
fn suggest_command(mut error: Error) -> Error {
    let sorted = |word: &str| {
        let mut letters: Vec<_> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    if error.kind() == ErrorKind::InvalidSubcommand
        && error.get(ContextKind::SuggestedSubcommand).is_none()
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(meant) =
            Cli::command().get_subcommands().find(|command| sorted(command.get_name()) == sorted(word))
    {
        let meant = ContextValue::Strings(vec![meant.get_name().to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, meant);
    }
    error
}

fn means_run(words: &[OsString]) -> bool {
    let program = words.first().map(Path::new).and_then(Path::file_stem).and_then(OsStr::to_str);
    let is_collector = program
        .is_some_and(|name| matches!(name, "prometheus" | "awscollector") || name.starts_with("otelcol"));
    match words.get(1).and_then(|word| word.to_str()) {
        None => words.len() == 1 && is_collector,
        Some("-h" | "--help" | "-V" | "--version") => is_collector,
        Some(word) => word.starts_with('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;

    fn is_run(words: &[&str]) -> bool {
        matches!(parse(words.iter().copied()).unwrap().command, Some(Command::Run(_)))
    }

    #[test]
    fn flags_alone_and_the_names_of_collectors_mean_run() {
        for words in [
            &["promferry", "run"][..],
            &["promferry", "--config.file=a.yml"],
            &["promferry", "--agent", "--config.file", "a.yml"],
            &["/bin/prometheus"],
            &["prometheus", "--storage.agent.path=/data", "--agent"],
            &["/awscollector", "--config=/conf/collector.yaml"],
            &["./awscollector", "--config", "a.yaml", "--feature-gates=a,-b", "--set=a.b=c"],
            &["otelcol-contrib", "--config=a.yaml"],
            &["prometheus", "run"],
        ] {
            assert!(is_run(words), "{words:?}");
        }
        for words in [&["promferry"][..], &["promferry", "demo"], &["prometheus", "version"]] {
            assert!(!is_run(words), "{words:?}");
        }
    }

    #[test]
    fn the_nearest_command_is_suggested() {
        for (word, meant) in [("rnu", "run"), ("urn", "run"), ("dmeo", "demo"), ("chekc", "check")] {
            let error = parse(["promferry", word]).unwrap_err();
            assert!(error.to_string().contains(&format!("'{meant}'")), "{error}");
            assert_eq!(exit_status(&error), 64);
        }
        let error = parse(["promferry", "xyz"]).unwrap_err().to_string();
        assert!(!error.contains("similar"), "{error}");
    }

    #[test]
    fn asking_is_no_error() {
        for words in [
            &["promferry", "--help"][..],
            &["promferry", "-h"],
            &["promferry", "help"],
            &["promferry", "run", "--help"],
            &["promferry", "--version"],
            &["promferry", "run", "--version"],
            &["prometheus", "--version"],
            &["prometheus", "--no-version"],
            &["awscollector", "--help"],
        ] {
            assert_eq!(exit_status(&parse(words.iter().copied()).unwrap_err()), 0, "{words:?}");
        }
        let version = format!("promferry {}\n", env!("CARGO_PKG_VERSION"));
        for words in
            [&["promferry", "-V"][..], &["promferry", "--agent", "--version"], &["prometheus", "--version"]]
        {
            assert_eq!(parse(words.iter().copied()).unwrap_err().to_string(), version, "{words:?}");
        }
        for words in [&["promferry", "scrape"][..], &["promferry", "aws"], &["promferry", "run", "x"]] {
            assert_eq!(exit_status(&parse(words.iter().copied()).unwrap_err()), 64, "{words:?}");
        }
    }
}
