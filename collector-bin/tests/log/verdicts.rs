//! When verdicts are given, and what they say.

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::port::HeldPort;
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use promferry_bench::sink::Sink;

use crate::collector::log_lines::{LogLine, assert_nothing_is_said_twice_a_minute};
use crate::collector::{Collector, config, config_to, until};
use crate::receiver::{REQUEST_ID, Receiver};

fn verdicts(collector: &Collector) -> Vec<LogLine> {
    collector.log_lines().into_iter().filter(LogLine::is_verdict).collect()
}

async fn until_verdict(collector: &Collector, part: &str) -> LogLine {
    let find = || verdicts(collector).into_iter().find(|line| line.message.contains(part));
    until(&format!("a verdict says {part:?}"), async || find().is_some()).await;
    find().unwrap()
}

fn start(folder: &Path, config: &str, flags: &[&str]) -> Collector {
    Collector::start_with(folder, config, None, flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_verdict_comes_after_the_first_cycle() {
    for (flags, interval) in [(&[][..], "3s"), (&["--log.format=json", "--log.level=info"], "3s")] {
        let folder = tempfile::tempdir().unwrap();
        let (farm, sink) =
            (Farm::start(5, 100).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
        let collector = start(folder.path(), &config(farm.addresses(), &sink, interval), flags);
        until("there is a verdict", async || !verdicts(&collector).is_empty()).await;
        let verdict = verdicts(&collector).remove(0);
        assert_eq!(verdict.level, "INFO");
        assert!(verdict.message.starts_with("well: 5 of 5 targets up, "), "{verdict:?}");
        let field = |name: &str| verdict.fields[name].clone();
        for (name, value) in
            [("discovered", "5"), ("kept", "5"), ("up", "5"), ("down", "0"), ("refused", "0")]
        {
            assert_eq!(field(name), value, "{name}");
        }
        assert!(field("scraped").parse::<u64>().unwrap() >= 500, "{verdict:?}");
        let asked = farm.record().targets.iter().all(|target| !target.answered.is_empty());
        assert!(asked, "it came before all targets were scraped");
        // One format and one line an event, all through.
        let log = collector.written_log();
        let is_json = !flags.is_empty();
        assert!(log.lines().all(|line| line.starts_with('{') == is_json), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_accepted_write_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let target = ScriptedTarget::start(Page::text("a 1\n")).await.unwrap();
    let receiver = Receiver::start().await;
    let config = config_to(&[target.address()], &receiver.url(), "500ms") + "  name: amp\n";
    let collector = start(folder.path(), &config, &[]);
    let said = || {
        let lines = collector.log_lines();
        lines.into_iter().filter(|line| line.message.contains("first write accepted")).collect::<Vec<_>>()
    };
    until("it is said", async || !said().is_empty()).await;
    let before = receiver.samples();
    until("more arrives", async || receiver.samples() > before + 50).await;
    let [line] = &said()[..] else { panic!("{:?}", said()) };
    let host = receiver.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    assert!(line.message.starts_with(&format!("amp: first write accepted by {host}: ")), "{line:?}");
    assert!(line.message.ends_with(&format!(" samples, request id {REQUEST_ID}")), "{line:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_said_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let page = || Page::text("a 1\n");
    let (a, b) = (ScriptedTarget::start(page()).await.unwrap(), ScriptedTarget::start(page()).await.unwrap());
    let receiver = Receiver::start().await;
    let config = config_to(&[a.address(), b.address()], &receiver.url(), "2s");
    let collector = start(folder.path(), &config, &[]);
    let first = until_verdict(&collector, "well: 2 of 2").await;
    a.show(Page::status(StatusCode::NOT_FOUND));
    let changed = until_verdict(&collector, "1 of 2 targets down").await;
    assert_eq!(changed.level, "WARN");
    let after = changed.at.duration_since(first.at).unwrap();
    assert!(after < Duration::from_secs(55), "it came with the minute's verdict: {after:?}");
    assert!(changed.message.contains("404 Not Found (farm)"), "{changed:?}");
    // After the line that tells all of it.
    let lines = collector.log_lines();
    let whole = format!("is down, http://{}/metrics: server returned HTTP status 404 Not Found", a.address());
    let at = |part: &str| lines.iter().position(|line| line.message.contains(part));
    assert!(at(&whole).is_some() && at(&whole) < at("1 of 2 targets down"), "{lines:#?}");
    receiver.set_away(true);
    let away = until_verdict(&collector, "has taken nothing for").await;
    assert!(away.message.contains("503") && away.message.contains("1 of 2 targets down"), "{away:?}");
    // Each is said once by itself, when it begins.
    let lines = collector.log_lines();
    for part in ["is down, http://", "the data is kept"] {
        let about = lines.iter().filter(|line| !line.is_verdict() && line.message.contains(part));
        assert_eq!(about.count(), 1, "{part}: {lines:#?}");
    }
    a.show(page());
    receiver.set_away(false);
    let over = |part: &'static str| {
        let collector = &collector;
        async move {
            until(part, async || collector.log_lines().iter().any(|line| line.message.contains(part))).await;
        }
    };
    over("accepts data again").await;
    over("1 target is up again after").await;
    assert_nothing_is_said_twice_a_minute(&collector.log_lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_targets_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "[{]").unwrap();
    let empty = folder.path().join("empty.json");
    std::fs::write(&empty, "[]").unwrap();
    let nobody = HeldPort::any().unwrap();
    let file = |path: &Path| format!("  file_sd_configs: [{{files: ['{}']}}]\n", path.display());
    let pods = "  static_configs: [{targets: ['10.0.3.1:80', '10.0.3.2:80']}]\n";
    let mut running = Vec::new();
    for (name, job, expected) in [
        ("nothing", None, vec!["the configuration has no scrape_configs"]),
        ("no-discovery", Some(String::new()), vec!["it has no static_configs and no other discovery"]),
        ("empty", Some(file(&empty)), vec!["file discovery", "empty.json", "finds none"]),
        (
            "missing",
            Some(file(&folder.path().join("missing.json"))),
            vec!["there is no file", "missing.json"],
        ),
        ("broken", Some(file(&broken)), vec!["file discovery failed", "broken.json"]),
        (
            "refused",
            Some(format!(
                "  http_sd_configs: [{{url: 'http://{}/sd', refresh_interval: 1s}}]\n",
                nobody.address()
            )),
            vec!["http discovery failed", "connection refused"],
        ),
        (
            "dropped",
            Some(format!(
                "{pods}  relabel_configs: [{{source_labels: [__meta_scrape], regex: 'true', action: keep}}]\n"
            )),
            vec!["discovered 2, all dropped by relabel_configs[0] (keep __meta_scrape =~ \"true\")"],
        ),
    ] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let job = job.map(|job| format!("scrape_configs:\n- job_name: {name}\n{job}")).unwrap_or_default();
        let config = format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n{job}");
        running.push((name, start(&folder, &config, &[]), expected));
    }
    for (name, collector, expected) in &running {
        let verdict = until_verdict(collector, "no targets: ").await;
        assert_eq!((verdict.level.as_str(), verdict.fields["kept"].as_str()), ("WARN", "0"));
        for part in expected {
            assert!(verdict.message.contains(part), "{name}: {verdict:?}");
        }
        assert!(*name == "nothing" || verdict.message.contains(&format!("job {name}: ")), "{verdict:?}");
    }
    // Discovery that fails again and again, or lacks a file, says so once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (name, collector, _) in running {
        let lines = collector.log_lines();
        let about =
            lines.iter().filter(|line| !line.is_verdict() && line.message.contains(" discovery")).count();
        assert_eq!(
            about,
            usize::from(matches!(name, "missing" | "broken" | "refused")),
            "{name}: {lines:#?}"
        );
    }
    // Over its limit a job keeps its targets, and none of them is scraped.
    let over = folder.path().join("over");
    std::fs::create_dir(&over).unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: over\n  target_limit: 1\n{pods}"
    );
    let collector = start(&over, &config, &[]);
    let verdict = until_verdict(&collector, "2 of 2 targets down").await;
    assert!(
        verdict.message.contains("2 of 2 targets down: target_limit exceeded (2 of over)"),
        "{verdict:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_targets_behind_a_dead_gateway_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = ScriptedTarget::start(Page::text("a 1\n")).await.unwrap();
    let receiver = Receiver::start().await;
    let groups: String = (0..200)
        .map(|at| {
            format!(
                "  - {{targets: ['{}'], labels: {{instance: pod-{at}, __metrics_path__: /pod-{at}}}}}\n",
                gateway.address()
            )
        })
        .collect();
    let config = config_to(&[], &receiver.url(), "2s")
        .replace("  static_configs: [{targets: []}]\n", &format!("  static_configs:\n{groups}"));
    let collector = start(folder.path(), &config, &[]);
    until_verdict(&collector, " of 200 targets ").await;
    drop(gateway);
    until_verdict(&collector, "connection refused").await;
    let said = || {
        let lines = collector.log_lines();
        lines.into_iter().filter(|line| line.message.contains("connection refused")).collect::<Vec<_>>()
    };
    until("it is said by itself", async || said().iter().any(|line| !line.is_verdict())).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (verdicts, others): (Vec<_>, Vec<_>) = said().into_iter().partition(LogLine::is_verdict);
    let down: u64 = verdicts.iter().map(|verdict| verdict.fields["down"].parse::<u64>().unwrap()).sum();
    assert!(down >= 2, "{verdicts:#?}");
    // A machine that stands still while it happens may split it, but never by target.
    assert!(verdicts.len() + others.len() <= 5, "{verdicts:#?} {others:#?}");
    assert!(
        others.iter().any(|line| line.message.contains(" of 200 targets are down, such as ")),
        "{others:?}"
    );
    assert_nothing_is_said_twice_a_minute(&collector.log_lines());
}
