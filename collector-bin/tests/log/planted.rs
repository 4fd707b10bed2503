//! A log with faults in it: each cause is there once, in plain words.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::collector::is_full_tier;
use crate::collector::log_lines::{LogLine, assert_nothing_is_said_twice_a_minute};
use crate::world::{Fault, World};

/// A fault, when it is planted and mended (in seconds), what it is, and what a line about it has in it.
struct Planted {
    fault: Fault,
    at: u64,
    until: Option<u64>,
    what: &'static str,
    said: &'static [&'static str],
}

const TEN: [Planted; 10] = [
    Planted {
        fault: Fault::EverythingDropped,
        at: 0,
        until: None,
        what: "job pods has a relabelling rule (keep, __meta_scrape) that drops all of its 12 targets",
        said: &["pods", "all dropped by relabel_configs[0]", "__meta_scrape"],
    },
    Planted {
        fault: Fault::ExpiredCertificate,
        at: 0,
        until: None,
        what: "the TLS certificate of the target of job vault has expired",
        said: &["vault", "expired"],
    },
    Planted {
        fault: Fault::NoSuchPage,
        at: 40,
        until: Some(160),
        what: "the target of job billing answers 404",
        said: &["billing", "down", "404"],
    },
    Planted {
        fault: Fault::BrokenPage,
        at: 80,
        until: Some(260),
        what: "the page of job search has a syntax error in its second line",
        said: &["search", "down", "line 2"],
    },
    Planted {
        fault: Fault::GatewayGone,
        at: 120,
        until: None,
        what: "the gateway in front of all 30 targets of job services is gone: nobody listens there",
        said: &["services", "of 30 targets", "connection refused"],
    },
    Planted {
        fault: Fault::ReceiverAway,
        at: 180,
        until: Some(300),
        what: "the receiver of endpoint archive answers 503 for two minutes",
        said: &["archive", "503", "the data is kept"],
    },
    Planted {
        fault: Fault::LongLabelValue,
        at: 330,
        until: Some(420),
        what: "job orders exposes a label value of 3,000 characters, which endpoint archive refuses (400)",
        said: &["archive", "label_value_too_long", "orders_total"],
    },
    Planted {
        fault: Fault::NoPermission,
        at: 380,
        until: Some(470),
        what: "the role that signs for endpoint amp is not allowed to write any more (403)",
        said: &["amp", "403", "aps:RemoteWrite"],
    },
    Planted {
        fault: Fault::BrokenFile,
        at: 440,
        until: None,
        what: "the file that job reports reads its targets from is broken JSON",
        said: &["file discovery of job reports", "reports.json"],
    },
    Planted {
        fault: Fault::TooManySamples,
        at: 500,
        until: None,
        what: "the page of job catalog has 50 samples, more than its sample_limit of 10",
        said: &["catalog", "down", "sample limit"],
    },
];

const EXCERPT: [(Fault, u64, Option<u64>); 5] = [
    (Fault::EverythingDropped, 0, None),
    (Fault::NoSuchPage, 8, Some(40)),
    (Fault::GatewayGone, 22, None),
    (Fault::ReceiverAway, 36, Some(54)),
    (Fault::LongLabelValue, 64, None),
];

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_with_ten_faults() {
    if !is_full_tier() {
        return excerpt().await;
    }
    let log = play(&TEN, "5s", 600).await;
    let kept = std::env::var_os("PROMFERRY_TEN_FAULTS").map(PathBuf::from).unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache/full/ten-faults.log"))
    });
    if let Some(folder) = kept.parent() {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(&kept, &log).unwrap();
    let list: String =
        TEN.iter().map(|planted| format!("after {:3} s: {}\n", planted.at, planted.what)).collect();
    std::fs::write(kept.with_extension("planted"), &list).unwrap();
    eprintln!("{list}\n{log}");
    judge(&TEN, &log);
}

/// Five of them in a minute and a half.
async fn excerpt() {
    let planted = EXCERPT.map(|(fault, at, until)| {
        let of_ten = TEN.iter().find(|planted| planted.fault == fault).unwrap();
        Planted { fault, at, until, what: of_ten.what, said: of_ten.said }
    });
    let log = play(&planted, "2s", 85).await;
    eprintln!("{log}");
    judge(&planted, &log);
}

async fn play(planted: &[Planted], interval: &str, seconds: u64) -> String {
    let mut world = World::new().await;
    let from_start: Vec<_> =
        planted.iter().filter(|planted| planted.at == 0).map(|planted| planted.fault).collect();
    world.start(interval, &from_start).await;
    let mut turns: Vec<_> = planted
        .iter()
        .flat_map(|planted| {
            let mend = planted.until.map(|until| (until, planted.fault, false));
            [Some((planted.at, planted.fault, true)), mend].into_iter().flatten()
        })
        .collect();
    turns.sort_by_key(|(at, ..)| *at);
    let started = Instant::now();
    for (at, fault, is_planted) in turns {
        tokio::time::sleep((started + Duration::from_secs(at)).saturating_duration_since(Instant::now()))
            .await;
        if is_planted { world.plant(fault).await } else { world.mend(fault).await }
    }
    tokio::time::sleep((started + Duration::from_secs(seconds)).saturating_duration_since(Instant::now()))
        .await;
    world.end().await
}

fn judge(planted: &[Planted], log: &str) {
    let lines: Vec<_> =
        log.lines().map(|line| LogLine::read(line).unwrap_or_else(|| panic!("{line:?}"))).collect();
    assert_nothing_is_said_twice_a_minute(&lines);
    for Planted { fault, said, .. } in planted {
        let about: Vec<_> = lines
            .iter()
            .filter(|line| !line.is_verdict() && line.level != "INFO")
            .filter(|line| said.iter().all(|part| line.message.contains(part)))
            .collect();
        assert_eq!(about.len(), 1, "{fault:?} is said {} times: {about:#?}\n{log}", about.len());
    }
    // Nothing else is complained of: what is not a verdict and no cause of the above is no warning.
    for line in lines.iter().filter(|line| !line.is_verdict() && line.level != "INFO") {
        let is_about_one =
            planted.iter().any(|planted| planted.said.iter().all(|part| line.message.contains(part)));
        let is_advice = line.message.contains("spool") || line.message.contains("limit of open files");
        assert!(is_about_one || is_advice, "not planted: {line:?}");
    }
}
