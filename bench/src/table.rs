//! Measurements as Markdown.

use crate::{
    collector::Collector,
    lasting_limit::{Limited, Plan},
    runner::{Load, Measurement, Survival, Torment},
};
use std::fs;

/// The machine, in one line.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores ({}), Linux {}",
        model.map_or("unknown processor", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The table of a steady run, with the ratio of each to ours when ours is there.
pub fn steady(load: &Load, measurements: &[Measurement]) -> String {
    let mut text = format!(
        "{} targets × {} series, every {} s, {} s measured after {} s{}; {}.\n\n\
         | collector | CPU s per million samples | × | RSS mean | RSS peak | anonymous | × RSS | bytes/sample | samples/request \
         | first sample | all targets | scrapes answered | lost | stop |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        load.targets,
        load.series,
        load.interval_ms as f64 / 1000.0,
        load.window_ms / 1000,
        load.warmup_ms / 1000,
        if load.signed { ", requests signed" } else { "" },
        machine(),
    );
    let ours = measurements.iter().find(|measurement| measurement.collector == Collector::Promferry);
    let ratio = |of: &dyn Fn(&Measurement) -> f64, theirs: &Measurement| match ours {
        Some(ours) if theirs.collector != Collector::Promferry => format!("{:.1}", of(theirs) / of(ours)),
        _ => String::new(),
    };
    let seconds =
        |ms: Option<i64>| ms.map_or_else(|| "never".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
    for one in measurements {
        text.push_str(&format!(
            "| {} | {:.2} | {} | {:.1} MiB | {:.1} MiB | {:.1} MiB | {} | {:.1} | {:.0} | {} | {} | {} | {} | {:.1} s{} |\n",
            one.collector.name(),
            one.cpu_seconds_per_million_samples,
            ratio(&|one| one.cpu_seconds_per_million_samples, one),
            mebibytes(one.rss_mean),
            mebibytes(one.rss_peak as f64),
            mebibytes(one.anonymous_mean),
            ratio(&|one| one.rss_mean, one),
            one.bytes_per_sample,
            one.samples as f64 / one.requests as f64,
            seconds(one.first_sample_ms),
            seconds(one.all_targets_ms),
            one.account.answered,
            one.account.lost,
            one.stop_ms as f64 / 1000.0,
            if one.stopped_cleanly { "" } else { ", not cleanly" },
        ));
    }
    text
}

/// The table of runs with kills.
pub fn survival(torment: &Torment, survivals: &[Survival]) -> String {
    let what = if torment.kills == 0 {
        "the receiver gone once".to_owned()
    } else {
        let (shortest, longest) = (torment.life_ms.0 / 1000, torment.life_ms.1 / 1000);
        format!(
            "{} kills with signal 9, each {shortest} to {longest} s after a start (seed {})",
            torment.kills, torment.seed
        )
    };
    let mut text = format!(
        "{} targets × {} series, every {} s; {what}; {}.\n\n\
         | collector | kills (receiver down) | scrapes answered | delivered | lost | samples lost | within 1 s of a kill | out of order | repeated |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        torment.targets,
        torment.series,
        torment.interval_ms as f64 / 1000.0,
        machine(),
    );
    for one in survivals {
        text.push_str(&format!(
            "| {} | {} ({}) | {} | {} | {} | {} | {} | {} | {} |\n",
            one.collector.name(),
            one.kills,
            one.kills_with_receiver_down,
            one.account.answered,
            one.account.delivered,
            one.account.lost,
            one.account.samples_lost,
            one.account.in_flight_at_a_kill,
            one.sink.out_of_order,
            one.sink.duplicates,
        ));
    }
    text
}

/// The table of runs into a limit.
pub fn limited(plan: &Plan, runs: &[Limited]) -> String {
    let refused = match plan.limits.refuse_one_in {
        0 => String::new(),
        one_in => format!(
            ", one in {one_in} refused for good ({})",
            if plan.limits.names_refused { "named" } else { "not named" }
        ),
    };
    let mut text = format!(
        "{} + {} targets × {} series, every {} s; the receiver takes {} series{refused}, the new targets appear after {} s, \
         {} s measured from then; {}.\n\n\
         | collector | known: scrapes answered | delivered whole | lost or still waiting | samples of these | furthest behind \
         | behind at the end | requests/s before | after | samples refused | out of order | repeated |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        plan.known_targets,
        plan.new_targets,
        plan.series,
        plan.interval_ms as f64 / 1000.0,
        plan.limits.active_series.unwrap_or(0),
        plan.warmup_ms / 1000,
        plan.limited_ms / 1000,
        machine(),
    );
    for one in runs {
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {:.1} s | {:.1} s | {:.2} | {:.2} | {} | {} | {} |\n",
            one.collector.name(),
            one.known.answered,
            one.known.delivered,
            one.known.lost,
            one.known.samples_lost,
            one.behind_most_ms as f64 / 1000.0,
            one.behind_at_the_end_ms as f64 / 1000.0,
            one.requests_before,
            one.requests_after,
            one.sink.refused_samples,
            one.sink.out_of_order,
            one.sink.duplicates,
        ));
    }
    text
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
