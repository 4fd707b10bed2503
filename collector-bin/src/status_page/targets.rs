//! Jobs and targets, those that need attention first.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use form_urlencoded::Serializer;
use promferry_discovery::MechanismStatus;
use promferry_model::{Labels, Timestamp};
use promferry_scrape::{ActiveTarget, PoolSummary, TargetHealth};
use smol_str::SmolStr;

use super::Shown;
use super::html::{Cell, Html, SHOWN_ROWS, ago, grouped, text, trouble};
use crate::reasons::brief;

/// Which targets are listed: `?job=NAME&state=down`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    job: Option<String>,
    state: Option<TargetHealth>,
}

const STATES: [TargetHealth; 3] = [TargetHealth::Down, TargetHealth::Unknown, TargetHealth::Up];

impl Filter {
    /// Reads a URL's query; what says nothing, or what nobody knows, filters nothing.
    pub(super) fn parse(query: &str) -> Self {
        let mut filter = Self::default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "job" if !value.is_empty() => filter.job = Some(value.into_owned()),
                "state" => filter.state = STATES.into_iter().find(|state| state.as_str() == value),
                _ => {}
            }
        }
        filter
    }

    fn query(&self) -> String {
        let mut query = Serializer::new(String::new());
        if let Some(job) = &self.job {
            query.append_pair("job", job);
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        query.finish()
    }

    fn is_of_job(&self, target: ActiveTarget<'_>) -> bool {
        self.job.as_ref().is_none_or(|job| job == target.scrape_pool())
    }

    fn shows(&self, target: ActiveTarget<'_>) -> bool {
        self.is_of_job(target) && self.state.is_none_or(|state| state == target.health())
    }

    /// Of all targets which: a text that follows "targets".
    fn description(&self) -> String {
        let of_job = self.job.as_ref().map(|job| format!(" of {job}")).unwrap_or_default();
        let in_state = self.state.map(|state| format!(" that are {}", state.as_str())).unwrap_or_default();
        format!("{of_job}{in_state}")
    }
}

/// What is told of all targets, whose rows are no more than those shown.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Targets of the filter's job in each of the states.
    counts: [u64; STATES.len()],
    /// Targets that the filter lets through.
    matching: u64,
    /// Those of them that come first.
    rows: BTreeMap<RowKey, Row>,
    /// Why targets are down, whatever the filter, and how many each.
    down_for: BTreeMap<String, u64>,
}

/// In the order in which targets are shown.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    /// The state's place among all.
    place: usize,
    job: SmolStr,
    url: String,
    identity: u64,
}

#[derive(Debug)]
struct Row {
    health: TargetHealth,
    last_error: String,
    last_scrape: Option<(Timestamp, Duration)>,
    labels: String,
}

impl Listed {
    pub(super) fn add(&mut self, filter: &Filter, target: ActiveTarget<'_>) {
        let health = target.health();
        if health == TargetHealth::Down {
            *self.down_for.entry(brief(target.last_error())).or_default() += 1;
        }
        let place = STATES.iter().position(|state| *state == health).unwrap_or_default();
        self.counts[place] += u64::from(filter.is_of_job(target));
        if !filter.shows(target) {
            return;
        }
        self.matching += 1;
        let key = RowKey {
            place,
            job: target.scrape_pool().clone(),
            url: target.target().url().to_owned(),
            identity: target.target().identity(),
        };
        let is_full = self.rows.len() >= SHOWN_ROWS;
        if is_full && self.rows.last_key_value().is_some_and(|(last, _)| *last <= key) {
            return;
        }
        if is_full {
            self.rows.pop_last();
        }
        let row = Row {
            health,
            last_error: target.last_error().to_owned(),
            last_scrape: target.last_scrape(),
            labels: own_labels(target.target().public_labels()),
        };
        self.rows.insert(key, row);
    }

    pub(super) fn down_for(&self) -> &BTreeMap<String, u64> {
        &self.down_for
    }
}

