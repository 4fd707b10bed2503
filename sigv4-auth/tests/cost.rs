//! What signing costs: beside one SHA-256 of the body, and of the whole path's CPU. Only a release build says so:
//! `cargo test --release -p promferry-sigv4-auth --test cost -- --ignored --nocapture`.

#![allow(clippy::print_stdout, reason = "the figures are what it is run for")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use promferry_sigv4_auth::{Credentials, PayloadHash, Scope, SigningParams, sign};

/// A full remote-write request.
const BODY: usize = 500_000;
const ROUNDS: usize = 101;

#[test]
#[ignore = "compares times, which only a release build on a quiet machine can"]
fn signing_costs_one_hash_of_the_body() {
    let costs = Costs::of(BODY);
    println!("500 KB, median of {ROUNDS} rounds: {costs}");
    assert!(costs.of_first_attempt() <= 1.1, "{costs}");
    // The hash goes with the body: a retry costs what is not the body's.
    assert!(costs.of_later_attempt() <= 0.1, "{costs}");
}

/// Takes the requests' number and size, and the CPU time, from what `bench run --signed --json FILE` found.
#[test]
#[ignore = "needs PROMFERRY_RUN, a file that `bench run --signed --json` wrote"]
fn signing_is_a_small_share_of_the_path() {
    let path = std::env::var_os("PROMFERRY_RUN").expect("PROMFERRY_RUN, a file of bench run --signed --json");
    let run = std::fs::read_to_string(Path::new(&path)).expect("the file");
    let run: serde_json::Value = serde_json::from_str(&run).expect("JSON");
    assert_eq!(run[0]["signed"], true, "the run's requests were not signed");
    let measurements = run[2].as_array().expect("measurements");
    let ours =
        measurements.iter().find(|one| one["collector"] == "promferry").expect("promferry's measurement");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let (requests, cpu_seconds) = (number(&ours["requests"]), number(&ours["cpu_seconds"]));
    let samples = number(&ours["samples"]);
    let body = number(&ours["sink"]["body_bytes"]) / number(&ours["sink"]["accepted_requests"]);

    let costs = Costs::of(body as usize);
    let share = costs.first_attempt.as_secs_f64() * requests / cpu_seconds;
    println!(
        "{body:.0} bytes ({:.0} samples) a request: {costs}; {requests} requests are {:.1} % of {cpu_seconds:.2} CPU seconds",
        samples / requests,
        share * 100.0
    );
    assert!(share <= 0.05, "{share}");
}

/// Medians of rounds in which each had its turn, so that other work on the machine met all of them.
struct Costs {
    hash: Duration,
    first_attempt: Duration,
    later_attempt: Duration,
}

impl Costs {
    fn of(body: usize) -> Self {
        let unsigned = request(body);
        let mut hashed = request(body);
        let hash = PayloadHash::of(hashed.body());
        hashed.extensions_mut().insert(hash);
        let mut times = [const { Vec::new() }; 3];
        let mut timed = |at: usize, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            times[at].push(start.elapsed());
        };
        for _ in 0..ROUNDS {
            timed(0, &mut || {
                black_box(PayloadHash::of(black_box(unsigned.body())));
            });
            // What is signed is signed anew: an attempt replaces the headers of the one before.
            let mut request = unsigned.clone();
            timed(1, &mut || signed(black_box(&mut request)));
            let mut request = hashed.clone();
            timed(2, &mut || signed(black_box(&mut request)));
        }
        let [hash, first_attempt, later_attempt] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        Self { hash, first_attempt, later_attempt }
    }

    fn of_first_attempt(&self) -> f64 {
        self.first_attempt.as_secs_f64() / self.hash.as_secs_f64()
    }

    fn of_later_attempt(&self) -> f64 {
        self.later_attempt.as_secs_f64() / self.hash.as_secs_f64()
    }
}

impl std::fmt::Display for Costs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "one SHA-256 {:.1?}, first attempt {:.1?} (ratio {:.3}), retry {:.1?} (ratio {:.3})",
            self.hash,
            self.first_attempt,
            self.of_first_attempt(),
            self.later_attempt,
            self.of_later_attempt()
        )
    }
}

fn signed(request: &mut http::Request<Vec<u8>>) {
    let scope = Scope { region: String::from("eu-west-1"), service: String::from("aps") };
    let credentials = Credentials::new("ASIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG", Some(&"t".repeat(1_000)));
    let params = SigningParams { scope: &scope, credentials: &credentials };
    sign(request, &params, SystemTime::now()).expect("signed");
}

/// A remote write to Amazon Managed Service for Prometheus.
fn request(body: usize) -> http::Request<Vec<u8>> {
    http::Request::post(
        "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-12345678-1234-1234-1234-123456789012/api/v1/remote_write",
    )
    .header("content-type", "application/x-protobuf")
    .header("content-encoding", "snappy")
    .header("x-prometheus-remote-write-version", "0.1.0")
    .body((0..body).map(|index| ((index * 31) >> 3) as u8).collect())
    .expect("a request")
}
