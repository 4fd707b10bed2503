//! What our collector must have shown in a run, beside its rivals in the same one.

use crate::{
    collector::Collector,
    lasting_limit::Limited,
    runner::{Measurement, Survival},
};

/// How far behind series that the receiver knows may be while others are refused, milliseconds.
const BEHIND_MAX_MS: i64 = 15_000;

/// What a steady run broke, in sentences: nothing is lost, and no rival with the same message needs fewer bytes.
///
/// With 2.0, whose message has metadata with every series, a Prometheus that has none to send is left out.
pub fn steady(measurements: &[Measurement]) -> Vec<String> {
    let mut broken = Vec::new();
    for ours in measurements.iter().filter(|one| one.collector == Collector::Promferry) {
        if ours.account.lost > 0 || ours.account.silent_targets > 0 {
            broken.push(format!("nothing is lost: {:?}", ours.account));
        }
        for theirs in measurements {
            let same_message = (ours.sink.v2_requests > 0) == (theirs.sink.v2_requests > 0);
            let same_content = ours.sink.v2_requests == 0 || theirs.collector != Collector::Prometheus;
            // What differs by less is the same figure in the table.
            if same_message && same_content && ours.bytes_per_sample > theirs.bytes_per_sample + 0.05 {
                broken.push(format!(
                    "no more bytes a sample than {}: {:.2} against {:.2}",
                    theirs.collector.name(),
                    ours.bytes_per_sample,
                    theirs.bytes_per_sample
                ));
            }
        }
    }
    broken
}

/// What a run with kills or an outage broke: nothing answered a second before is lost, nothing comes out of order.
pub fn survival(survivals: &[Survival]) -> Vec<String> {
    let ours = survivals.iter().filter(|one| one.collector == Collector::Promferry);
    let broken = ours.filter(|one| {
        one.account.lost > 0
            || one.account.silent_targets > 0
            || one.sink.out_of_order > 0
            || one.sink.retimed > 0
    });
    broken
        .map(|one| format!("nothing is lost and all is in order: {:?}, {:?}", one.account, one.sink))
        .collect()
}

/// What a run into a limit broke: the series that the receiver knows lose nothing and are never far behind.
pub fn limited(runs: &[Limited]) -> Vec<String> {
    let mut broken = Vec::new();
    for one in runs.iter().filter(|one| one.collector == Collector::Promferry) {
        if one.known.lost > 0 || one.known.silent_targets > 0 || one.sink.out_of_order > 0 {
            broken.push(format!("known series lose nothing: {:?}, {:?}", one.known, one.sink));
        }
        if one.behind_most_ms > BEHIND_MAX_MS {
            broken.push(format!(
                "known series are at most {BEHIND_MAX_MS} ms behind: {} ms",
                one.behind_most_ms
            ));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Account, ledger::Stats};

    fn limited_run(collector: Collector, lost: u64, behind_most_ms: i64) -> Limited {
        Limited {
            collector,
            version: String::new(),
            known: Account { lost, ..Account::default() },
            behind_most_ms,
            behind_at_the_end_ms: 0,
            requests_before: 1.0,
            requests_after: 1.0,
            sink: Stats::default(),
        }
    }

    #[test]
    fn a_limit_breaks_a_promise_of_ours_alone() {
        for (collector, lost, behind_most_ms, broken) in [
            (Collector::Promferry, 0, 15_000, 0),
            (Collector::Promferry, 0, 15_001, 1),
            (Collector::Promferry, 1, 0, 1),
            (Collector::Promferry, 1, 16_000, 2),
            (Collector::Vmagent, 1, 16_000, 0),
        ] {
            let found = limited(&[limited_run(collector, lost, behind_most_ms)]);
            assert_eq!(found.len(), broken, "{found:?}");
        }
    }

    #[test]
    fn a_kill_may_cost_what_was_in_hand_and_nothing_else() {
        let survived = |collector, lost, out_of_order| Survival {
            collector,
            version: String::new(),
            account: Account { lost, in_flight_at_a_kill: 3, ..Account::default() },
            kills: 1,
            kills_with_receiver_down: 0,
            sink: Stats { out_of_order, duplicates: 7, ..Stats::default() },
            run_ms: 0,
        };
        for (collector, lost, out_of_order, broken) in [
            (Collector::Promferry, 0, 0, 0),
            (Collector::Promferry, 1, 0, 1),
            (Collector::Promferry, 0, 1, 1),
            (Collector::Prometheus, 1, 1, 0),
        ] {
            assert_eq!(survival(&[survived(collector, lost, out_of_order)]).len(), broken);
        }
    }

    #[test]
    fn bytes_are_compared_within_one_message_and_content() {
        let measured = |collector, bytes_per_sample, v2_requests| Measurement {
            collector,
            version: String::new(),
            cpu_seconds_per_million_samples: 1.0,
            cpu_seconds: 1.0,
            system_seconds: 0.1,
            samples: 1,
            rss_mean: 1.0,
            rss_peak: 1,
            anonymous_mean: 1.0,
            bytes_per_sample,
            requests: 1,
            first_sample_ms: None,
            all_targets_ms: None,
            delay_mean_ms: 0.0,
            stop_ms: 0,
            stopped_cleanly: true,
            account: Account::default(),
            sink: Stats { v2_requests, ..Stats::default() },
            harness_cpu_seconds: 0.0,
            load_average: 0.0,
        };
        for (rival, v2_requests, broken) in [
            (measured(Collector::Prometheus, 20.0, 0), 0, 0),
            (measured(Collector::Prometheus, 19.0, 0), 0, 1),
            (measured(Collector::Prometheus, 19.0, 1), 1, 0),
            (measured(Collector::PrometheusMetadata, 19.0, 1), 1, 1),
            (measured(Collector::Vmagent, 19.0, 0), 1, 0),
        ] {
            let found = steady(&[measured(Collector::Promferry, 20.0, v2_requests), rival]);
            assert_eq!(found.len(), broken, "{found:?}");
        }
    }
}