impl Html {
    pub(super) fn scraping(&mut self, shown: &Shown) {
        let mut jobs: Vec<_> = shown.pools.iter().map(|pool| JobRow::of(pool, shown)).collect();
        // Stable: by name among equals.
        jobs.sort_by_key(|job| Reverse((job.down, job.why_none.is_some())));
        let heads = [
            "job",
            "discovered",
            "kept",
            "up",
            "down",
            "series",
            "scheduled",
            "scraped",
            "failed",
            "missed",
            "left out",
        ];
        self.table("Scraping", &heads, jobs.into_iter().map(JobRow::cells));
    }

    pub(super) fn targets(&mut self, shown: &Shown) {
        let (filter, listed) = (&shown.filter, &shown.listed);
        if listed.matching == 0 && *filter == Filter::default() {
            return;
        }
        self.anchor("targets");
        self.title("Targets");
        let of_job = |state| Filter { state, ..filter.clone() };
        let mut links = vec![("all jobs".to_owned(), String::new())];
        links.extend(STATES.into_iter().zip(listed.counts).filter(|(_, count)| *count > 0).map(
            |(state, count)| (format!("{} {}", grouped(count), state.as_str()), of_job(Some(state)).query()),
        ));
        self.links(links);
        let (all, rows) = (listed.matching, listed.rows.len() as u64);
        let which = filter.description();
        if rows < all {
            let (listed, all) = (grouped(rows), grouped(all));
            self.paragraph(
                "bounds",
                &format!(
                    "Shown are {listed} of {all} targets{which}, those that are down first. A job's name above and the \
                     numbers here lead to others; /api/v1/targets has them all."
                ),
            );
        } else if *filter != Filter::default() {
            self.paragraph("bounds", &format!("{} targets{which}.", grouped(all)));
        }
        let heads = ["job", "target", "health", "last error", "last scrape", "took", "labels"];
        // Those beyond were counted above.
        let rows = listed.rows.iter().map(|(RowKey { job, url, .. }, row)| {
            let health = row.health.as_str();
            let is_down = row.health == TargetHealth::Down;
            [
                text(job),
                text(url),
                if is_down { trouble(health) } else { text(health) },
                trouble(&row.last_error),
                text(row.last_scrape.map(|(at, _)| ago(at, shown.now)).unwrap_or_default()),
                text(row.last_scrape.map(|(_, took)| format!("{} ms", took.as_millis())).unwrap_or_default()),
                text(&row.labels),
            ]
        });
        self.rows(&heads, rows);
    }

    pub(super) fn discovery(&mut self, mechanisms: &[MechanismStatus]) {
        let mut mechanisms: Vec<_> = mechanisms.iter().collect();
        mechanisms.sort_by_key(|mechanism| !mechanism.is_failing);
        let rows = mechanisms.into_iter().map(|mechanism| {
            let jobs: Vec<_> = mechanism.jobs.iter().map(ToString::to_string).collect();
            let failure = mechanism.last_failure.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
            [
                text(mechanism.mechanism),
                text(&mechanism.subject),
                text(jobs.join(", ")),
                text(mechanism.targets),
                text(format!("{} of {}", mechanism.failures_total, mechanism.refreshes_total)),
                if mechanism.is_failing { trouble(failure) } else { text(failure) },
            ]
        });
        let heads = ["discovery by", "looks at", "for jobs", "targets", "failed", "last failure"];
        self.table("Discovery", &heads, rows);
    }
}

/// A job's way from what is discovered to what is up.
struct JobRow {
    name: String,
    discovered: u64,
    kept: u64,
    up: u64,
    down: u64,
    series: u64,
    scheduled: u64,
    scraped: u64,
    failed: String,
    missed: String,
    left_out: String,
    why_none: Option<String>,
}

impl JobRow {
    fn of(pool: &PoolSummary, shown: &Shown) -> Self {
        let reasons = |reasons: &BTreeMap<&str, u64>| {
            let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            reasons.join(", ")
        };
        let stats = shown.jobs.get(&pool.scrape_pool);
        let ledger = stats.map(|stats| stats.ledger.clone()).unwrap_or_default();
        Self {
            name: pool.scrape_pool.to_string(),
            discovered: pool.discovered,
            kept: pool.active,
            up: pool.up,
            down: pool.down,
            series: stats.map_or(0, |stats| stats.series),
            scheduled: ledger.scheduled,
            scraped: ledger.scraped,
            failed: reasons(&ledger.failed),
            missed: reasons(&ledger.missed),
            left_out: left_out(pool),
            why_none: why_none(pool, &shown.mechanisms),
        }
    }

