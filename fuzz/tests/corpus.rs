//! Each target on its seeds in `corpus/` and on mutations of them, the same every time.
//! `PROMFERRY_FUZZ_MUTATIONS` is how many of each seed there are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use promferry_model::{Rng, SeededRng};

/// Some seconds for all targets together, in a build without optimisation.
const MUTATIONS: usize = 150;

#[test]
fn text() {
    run("text", promferry_fuzz::text);
}

#[test]
fn openmetrics() {
    run("openmetrics", promferry_fuzz::openmetrics);
}

#[test]
fn protobuf() {
    run("protobuf", promferry_fuzz::protobuf);
}

#[test]
fn openmetrics_strict() {
    run("openmetrics_strict", promferry_fuzz::openmetrics_strict);
}

#[test]
fn openmetrics2() {
    run("openmetrics2", promferry_fuzz::openmetrics2);
}

#[test]
fn known_page() {
    run("known_page", promferry_fuzz::known_page);
}

#[test]
fn exposition_round_trip() {
    run("exposition_round_trip", promferry_fuzz::exposition_round_trip);
}

#[test]
fn families_round_trip() {
    run("families_round_trip", promferry_fuzz::families_round_trip);
}

#[test]
fn refusal() {
    run("refusal", promferry_fuzz::refusal);
}

#[test]
fn relabel() {
    run("relabel", promferry_fuzz::relabel);
}

#[test]
fn config() {
    run("config", promferry_fuzz::config);
}

#[test]
fn otel_config() {
    run("otel_config", promferry_fuzz::otel_config);
}

#[test]
fn wire() {
    run("wire", promferry_fuzz::wire);
}

#[test]
fn fragment() {
    run("fragment", promferry_fuzz::fragment);
}

#[test]
fn spool() {
    run("spool", promferry_fuzz::spool);
}

fn run(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "no seeds for {name}");
    let mutations = std::env::var("PROMFERRY_FUZZ_MUTATIONS").ok();
    let mutations = mutations.map_or(MUTATIONS, |number| number.parse().unwrap());
    let mut rng = SeededRng::new(1);
    for seed in &seeds {
        judge(target, seed);
        for _ in 0..mutations {
            let mut input = seed.clone();
            for _ in 0..=below(&mut rng, 3) {
                mutate(&mut rng, &mut input, &seeds);
            }
            judge(target, &input);
        }
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn mutate(rng: &mut SeededRng, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = below(rng, input.len() + 1);
    match below(rng, 6) {
        0 if at < input.len() => input[at] ^= 1 << below(rng, 8),
        1 if at < input.len() => input[at] = rng.next_u64() as u8,
        2 => input.truncate(at),
        3 => input.insert(at, INTERESTING[below(rng, INTERESTING.len())]),
        4 if at < input.len() => {
            let end = at + below(rng, (input.len() - at).min(16) + 1);
            input.drain(at..end);
        }
        _ => {
            let other = &seeds[below(rng, seeds.len())];
            let from = below(rng, other.len() + 1);
            let to = from + below(rng, (other.len() - from).min(64) + 1);
            input.splice(at..at, other[from..to].iter().copied());
        }
    }
}

/// What the formats give a meaning to, and the ends of ranges.
const INTERESTING: &[u8] = b"\x00\x01\x7f\x80\xff\n\"\\{}[]()|*+?$#,:;=- \t0";

fn below(rng: &mut SeededRng, bound: usize) -> usize {
    (rng.next_u64() % bound as u64) as usize
}

fn judge(target: fn(&[u8]), input: &[u8]) {
    /// Shows the input that a target panicked on.
    struct Shown<'a>(&'a [u8]);

    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input: b\"{}\"", self.0.escape_ascii());
            }
        }
    }

    let shown = Shown(input);
    target(shown.0);
}
