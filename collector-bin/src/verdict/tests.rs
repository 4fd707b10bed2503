use super::observation::{Cause, Credentials, Endpoint, Job, Target, WithoutTargets};
use super::*;

fn target(at: usize, reason: &str) -> Target {
    let place = format!("http://10.0.3.{at}:8080/metrics");
    Target { place, reason: reason.to_owned(), kind: kind_of(reason, ""), brief: brief(reason) }
}

fn job(name: &str, kept: u64, down: Vec<Target>) -> Job {
    let up = kept - down.len() as u64;
    Job { name: name.to_owned(), discovered: kept + 11, kept, up, down, ..Job::default() }
}

fn endpoint() -> Endpoint {
    Endpoint {
        key: "amp".to_owned(),
        delivered: 72_240,
        waiting: 312,
        oldest: Some(Duration::from_secs(2)),
        last_success: Some(Duration::from_secs(1)),
        ..Endpoint::default()
    }
}

fn seen(jobs: Vec<Job>) -> Observation {
    Observation {
        jobs,
        endpoints: vec![endpoint()],
        is_discovered: true,
        scraped: [("api".to_owned(), 72_240)].into(),
        ..Observation::default()
    }
}

fn verdict(seen: &Observation) -> Verdict {
    Verdict::new(seen, &tally(seen), Duration::from_secs(60), false)
}

/// Of a minute in which all of it happened.
fn tally(seen: &Observation) -> Tally {
    let mut before = seen.clone();
    before.scraped.clear();
    before.missed_at.clear();
    for endpoint in &mut before.endpoints {
        (endpoint.delivered, endpoint.last_success) = (0, None);
        endpoint.dropped.clear();
    }
    let now = Instant::now();
    let mut tally = Tally::new(now, &before);
    tally.add(now, seen);
    tally
}

const REFUSED: &str = "cannot connect to 10.0.3.7:8080: connection refused";
const MISSING: &str = "server returned HTTP status 404 Not Found";

#[test]
fn what_is_well_is_said_with_its_rates() {
    let seen = seen(vec![job("api", 41, vec![])]);
    let well = verdict(&seen);
    let rates = "1,204 samples/s scraped, 1,204/s delivered, nothing refused, oldest waiting 2 s";
    assert_eq!(well.to_string(), format!("well: 41 of 41 targets up, {rates}"));
    assert_eq!((well.discovered, well.kept, well.up, well.down), (52, 41, 41, 0));
    let first = Verdict::new(&seen, &tally(&seen), Duration::from_secs(2), true);
    let counts = "72,240 samples scraped, 72,240 delivered, nothing refused, oldest waiting 2 s";
    assert_eq!(first.to_string(), format!("well: 41 of 41 targets up, {counts}"));
    let nowhere = Observation { endpoints: Vec::new(), ..seen };
    let said = verdict(&nowhere).to_string();
    assert!(said.ends_with("scraped, and nothing is sent, for there is no remote_write"), "{said}");
}

