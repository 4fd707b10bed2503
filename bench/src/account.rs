//! What became of every scrape: the farm's record held against what the sink received.

use crate::{farm::Record, ledger::Received};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The grace that a collector gets on a machine that has time for it.
pub const GRACE_MS: i64 = 1000;
/// A scrape's timestamp is the moment it was due, which may lie this much before the end of the one before it.
const TIMESTAMP_SLACK_MS: i64 = 50;

/// The balance of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Account {
    /// Scrapes that targets answered in full.
    pub answered: u64,
    /// Of these, those of which every sample arrived.
    pub delivered: u64,
    /// Not delivered whole, and nothing explains it.
    pub lost: u64,
    /// Not delivered whole; they were in the collector's hands when it was interrupted.
    pub in_flight_at_a_kill: u64,
    /// Answered in full, but the collector itself says (`up 0`) that the scrape failed: it read the answer too late.
    pub failed: u64,
    /// Samples missing from the scrapes counted in `lost`.
    pub samples_lost: u64,
    /// Targets none of whose samples arrived.
    pub silent_targets: u64,
}

/// A time in which the collector was not there: from a kill (or from SIGTERM) to the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// When the signal was sent, milliseconds since the epoch.
    pub began_ms: i64,
    /// When nothing of it was left, not even answers on their way to it; before the next start.
    pub over_ms: i64,
    /// How long before the signal a target's last scrape may have been answered and be lost all the same, because the
    /// collector had not yet said that it has it.
    pub grace_ms: i64,
}

/// A scrape that was answered in full and did not arrive whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The target.
    pub instance: String,
    /// The scrape's number.
    pub sequence: u64,
    /// When it was answered, milliseconds since the epoch.
    pub answered_ms: i64,
    /// Samples that are not there.
    pub samples: u64,
    /// How long after the answer the next interruption began, milliseconds; negative when it had begun.
    pub until_interruption_ms: Option<i64>,
    /// Whether the target answered no other scrape before that interruption.
    pub is_last_before: bool,
    /// What explains it.
    pub cause: Cause,
}

/// Why a scrape is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing explains it: the collector lost it.
    Lost,
    /// The target's last one before an interruption, answered within the grace before it.
    InHand,
    /// The collector wrote `up 0` for it.
    Failed,
}

impl Account {
    /// Balances a run in which the collector was interrupted so often.
    pub fn new(record: &Record, received: &Received, interruptions: &[Interruption]) -> Self {
        let answered = record.targets.iter().map(|target| target.answered.len() as u64).sum();
        let is_silent = |instance: &str| !received.instances.contains_key(instance);
        let silent_targets =
            record.targets.iter().filter(|target| is_silent(&target.instance)).count() as u64;
        let mut account = Self { answered, delivered: answered, silent_targets, ..Self::default() };
        for missing in missing(record, received, interruptions) {
            account.delivered -= 1;
            match missing.cause {
                Cause::InHand => account.in_flight_at_a_kill += 1,
                Cause::Failed => account.failed += 1,
                Cause::Lost => {
                    account.lost += 1;
                    account.samples_lost += missing.samples;
                }
            }
        }
        account
    }
}

