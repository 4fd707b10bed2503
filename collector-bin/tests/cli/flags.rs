//! Every flag of Prometheus, in every form.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use clap::error::ErrorKind;
use promferry_bench::peers::Peer;
use promferry_collector::cli::prometheus::{FLAGS, Flag, Takes, Verdict};
use promferry_collector::cli::{self, Cli, Features, RunArgs};

use crate::collector::output;

/// What `scripts/prometheus-flags` printed.
const OF_PROMETHEUS: &str = include_str!("../../data/prometheus-3.16-flags.txt");

/// Name, what it takes, and default of each.
fn of_prometheus() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    OF_PROMETHEUS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<_> = line.split('\t').collect();
        let [name, takes, default, _mode, _shown] = columns[..] else { panic!("{line}") };
        (name, takes, default)
    })
}

fn takes(flag: &Flag) -> &'static str {
    match flag.takes {
        Takes::Nothing { .. } => "nothing",
        Takes::Value => "value",
        Takes::Values => "values",
    }
}

fn parse(flags: &[&str]) -> Result<Cli, clap::Error> {
    cli::parse(["promferry", "run"].iter().chain(flags))
}

fn run_args(flags: &[&str]) -> RunArgs {
    match parse(flags).unwrap().command {
        Some(cli::Command::Run(args)) => *args,
        other => panic!("{other:?}"),
    }
}

/// A value that Prometheus takes.
fn value_of(name: &str, default: &str) -> String {
    match name {
        _ if !default.is_empty() => default.to_owned(),
        "enable-feature" => "agent".to_owned(),
        _ => "1d".to_owned(),
    }
}

#[test]
fn every_flag_of_prometheus_is_known() {
    let ours: BTreeSet<_> = FLAGS.iter().map(|flag| (flag.name, takes(flag))).collect();
    let theirs: BTreeSet<_> = of_prometheus().map(|(name, takes, _)| (name, takes)).collect();
    assert_eq!(ours.len(), FLAGS.len(), "a flag stands twice in the table");
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 76);
    assert!(FLAGS.is_sorted_by_key(|flag| flag.name));
    for flag in FLAGS {
        if let Takes::Nothing { negated } = flag.takes {
            assert_eq!(negated.strip_prefix("no-"), Some(flag.name));
        }
    }
}

#[test]
fn the_list_is_that_of_the_program() {
    let Some(prometheus) = Peer::Prometheus.or_skip("the list of Prometheus' flags") else { return };
    let go = Command::new("go").args(["env", "GOMODCACHE"]).output().ok();
    let cache = go.map(|output| String::from_utf8(output.stdout).unwrap());
    let main = cache.map(|cache| {
        Path::new(cache.trim()).join("github.com/prometheus/prometheus@v0.316.0/cmd/prometheus/main.go")
    });
    let Some(main) = main.filter(|main| main.is_file()) else {
        return eprintln!("SKIPPED the list of Prometheus' flags: its source is not in Go's module cache");
    };
    let source = std::fs::read_to_string(&main).unwrap();
    let features = source.lines().filter_map(|line| line.trim().strip_prefix("case \"")?.strip_suffix("\":"));
    // Other switches are over constants of Linux.
    let features: Vec<_> = features.filter(|name| name.chars().all(|c| !c.is_ascii_uppercase())).collect();
    assert!(features.len() > 30 && features.contains(&"st-storage"), "{features:?}");
    let warnings = Features::named(features).warnings;
    assert!(warnings.iter().all(|warning| warning.contains("has no effect: ")), "{warnings:?}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/prometheus-flags");
    let output = Command::new(script).arg(prometheus).arg(main).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), OF_PROMETHEUS);
}

#[test]
fn flags_in_both_forms_and_negated() {
    for (name, takes, default) in of_prometheus() {
        let flag = format!("--{name}");
        let verdict = FLAGS.iter().find(|known| known.name == name).unwrap().verdict;
        let is_taken = |flags: &[&str]| match parse(flags) {
            Ok(_) => true,
            Err(error) => {
                let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
                assert_eq!(is_answer, cli::exit_status(&error) == 0, "{flags:?}: {error}");
                is_answer
            }
        };
        if takes == "nothing" {
            let negated = format!("--no-{name}");
            let should_be_taken = !matches!(verdict, Verdict::Refused(_));
            assert_eq!(is_taken(&[&flag]), should_be_taken, "{flag}");
            assert_eq!(is_taken(&[&negated]), should_be_taken, "{negated}");
            if !matches!(name, "help" | "version") {
                // As in Prometheus, a switch has no value and is given once.
                assert!(!is_taken(&[&format!("{flag}=true")]), "{flag}=true");
                assert!(!is_taken(&[&flag, &flag]), "{flag} twice");
                assert!(!is_taken(&[&flag, &negated]), "{flag} {negated}");
                assert!(!is_taken(&[&negated, &flag]), "{negated} {flag}");
            }
        } else {
            let value = value_of(name, default);
            assert!(is_taken(&[&format!("{flag}={value}")]), "{flag}={value}");
            assert!(is_taken(&[&flag, &value]), "{flag} {value}");
            assert!(!is_taken(&[&flag]), "{flag} without a value");
            assert!(!is_taken(&[&format!("--no-{name}")]), "--no-{name}");
            let twice = [&*flag, &*value, &*flag, &*value];
            assert_eq!(is_taken(&twice), takes == "values", "{flag} twice");
        }
    }
}