#[test]
fn what_is_not_well_is_named_with_its_reason() {
    let well = || seen(vec![job("api", 41, vec![])]);
    let changed = |change: &dyn Fn(&mut Observation)| {
        let mut seen = well();
        change(&mut seen);
        verdict(&seen).to_string()
    };
    for (said, expected) in [
        (
            changed(&|seen| seen.jobs = vec![job("api", 41, vec![target(7, REFUSED), target(9, MISSING)])]),
            "2 of 41 targets down: 404 Not Found (api), connection refused (api)".to_owned(),
        ),
        (
            changed(&|seen| seen.endpoints[0].trouble = Some("answered 503 Service Unavailable".to_owned())),
            "amp has taken nothing for 1 s: answered 503 Service Unavailable".to_owned(),
        ),
        (
            changed(&|seen| {
                seen.endpoints[0].trouble = Some("no route".to_owned());
                seen.endpoints[0].last_success = None;
            }),
            "amp has taken nothing yet: no route".to_owned(),
        ),
        (
            changed(&|seen| {
                seen.endpoints[0].dropped =
                    [("label_value_too_long", (3, true)), ("spool_full", (1200, false))]
                        .map(|(reason, count)| (reason.to_owned(), count))
                        .into();
            }),
            "3 samples refused by amp: label_value_too_long 3; 1,200 samples not sent to amp: spool_full 1,200"
                .to_owned(),
        ),
        (
            changed(&|seen| seen.missed_at = [("gateway:443".to_owned(), 1240)].into()),
            "gateway:443 does not take as many scrapes as are due: 1,240 missed".to_owned(),
        ),
        (
            changed(&|seen| {
                let missed = |at: u64| (format!("gateway-{at}:80"), at);
                seen.missed_at = (1..=5).map(missed).collect();
            }),
            [5, 4, 3]
                .map(|at| format!("gateway-{at}:80 does not take as many scrapes as are due: {at} missed; "))
                .concat()
                + "2 other addresses do not either",
        ),
        (
            changed(&|seen| seen.spool.fullest = (63 << 20, 100 << 20)),
            "the spool is 63 % full (63 MiB of 100 MiB)".to_owned(),
        ),
        (
            changed(&|seen| {
                seen.endpoints[0].credentials = Some(Credentials {
                    until: None,
                    left: Some(Duration::from_secs(400)),
                    failing: Some("STS does not answer".to_owned()),
                });
            }),
            "the credentials of amp end in 6 m 40 s and can't be refreshed: STS does not answer".to_owned(),
        ),
        (
            changed(&|seen| seen.endpoints[0].limit = Some(("per_user_series_limit".to_owned(), 1500))),
            "amp takes no new series (per_user_series_limit): 1,500 series wait".to_owned(),
        ),
        (
            changed(&|seen| {
                seen.failing_discovery.insert("dns discovery of job api".to_owned(), "no servers".to_owned());
            }),
            "dns discovery of job api fails, the targets it found before stay: no servers".to_owned(),
        ),
        (
            changed(&|seen| seen.spool.disk = Some("no space left on device".to_owned())),
            "the spool's disk fails: no space left on device".to_owned(),
        ),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn the_three_most_frequent_reasons_are_told_with_an_example_each() {
    let mut down: Vec<_> = (0..100).map(|at| target(at, REFUSED)).collect();
    down.extend((100..120).map(|at| target(at, MISSING)));
    down.extend(
        (120..125).map(|at| target(at, &format!("the page cannot be read: line {at}: what is this?"))),
    );
    down.extend([target(125, "too long"), target(126, "too wide")]);
    let others = ["db", "web", "x"].map(|name| job(name, 5, vec![target(7, REFUSED)]));
    for (with, expected) in [
        (0, "127 of 200 targets down: connection refused (100 of api), "),
        (1, "128 of 205 targets down: connection refused (101 of api and db), "),
        (3, "130 of 215 targets down: connection refused (103 of api, db and 2 other jobs), "),
    ] {
        let mut jobs = vec![job("api", 200, down.clone())];
        jobs.extend_from_slice(&others[..with]);
        let rest = "404 Not Found (20 of api), page cannot be read (5 of api), and 2 for other reasons";
        assert_eq!(verdict(&seen(jobs)).to_string(), format!("{expected}{rest}"));
    }
}

#[test]
fn no_target_at_all_has_a_reason() {
    let without = |name: &str, why: &str| Job {
        name: name.to_owned(),
        without_targets: Some(WithoutTargets { why: why.to_owned(), cause: Cause::NoneFound }),
        ..Job::default()
    };
    for (jobs, expected) in [
        (vec![], "no targets: the configuration has no scrape_configs"),
        (
            vec![
                without("pods", "discovered 12, all dropped by relabel_configs[0] (keep x)"),
                without("db", "none"),
            ],
            "no targets: job pods: discovered 12, all dropped by relabel_configs[0] (keep x); job db: none",
        ),
    ] {
        assert_eq!(verdict(&seen(jobs)).to_string(), expected);
    }
}

/// What is said at each of these seconds.
fn said(
    voice: &mut Voice,
    started: Instant,
    seconds: std::ops::Range<u64>,
    seen: &Observation,
) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    for second in seconds {
        for line in voice.hear(started + Duration::from_secs(second), seen) {
            if let Line::Verdict(verdict) = line {
                lines.push((second, verdict.to_string()));
            }
        }
    }
    lines
}

#[tokio::test]
async fn the_first_verdict_waits_for_all_targets_but_not_for_ever() {
    let started = Instant::now();
    let mut unscraped = seen(vec![job("api", 41, vec![])]);
    unscraped.jobs[0].unscraped = 1;
    let mut voice = Voice::new(started, &unscraped);
    let lines = said(&mut voice, started, 0..40, &unscraped);
    assert!(lines.len() == 1 && lines[0].0 == 30, "{lines:?}");
    assert!(lines[0].1.contains("and 1 not scraped yet"), "{lines:?}");
    let all = seen(vec![job("api", 41, vec![])]);
    let mut voice = Voice::new(started, &unscraped);
    assert_eq!(said(&mut voice, started, 0..5, &unscraped), []);
    assert_eq!(said(&mut voice, started, 5..30, &all).len(), 1);
}

#[tokio::test]
async fn a_change_is_said_at_once_and_else_a_line_a_minute() {
    let started = Instant::now();
    let well = seen(vec![job("api", 41, vec![])]);
    let down = seen(vec![job("api", 41, vec![target(7, REFUSED)])]);
    let more = seen(vec![job("api", 41, vec![target(7, REFUSED), target(8, REFUSED)])]);
    let mut voice = Voice::new(started, &well);
    let at = |lines: Vec<(u64, String)>| lines.into_iter().map(|(second, _)| second).collect::<Vec<_>>();
    assert_eq!(at(said(&mut voice, started, 0..130, &well)), [0, 60, 120]);
    // Gathered for three seconds, and not within ten of the last.
    assert_eq!(at(said(&mut voice, started, 130..150, &down)), [133]);
    // More of the same is none.
    assert_eq!(at(said(&mut voice, started, 150..200, &more)), [193]);
    // The same as before is not said again within a minute.
    let mut lines = Vec::new();
    for second in 200..400 {
        let now = if second % 20 < 10 { &well } else { &down };
        lines.extend(said(&mut voice, started, second..second + 1, now));
    }
    for (index, (second, text)) in lines.iter().enumerate() {
        let again = lines[index + 1..].iter().find(|(_, other)| kind_of(other, "") == kind_of(text, ""));
        assert!(again.is_none_or(|(at, _)| at - second >= 58), "{lines:?}");
    }
    assert!(lines.len() >= 4, "{lines:?}");
}

#[tokio::test]
async fn a_new_loss_is_said_at_once_and_its_end_with_the_next_verdict() {
    let started = Instant::now();
    let well = seen(vec![job("api", 41, vec![])]);
    let mut refused = well.clone();
    refused.endpoints[0].dropped = [("label_value_too_long".to_owned(), (3, true))].into();
    let mut voice = Voice::new(started, &well);
    assert_eq!(said(&mut voice, started, 0..20, &well).len(), 1);
    let lines = said(&mut voice, started, 20..140, &refused);
    let at: Vec<_> = lines.iter().map(|(second, _)| *second).collect();
    assert_eq!(at, [23, 83], "{lines:?}");
    assert!(
        lines[0].1.starts_with("3 samples refused by amp") && lines[1].1.starts_with("well"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn scrapes_that_a_gateway_does_not_take_are_said_as_long_as_more_are_missed() {
    let started = Instant::now();
    let well = seen(vec![job("apps", 41, vec![])]);
    let missed =
        |count: u64| Observation { missed_at: [("gateway:80".to_owned(), count)].into(), ..well.clone() };
    let mut voice = Voice::new(started, &well);
    assert_eq!(said(&mut voice, started, 0..20, &well).len(), 1);
    let mut lines = said(&mut voice, started, 20..30, &missed(40));
    lines.extend(said(&mut voice, started, 30..100, &missed(52)));
    // With a single target the address is not told of, and then again, with what it missed before.
    lines.extend(said(&mut voice, started, 100..110, &well));
    lines.extend(said(&mut voice, started, 110..160, &missed(52)));
    let (at, said): (Vec<_>, Vec<_>) = lines.iter().map(|(second, text)| (*second, text.as_str())).unzip();
    assert_eq!(at, [23, 83, 143], "{lines:?}");
    let words = |missed: u64| format!("gateway:80 does not take as many scrapes as are due: {missed} missed");
    assert!(said[0] == words(40) && said[1] == words(12) && said[2].starts_with("well"), "{lines:?}");
}

/// What each verdict says at the ends of these minutes.
fn minutes(observations: &[Observation]) -> Vec<Verdict> {
    let started = Instant::now();
    let mut voice = Voice::new(started, &observations[0]);
    let mut verdicts = Vec::new();
    for (second, seen) in (0..).zip(observations.iter().flat_map(|seen| std::iter::repeat_n(seen, 60))) {
        for line in voice.hear(started + Duration::from_secs(second), seen) {
            if let Line::Verdict(verdict) = line {
                verdicts.push(*verdict);
            }
        }
    }
    verdicts
}

#[tokio::test]
async fn what_comes_and_goes_with_a_reload_is_counted_once() {
    let two = |delivered: [u64; 2], dropped: u64| {
        let mut seen = seen(vec![job("api", 41, vec![])]);
        seen.endpoints = ["amp", "archive"].map(|key| Endpoint { key: key.to_owned(), ..endpoint() }).into();
        (seen.endpoints[0].delivered, seen.endpoints[1].delivered) = (delivered[0], delivered[1]);
        seen.endpoints[1].dropped = [
            ("label_value_too_long".to_owned(), (dropped, true)),
            ("spool_full".to_owned(), (dropped, false)),
        ]
        .into();
        seen
    };
    let without = |delivered: u64| {
        let mut seen = two([delivered, 0], 0);
        seen.endpoints.pop();
        seen
    };
    let sums = |verdicts: &[Verdict]| {
        let lost =
            |verdict: &Verdict| verdict.refused.values().sum::<u64>() + verdict.dropped.values().sum::<u64>();
        let sum = |of: &dyn Fn(&Verdict) -> u64| verdicts.iter().map(of).sum::<u64>();
        (sum(&|verdict| verdict.delivered), sum(&lost))
    };
    // (what is seen minute for minute, delivered, lost)
    for (name, minutes_seen, expected) in [
        ("its ledger is of earlier runs", vec![two([100, 900], 50), two([150, 930], 50)], (80, 0)),
        ("it leaves", vec![two([100, 900], 50), without(150), without(170)], (70, 0)),
        ("it is added with a ledger", vec![without(100), two([100, 900], 50), two([110, 920], 51)], (30, 2)),
        (
            "it leaves and comes back",
            vec![two([100, 900], 50), without(150), two([150, 900], 50), two([150, 910], 50)],
            (60, 0),
        ),
        (
            "it comes back with what it was sent as it left",
            vec![two([100, 900], 50), without(150), two([150, 925], 52)],
            (75, 4),
        ),
        (
            "its ledger began anew",
            vec![two([100, 900], 50), without(100), two([100, 7], 1), two([100, 9], 1)],
            (9, 2),
        ),
        ("its ledger is gone in place", vec![two([100, 900], 50), two([100, 20], 0)], (20, 0)),
    ] {
        let verdicts = minutes(&minutes_seen);
        assert_eq!(sums(&verdicts), expected, "{name}: {verdicts:#?}");
        if expected.1 == 0 {
            assert!(verdicts.iter().all(Verdict::is_well), "{name}: {verdicts:#?}");
        }
    }
}

#[tokio::test]
async fn what_a_job_scraped_is_counted_once_too() {
    let jobs = |scraped: &[(&str, u64)]| {
        let mut seen = seen(vec![job("api", 41, vec![])]);
        seen.scraped = scraped.iter().map(|(job, count)| ((*job).to_owned(), *count)).collect();
        seen
    };
    for (minutes_seen, expected) in [
        (vec![jobs(&[("api", 10)]), jobs(&[("api", 30)])], 30),
        (vec![jobs(&[("api", 1000), ("db", 10)]), jobs(&[("db", 20)]), jobs(&[("db", 30)])], 1030),
        // It comes back as another one.
        (vec![jobs(&[("api", 1000)]), jobs(&[]), jobs(&[("api", 1200)])], 2200),
        // It was changed between two looks.
        (vec![jobs(&[("api", 1000)]), jobs(&[("api", 12)])], 1012),
        (vec![jobs(&[]), jobs(&[("api", 5), ("db", 6)])], 11),
    ] {
        let verdicts = minutes(&minutes_seen);
        assert_eq!(verdicts.iter().map(|verdict| verdict.scraped).sum::<u64>(), expected, "{verdicts:#?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_was_changed_has_taken_something() {
    let started = Instant::now();
    let well = seen(vec![job("api", 41, vec![])]);
    let mut changed = well.clone();
    changed.endpoints[0].last_success = None;
    changed.endpoints[0].trouble = Some("answered 503 Service Unavailable".to_owned());
    let mut voice = Voice::new(started, &well);
    assert_eq!(said(&mut voice, started, 0..20, &well).len(), 1);
    let lines = said(&mut voice, started, 20..40, &changed);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].1.starts_with("amp has taken nothing for 5 s: answered 503"), "{lines:?}");
}

#[test]
fn numbers_are_for_people() {
    let numbers = [0, 12, 999, 1000, 72_240, 1_000_000].map(number);
    assert_eq!(numbers, ["0", "12", "999", "1,000", "72,240", "1,000,000"]);
    let durations = [0, 59, 60, 200, 3600, 7500].map(|seconds| duration(Duration::from_secs(seconds)));
    assert_eq!(durations, ["0 s", "59 s", "1 m", "3 m 20 s", "1 h", "2 h 5 m"]);
    assert_eq!([100, 14_336, 5 << 20, 3 << 29].map(size), ["100 bytes", "14 KiB", "5 MiB", "1.5 GiB"]);
}
