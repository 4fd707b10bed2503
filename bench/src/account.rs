//! What became of every scrape: the farm's record held against what the sink received.

use crate::{farm::Record, ledger::Received};
use serde::{Deserialize, Serialize};

/// A scrape answered less than this before a kill may be lost: the collector had not yet said that it has it.
pub const GRACE_MS: i64 = 1000;

/// The balance of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Scrapes that targets answered in full.
    pub answered: u64,
    /// Of these, those of which every sample arrived.
    pub delivered: u64,
    /// Answered more than [`GRACE_MS`] before the next kill, and not delivered whole.
    pub lost: u64,
    /// Answered within [`GRACE_MS`] before a kill, and not delivered whole.
    pub in_flight_at_a_kill: u64,
    /// Samples missing from the scrapes counted in `lost`.
    pub samples_lost: u64,
    /// Targets none of whose samples arrived.
    pub silent_targets: u64,
}

impl Account {
    /// Balances a run in which the collector was killed at the moments `kills_ms` (milliseconds since the epoch).
    pub fn new(record: &Record, received: &Received, kills_ms: &[i64]) -> Self {
        let mut account = Self::default();
        for target in &record.targets {
            let instance = received.instances.get(&target.instance);
            if instance.is_none() {
                account.silent_targets += 1;
            }
            for &(sequence, answered_ms) in &target.answered {
                account.answered += 1;
                let arrived =
                    instance.and_then(|instance| instance.scrapes.get(&sequence)).copied().unwrap_or(0);
                let missing = (record.series as u64).saturating_sub(u64::from(arrived));
                if missing == 0 {
                    account.delivered += 1;
                } else if kills_ms.iter().any(|kill| (0..=GRACE_MS).contains(&(kill - answered_ms))) {
                    account.in_flight_at_a_kill += 1;
                } else {
                    account.lost += 1;
                    account.samples_lost += missing;
                }
            }
        }
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{farm::TargetRecord, ledger::Instance};

    #[test]
    fn each_scrape_is_counted_once() {
        let target = |instance: &str, answered: &[(u64, i64)]| TargetRecord {
            instance: instance.into(),
            answered: answered.to_vec(),
        };
        let record = Record {
            targets: vec![
                target("a:1", &[(1, 1_000), (2, 2_000), (3, 9_500), (4, 20_000)]),
                target("b:1", &[(1, 5_000)]),
            ],
            series: 10,
        };
        let scrapes = [(1, 10), (2, 7), (3, 0)].into();
        let received =
            Received { instances: [("a:1".into(), Instance { scrapes, ..Instance::default() })].into() };
        let account = Account::new(&record, &received, &[10_000]);
        let expected = Account {
            answered: 5,
            delivered: 1,
            lost: 3,
            in_flight_at_a_kill: 1,
            samples_lost: 3 + 10 + 10,
            silent_targets: 1,
        };
        assert_eq!(account, expected);
    }
}