    fn cells(self) -> [Cell; 11] {
        let of_job = |state| Filter { job: Some(self.name.clone()), state }.query();
        let down = match self.down {
            0 => text(0),
            down => Cell::Link { text: down.to_string(), query: of_job(Some(TargetHealth::Down)) },
        };
        [
            Cell::Link { query: of_job(None), text: self.name.clone() },
            text(self.discovered),
            text(self.kept),
            text(self.up),
            down,
            text(self.series),
            text(self.scheduled),
            text(self.scraped),
            text(self.failed),
            text(self.missed),
            text(self.why_none.unwrap_or(self.left_out)),
        ]
    }
}

/// Why a job has no targets, if it has none.
pub(super) fn why_none(pool: &PoolSummary, mechanisms: &[MechanismStatus]) -> Option<String> {
    if pool.active > 0 {
        return None;
    }
    if pool.discovered > 0 {
        return Some(left_out(pool));
    }
    let of_job: Vec<_> =
        mechanisms.iter().filter(|mechanism| mechanism.jobs.contains(&pool.scrape_pool)).collect();
    if of_job.is_empty() {
        return Some("the job has no service discovery".to_owned());
    }
    let failing = of_job.iter().filter(|mechanism| mechanism.is_failing);
    let failures: Vec<_> = failing
        .filter_map(|mechanism| {
            let (_, why) = mechanism.last_failure.as_ref()?;
            Some(format!("{} discovery fails: {why}", mechanism.mechanism))
        })
        .collect();
    if !failures.is_empty() {
        return Some(failures.join("; "));
    }
    let looked: Vec<_> = of_job
        .iter()
        .map(|mechanism| {
            if let Some(remark) = &mechanism.remark {
                return format!("{} discovery has found nothing: {remark}", mechanism.mechanism);
            }
            let yet = if mechanism.last_success.is_none() { " yet" } else { "" };
            format!("{} discovery has found nothing{yet} ({})", mechanism.mechanism, mechanism.subject)
        })
        .collect();
    Some(looked.join("; "))
}

/// What of a job's discovered targets is not scraped, and why.
fn left_out(pool: &PoolSummary) -> String {
    let mut reasons: Vec<String> = pool
        .dropped_by
        .iter()
        .map(|by| format!("{} dropped by relabel_configs[{}]: {}", grouped(by.targets), by.rule, by.text))
        .collect();
    reasons.extend(
        pool.invalid
            .iter()
            .map(|invalid| format!("{} can't be scraped: {}", grouped(invalid.targets), invalid.error)),
    );
    if pool.duplicates > 0 {
        reasons.push(format!("{} the same as others", grouped(pool.duplicates)));
    }
    if let Some(limit) = pool.exceeded_target_limit {
        reasons.push(format!("more than target_limit {limit}: each scrape fails"));
    }
    reasons.join("; ")
}

/// What tells a target from others of its job.
fn own_labels(labels: &Labels) -> String {
    let own = labels.iter().filter(|label| label.name != "job");
    let shown: Vec<_> = own.map(|label| format!("{}={:?}", label.name, label.value.as_str())).collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_its_links_say() {
        for (query, description) in [
            ("", ""),
            ("state=down", " that are down"),
            ("job=a+b%26c", " of a b&c"),
            ("job=a&state=up", " of a that are up"),
            ("job=&state=sideways&x=y", ""),
        ] {
            let filter = Filter::parse(query);
            assert_eq!(filter.description(), description);
            assert_eq!(Filter::parse(&filter.query()), filter);
        }
    }

    #[test]
    fn a_job_without_targets_says_why() {
        let mut pool = PoolSummary::default();
        pool.scrape_pool = "api".into();
        assert_eq!(why_none(&pool, &[]).unwrap(), "the job has no service discovery");
        pool.discovered = 12;
        pool.duplicates = 2;
        assert_eq!(why_none(&pool, &[]).unwrap(), "2 the same as others");
    }
}
