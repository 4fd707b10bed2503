//! What became of everything, at the end.

use promferry_remote_write::refusal::RefusalClass;
use promferry_remote_write::spool::Reason;
use promferry_remote_write::{Counts, EndpointStatus};

use super::receiver::Seen;
use super::screen::{Screen, Tone};
use crate::counts::{Grouped, plural};

/// The pipeline's ledger beside what the receiver counted.
#[derive(Clone, Debug)]
pub(super) struct Account {
    scraped: Counts,
    delivered: Counts,
    waiting: Counts,
    /// What was refused or given up, by reason, with a series of each.
    refused: Vec<(Reason, Counts, Option<String>)>,
    seen: Seen,
}

impl Account {
    pub(super) fn new(endpoint: &EndpointStatus, seen: Seen) -> Self {
        let ledger = &endpoint.ledger;
        let series_of = |reason: &Reason| {
            let classes = RefusalClass::all().iter().filter(|class| class.reason == *reason);
            let mut refusals = classes.filter_map(|class| endpoint.delivery.refusals.get(class.id));
            refusals.find_map(|refusal| refusal.series.as_deref()).map(short_series)
        };
        Self {
            scraped: ledger.accepted,
            delivered: ledger.delivered,
            waiting: ledger.pending,
            refused: ledger
                .dropped
                .iter()
                .map(|(reason, counts)| (reason.clone(), *counts, series_of(reason)))
                .collect(),
            seen,
        }
    }

    /// Whether everything that was scraped was delivered or refused, the receiver has just that, each series in order
    /// and nothing twice, and every signature was right.
    pub(super) fn balances(&self) -> bool {
        let refused = self.refused.iter().fold(Counts::default(), |sum, (_, counts, _)| sum + *counts);
        self.scraped == self.delivered + refused
            && self.waiting.is_zero()
            && self.seen.taken == self.delivered
            && (self.seen.out_of_order, self.seen.repeated) == (0, 0)
            && self.seen.verified == self.seen.requests
    }

    pub(super) fn tell(&self, screen: &Screen) {
        let (tone, verdict) = match self.balances() {
            true => (Tone::Good, "It balances."),
            false => (Tone::Bad, "It does NOT balance."),
        };
        let refused: u64 = self.refused.iter().map(|(_, counts, _)| counts.values()).sum();
        let waiting = match self.waiting.values() {
            0 => String::new(),
            waiting => format!(" + {} waiting", Grouped(waiting)),
        };
        let seen = &self.seen;
        screen.say(
            tone,
            &format!(
                "account: {} samples scraped = {} delivered + {} refused{waiting}; the receiver counted {}. {verdict}",
                Grouped(self.scraped.values()),
                Grouped(self.delivered.values()),
                Grouped(refused),
                Grouped(seen.taken.values()),
            ),
        );
        for (reason, counts, series) in &self.refused {
            let of = series.as_ref().map(|series| format!(": {series}")).unwrap_or_default();
            screen.say(Tone::Plain, &format!("  refused: {} × {reason}{of}", Grouped(counts.values())));
        }
        let order = match (seen.out_of_order, seen.repeated) {
            (0, 0) => "each series came in order, and nothing twice".to_owned(),
            (out_of_order, repeated) => format!("OUT OF ORDER: {out_of_order}, TWICE: {repeated}"),
        };
        screen.say(
            Tone::Plain,
            &format!(
                "  {order}; {} of them native histograms, and {} came along",
                Grouped(self.delivered.histograms),
                plural(self.delivered.exemplars, "exemplar", "exemplars"),
            ),
        );
        let expired = match seen.expired {
            0 => String::new(),
            expired => format!(
                "; {} with expired credentials {} refused, signed anew and sent again",
                plural(expired, "request", "requests"),
                if expired == 1 { "was" } else { "were" }
            ),
        };
        screen.say(
            Tone::Plain,
            &format!(
                "  signatures checked: {} of {}{expired}",
                Grouped(seen.verified),
                Grouped(seen.requests)
            ),
        );
    }
}

/// Values that are longer are no help in recognising a series.
const LONG_VALUE: usize = 40;
/// What is shown of them.
const SHOWN_OF_LONG_VALUE: usize = 16;

/// A series as Prometheus prints it with the beginnings of its long values, and of the other labels its instance's.
fn short_series(series: &str) -> String {
    let Some((name, labels)) = series.split_once('{') else { return series.to_owned() };
    let labels = labels.split("\", ").filter_map(|label| label.split_once("=\""));
    let labels: Vec<_> = labels.map(|(name, value)| (name, value.trim_end_matches("\"}"))).collect();
    let long: Vec<_> = labels
        .iter()
        .filter(|(_, value)| value.chars().count() > LONG_VALUE)
        .map(|(name, value)| {
            format!("{name}=\"{}…\"", value.chars().take(SHOWN_OF_LONG_VALUE).collect::<String>())
        })
        .collect();
    let instance = labels.iter().find(|(name, _)| *name == "instance");
    let of = instance.map(|(_, instance)| format!(" of {instance}")).unwrap_or_default();
    match &long[..] {
        [] => series.to_owned(),
        long => format!("{name}{{{}}}{of}", long.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let samples = |samples| Counts { samples, ..Counts::default() };
        Account {
            scraped: samples(10),
            delivered: samples(9),
            waiting: Counts::default(),
            refused: vec![(Reason::REFUSED, samples(1), None)],
            seen: Seen { requests: 3, verified: 3, taken: samples(9), ..Seen::default() },
        }
    }

    #[test]
    fn whatever_is_missing_is_no_balance() {
        assert!(account().balances());
        let wrong: [fn(&mut Account); 7] = [
            |account| account.scraped.samples += 1,
            |account| account.waiting.samples += 1,
            |account| account.refused.clear(),
            |account| account.seen.taken.samples -= 1,
            |account| account.seen.out_of_order += 1,
            |account| account.seen.repeated += 1,
            |account| account.seen.verified -= 1,
        ];
        for (at, wrong) in wrong.into_iter().enumerate() {
            let mut account = account();
            wrong(&mut account);
            assert!(!account.balances(), "{at}");
        }
    }

    #[test]
    fn a_series_is_told_by_what_is_too_long_in_it() {
        let long = "wrap ".repeat(100);
        let whole = format!("orders_total{{cluster=\"demo\", instance=\"checkout\", note=\"{long}\"}}");
        for series in [&whole[..], &whole[..300]] {
            assert_eq!(short_series(series), "orders_total{note=\"wrap wrap wrap w…\"} of checkout");
        }
        assert_eq!(short_series("up{job=\"a\"}"), "up{job=\"a\"}");
    }
}