/// Every scrape that was answered in full and did not arrive whole.
pub fn missing(record: &Record, received: &Received, interruptions: &[Interruption]) -> Vec<Missing> {
    let mut all = Vec::new();
    for target in &record.targets {
        let instance = received.instances.get(&target.instance);
        for (index, &(sequence, answered_ms)) in target.answered.iter().enumerate() {
            let arrived = instance.and_then(|instance| instance.scrapes.get(&sequence));
            let arrived = arrived.map_or(0, |arrived| u64::from(arrived.series));
            let samples = (record.series as u64).saturating_sub(arrived);
            if samples == 0 {
                continue;
            }
            let next_answered = target.answered.get(index + 1).map_or(i64::MAX, |(_, at)| *at);
            let interruption = interruptions.iter().find(|next| next.over_ms >= answered_ms);
            let until_interruption_ms = interruption.map(|next| next.began_ms - answered_ms);
            // A target has one scrape under way at a time, so only its last can be in hand.
            let is_last_before = interruption.is_some_and(|next| next_answered > next.over_ms);
            let in_hand = is_last_before
                && interruption.is_some_and(|next| next.began_ms - answered_ms <= next.grace_ms);
            let before = index.checked_sub(1).map_or(i64::MIN, |before| target.answered[before].1);
            let mut failures = instance.iter().flat_map(|instance| &instance.failed_ms);
            let failed =
                failures.any(|at| (before.saturating_sub(TIMESTAMP_SLACK_MS)..=answered_ms).contains(at));
            all.push(Missing {
                instance: target.instance.clone(),
                sequence,
                answered_ms,
                samples,
                until_interruption_ms,
                is_last_before,
                cause: if in_hand {
                    Cause::InHand
                } else if failed {
                    Cause::Failed
                } else {
                    Cause::Lost
                },
            });
        }
    }
    all
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self.cause {
            Cause::Lost => "lost",
            Cause::InHand => "in hand at an interruption",
            Cause::Failed => "failed, as the collector says",
        };
        let Self { instance, sequence, answered_ms, samples, .. } = self;
        write!(f, "{instance} scrape {sequence}, answered at {answered_ms}: {samples} samples, {cause}")?;
        match self.until_interruption_ms {
            Some(until) => {
                let last = if self.is_last_before { "the target's last" } else { "not the target's last" };
                write!(f, " ({until} ms before an interruption, {last})")
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        farm::TargetRecord,
        ledger::{Arrived, Instance},
    };

    const SERIES: u32 = 10;

    fn record(targets: &[(&str, &[(u64, i64)])]) -> Record {
        let targets = targets.iter().map(|(instance, answered)| TargetRecord {
            instance: (*instance).into(),
            answered: answered.to_vec(),
            ..TargetRecord::default()
        });
        Record { targets: targets.collect(), series: SERIES as usize, strangers: Vec::new() }
    }

    fn received(instance: &str, scrapes: &[(u64, u32)], failed_ms: &[i64]) -> Received {
        let arrived = |series| Arrived { series, timestamp_ms: 0 };
        let instance_of = Instance {
            scrapes: scrapes.iter().map(|(sequence, series)| (*sequence, arrived(*series))).collect(),
            failed_ms: failed_ms.iter().copied().collect(),
            ..Instance::default()
        };
        Received { instances: [(instance.into(), instance_of)].into() }
    }

    #[test]
    fn each_scrape_is_counted_once() {
        let record = record(&[
            ("a:1", &[(1, 1_000), (2, 2_000), (3, 9_500), (4, 20_000), (5, 30_000)]),
            ("b:1", &[(1, 5_000)]),
        ]);
        let received = received("a:1", &[(1, SERIES), (2, 7)], &[29_900]);
        let kill = Interruption { began_ms: 10_000, over_ms: 10_200, grace_ms: 1000 };
        let expected = Account {
            answered: 6,
            delivered: 1,
            lost: 3,
            in_flight_at_a_kill: 1,
            failed: 1,
            samples_lost: 3 + 10 + 10,
            silent_targets: 1,
        };
        assert_eq!(Account::new(&record, &received, &[kill]), expected);
    }

    #[test]
    fn in_hand_is_only_the_last_scrape_answered_before_or_while_the_collector_died() {
        let kill = Interruption { began_ms: 10_000, over_ms: 10_200, grace_ms: 1000 };
        for (answered, causes) in [
            (&[(1, 9_000)][..], &[Cause::InHand][..]),
            (&[(1, 8_999)], &[Cause::Lost]),
            // The answer was still being written when the process was gone already.
            (&[(1, 10_200)], &[Cause::InHand]),
            (&[(1, 10_201)], &[Cause::Lost]),
            (&[(1, 9_100), (2, 9_900)], &[Cause::Lost, Cause::InHand]),
            (&[(1, 9_900), (2, 10_300)], &[Cause::InHand, Cause::Lost]),
        ] {
            let found = missing(&record(&[("a:1", answered)]), &received("a:1", &[], &[]), &[kill]);
            let found: Vec<_> = found.iter().map(|missing| missing.cause).collect();
            assert_eq!(found, causes, "{answered:?}");
        }
    }

    #[test]
    fn a_failure_explains_the_scrape_that_it_was_and_no_other() {
        let record = record(&[("a:1", &[(1, 1_300), (2, 2_600), (3, 3_100)])]);
        let found = missing(&record, &received("a:1", &[], &[2_000]), &[]);
        let found: Vec<_> = found.iter().map(|missing| missing.cause).collect();
        assert_eq!(found, [Cause::Lost, Cause::Failed, Cause::Lost]);
    }
}