#[test]
fn switches_switch() {
    let args = run_args(&["--web.enable-lifecycle", "--agent"]);
    assert!(args.web.lifecycle && args.auto_reload);
    let args = run_args(&["--no-web.enable-lifecycle", "--no-config.auto-reload", "--no-agent"]);
    assert!(!args.web.lifecycle && !args.auto_reload);
    assert!(run_args(&["--config.auto-reload"]).auto_reload);
}

#[test]
fn what_is_mapped_has_its_effect() {
    let storage = |flags: &[&str]| run_args(flags).storage_path().display().to_string();
    assert_eq!(storage(&[]), "data-agent/");
    assert_eq!(storage(&["--storage.tsdb.path=/data"]), "/data");
    assert_eq!(storage(&["--storage.tsdb.path=/data", "--storage.agent.path=/agent"]), "/agent");
    assert_eq!(run_args(&[]).flush_deadline.to_string(), "20s");
    assert_eq!(run_args(&["--storage.remote.flush-deadline=1m"]).flush_deadline.to_string(), "1m");
    assert_eq!(run_args(&["--auto-gomemlimit.ratio=0.5"]).budget_share, Some(0.5));
    for wrong in ["0", "1.1", "nan", "-1", "half"] {
        assert!(parse(&[&format!("--auto-gomemlimit.ratio={wrong}")]).is_err(), "{wrong}");
    }
    let debounce = |flags: &[&str]| run_args(flags).discovery_debounce().as_millis();
    assert_eq!(debounce(&[]), 5000);
    assert_eq!(debounce(&["--scrape.discovery-reload-interval=250ms"]), 250);
    assert_eq!(debounce(&["--scrape.discovery-reload-interval=0s"]), 5000);
    assert!(run_args(&["--enable-feature=agent,st-storage"]).features().start_timestamps);
    assert!(parse(&["--log.level=WARN", "--log.format=JSON"]).is_ok());
}

#[test]
fn no_effect_flags_are_one_warning() {
    assert_eq!(run_args(&["--agent", "--web.enable-lifecycle", "--auto-gomaxprocs"]).warnings(), [""; 0]);
    let given: Vec<String> = FLAGS
        .iter()
        .filter(|flag| matches!(flag.verdict, Verdict::NoEffect(_)))
        .map(|flag| match flag.takes {
            Takes::Nothing { .. } => format!("--{}", flag.name),
            Takes::Value | Takes::Values => format!("--{}=1", flag.name),
        })
        .collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let warnings = run_args(&given).warnings();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    for flag in given {
        assert!(warning.contains(flag.trim_end_matches("=1")), "{flag} is not in {warning}");
    }
    let of_some = ["--query.timeout=1m", "--no-storage.agent.wal-compression", "--query.max-samples", "7"];
    let expected = "flags of Prometheus without effect here: --query.max-samples, --query.timeout (nothing is queried \
                    here); --no-storage.agent.wal-compression (there is no write-ahead log of that kind: the spool frees \
                    what was delivered at once)";
    assert_eq!(run_args(&of_some).warnings(), [expected]);
    let gates = run_args(&["--config=a.yaml", "--feature-gates", "-a.b,c"]).warnings();
    assert_eq!(
        gates,
        ["--feature-gates=-a.b,c has no effect: the collector that they are about is not here"]
    );
}

#[test]
fn an_unknown_flag_gets_a_suggestion_and_64() {
    for (words, suggested) in [
        (&["run", "--config.fil=a.yml"][..], "--config.file"),
        (&["--storage.agent.pth=/data"], "--storage.agent.path"),
        (&["--query.timout=2m"], "--query.timeout"),
        (&["--no-storage.agent.wal-compresion"], "--no-storage.agent.wal-compression"),
        (&["run", "--web.enable-lifecicle"], "--web.enable-lifecycle"),
        (&["spool", "ls", "--storage.agent.pth=/data"], "--storage.agent.path"),
        (&["completion", "bash"], "completions"),
    ] {
        let (code, out, said) = output(words);
        assert_eq!((code, &*out), (64, ""), "{words:?}: {said}");
        assert!(said.contains("similar") && said.contains(&format!("'{suggested}'")), "{words:?}: {said}");
    }
}

#[test]
fn every_usage_error_is_64() {
    for words in [
        &["run", "--config.file=a.yml", "--config=b.yaml"][..],
        &["run", "--config.file=a.yml", "--config.file=b.yml"],
        &["run", "--config.file"],
        &["--log.level=loud"],
        &["--storage.remote.flush-deadline=1.5s"],
        &["--web.max-connections=many"],
        &["--write-documentation"],
        &["run", "prometheus.yml"],
        &["aws"],
        &["completions", "tcsh"],
    ] {
        let (code, out, said) = output(words);
        assert_eq!((code, &*out), (64, ""), "{words:?}: {said}");
        assert!(!said.is_empty(), "{words:?}");
    }
    let version = format!("promferry {}\n", env!("CARGO_PKG_VERSION"));
    for words in [&["--version"][..], &["-V"], &["version"], &["run", "--version"], &["--agent", "--version"]]
    {
        assert_eq!(output(words), (0, version.clone(), String::new()), "{words:?}");
    }
    for words in
        [&["--help"][..], &["-h"], &["help"], &["help", "run"], &["run", "--help"], &["--agent", "-h"]]
    {
        let (code, out, said) = output(words);
        assert!(code == 0 && said.is_empty() && out.contains("Usage: promferry"), "{words:?}: {code} {said}");
    }
}
