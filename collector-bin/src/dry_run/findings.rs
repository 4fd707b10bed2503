//! What is wrong, in words.

use std::collections::BTreeMap;
use std::fmt;

use promferry_config::{ConfigWarning, Endpoint};
use promferry_model::Labels;
use promferry_remote_write::EndpointStatus;
use promferry_scrape::{PoolStatus, TargetHealth, TargetStatus};

use super::format::{count, rate, targets, url};
use super::survey::{Ended, Survey};
use crate::reasons::{host_of, kind_of, shortened};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The place in the configuration, where there is one.
    place: Option<String>,
    text: String,
}

impl Finding {
    pub(super) fn new(place: Option<String>, text: impl Into<String>) -> Self {
        Self { place, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Different reasons that are told of one job; more are counted.
const REASONS_TOLD: usize = 5;

/// Everything that is wrong: what the configuration itself says, then job by job, then endpoint by endpoint.
pub(super) fn findings(survey: &Survey<'_>) -> Vec<Finding> {
    let faults: Vec<&ConfigWarning> =
        survey.config.warnings.iter().filter(|warning| warning.is_fault()).collect();
    let mut found = Vec::new();
    // What keeps a run from starting says more than that a file can't be read, and the latter where it is named.
    let mut left_out = survey.left_out.clone();
    for fault in faults.iter().copied() {
        let consequence = left_out.iter_mut().find(|finding| names_file_of(&finding.text, fault));
        match (consequence, fault.position()) {
            (Some(finding), Some(position)) => {
                finding.place = Some(format!("{}:{}", fault.file(), position.line));
            }
            _ => found.push(Finding::new(None, fault.to_string())),
        }
    }
    found.extend(left_out);
    if survey.config.jobs.is_empty() {
        found.push(Finding::new(None, "there are no scrape_configs: nothing is scraped"));
    }
    if survey.config.remote_write.is_empty() {
        found.push(Finding::new(None, "there is no remote_write: nothing is sent"));
    }
    let alike = alike_targets(survey);
    for job in &survey.config.jobs {
        if let Some(pool) = survey.pools.get(&job.scrape.job_name) {
            of_discovery(survey, pool, &mut found);
            of_targets(survey, pool, &faults, &mut found);
            of_series(survey, pool, &alike, &mut found);
        }
    }
    of_alike_targets(survey, &alike, &mut found);
    of_duplicates(survey, &alike, &mut found);
    for (index, endpoint) in survey.config.remote_write.iter().enumerate() {
        let place = survey.config.places.endpoint(index).map(ToString::to_string);
        let key = endpoint.write.key();
        let mut add = |text: String| {
            found.push(Finding::new(place.clone(), format!("remote_write {key}: {text}")));
        };
        of_endpoint(survey, endpoint, &mut add);
        if let Some(status) = survey.endpoints.get(&key) {
            of_delivery(survey, status, &mut add);
            let (samples, limit) =
                (survey.samples_per_second(status), endpoint.write.samples_per_second_limit);
            if limit > 0 && samples >= limit as f64 {
                add(format!(
                    "{} samples/s are more than its samples_per_second_limit of {}",
                    rate(samples),
                    count(limit)
                ));
            }
        }
    }
    let pages_fault = survey.pages_fault.iter();
    found.extend(pages_fault.map(|fault| Finding::new(None, format!("a run would not start: {fault}"))));
    if let Err(reason) = &survey.storage.free_bytes {
        let path = survey.storage.path.display();
        let text = format!("--storage.agent.path {path}: nothing can be written there: {reason}");
        found.push(Finding::new(None, text));
    }
    found
}

/// Whether a text tells of the file that a fault names.
fn names_file_of(text: &str, fault: &ConfigWarning) -> bool {
    let file = fault.message().split_once(" cannot be read: ").map(|(file, _)| file);
    file.is_some_and(|file| text.contains(file))
}

fn place_of_job(survey: &Survey<'_>, job: &str) -> Option<String> {
    survey.config.places.job(job).map(ToString::to_string)
}

/// Why a job has no targets, or not those that it should.
fn of_discovery(survey: &Survey<'_>, pool: &PoolStatus, found: &mut Vec<Finding>) {
    let job = pool.scrape_pool.as_str();
    let place = place_of_job(survey, job);
    let mut add = |text: String| found.push(Finding::new(place.clone(), format!("job {job}: {text}")));
    let mut has_answer = true;
    for mechanism in survey.mechanisms_of(job) {
        let what = format!("{} discovery ({})", mechanism.mechanism, mechanism.subject);
        match &mechanism.last_failure {
            Some((_, reason)) if mechanism.is_failing => {
                has_answer = false;
                // Some begin with what is asked.
                let reason = reason.strip_prefix(&mechanism.subject).unwrap_or(reason);
                add(format!("{what} fails: {}", reason.trim_start_matches(": ")));
            }
            _ if mechanism.last_success.is_none() => {
                has_answer = false;
                add(format!("{what} had no result {}", until(survey.ended)));
            }
            _ => {}
        }
    }
    if pool.discovered == 0 && has_answer {
        let mechanisms: Vec<String> = survey
            .mechanisms_of(job)
            .map(|mechanism| format!("{} discovery ({})", mechanism.mechanism, mechanism.subject))
            .collect();
        add(match mechanisms.as_slice() {
            [] => "no targets: nothing says where they are, such as static_configs".to_owned(),
            mechanisms => format!("no targets: {} found none", mechanisms.join(" and ")),
        });
    }
    for invalid in &pool.invalid {
        let (error, labels) = (&invalid.error, invalid.labels.get("__address__"));
        add(format!("{} cannot be scraped: {error} (such as {labels:?})", targets(invalid.targets)));
    }
    if let Some(limit) = pool.exceeded_target_limit {
        add(format!(
            "none is scraped: {} are more than target_limit {limit}",
            targets(pool.active.len() as u64)
        ));
    }
    if !pool.active.is_empty() || pool.discovered == 0 {
        return;
    }
    for by in &pool.dropped_by {
        let place = survey.config.places.target_rule(job, by.rule).map(ToString::to_string);
        let dropped = match (by.targets, pool.discovered) {
            (1, 1) => "the only one is".to_owned(),
            (1, _) => "1 is".to_owned(),
            (dropped, all) if dropped == all => format!("all {} are", count(all)),
            (dropped, _) => format!("{} are", count(dropped)),
        };
        found.push(Finding::new(place, format!("job {job}: no targets: {dropped} dropped by {by}")));
    }
}

/// Targets that are down, by reason.
fn of_targets(survey: &Survey<'_>, pool: &PoolStatus, faults: &[&ConfigWarning], found: &mut Vec<Finding>) {
    let job = pool.scrape_pool.as_str();
    let place = place_of_job(survey, job);
    let mut add = |text: String| found.push(Finding::new(place.clone(), format!("job {job}: {text}")));
    let all = targets(pool.active.len() as u64);
    let unknown: Vec<_> = pool.active.iter().filter(|t| t.health == TargetHealth::Unknown).collect();
    if let [first, ..] = unknown.as_slice() {
        let (number, first) = (count(unknown.len() as u64), url(&first.scrape_url));
        add(format!("{number} of {all} were not scraped {} (such as {first})", until(survey.ended)));
    }
    if pool.exceeded_target_limit.is_some() {
        return;
    }
    let reasons = down_by_reason(survey, pool);
    for down in reasons.iter().take(REASONS_TOLD) {
        if down.is_own_page || faults.iter().any(|fault| names_file_of(&down.reason, fault)) {
            continue;
        }
        add(format!("{} of {all} down: {down}", count(down.targets)));
    }
    if reasons.len() > REASONS_TOLD {
        let rest: u64 = reasons.iter().skip(REASONS_TOLD).map(|down| down.targets).sum();
        add(format!("{} of {all} down for other reasons", count(rest)));
    }
}

/// Targets of a job that are down for one reason. Displayed as `REASON (URL and 3 more)`.
pub(super) struct DownTargets {
    /// The reason of the first of them.
    pub(super) reason: String,
    pub(super) url: String,
    pub(super) targets: u64,
    /// They are pages that a real run serves.
    is_own_page: bool,
}

impl fmt::Display for DownTargets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, url, targets, .. } = self;
        match targets - 1 {
            0 => write!(f, "{reason} ({url})"),
            more => write!(f, "{reason} ({url} and {} more)", count(more)),
        }
    }
}

/// The targets that are down, those with the most common reason first.
pub(super) fn down_by_reason(survey: &Survey<'_>, pool: &PoolStatus) -> Vec<DownTargets> {
    let mut by_kind: BTreeMap<String, DownTargets> = BTreeMap::new();
    for target in pool.active.iter().filter(|target| target.health == TargetHealth::Down) {
        let shown = url(&target.scrape_url);
        let is_own_page = survey.is_own_page(target);
        let reason = if is_own_page {
            "these are this program's own pages, which a dry run does not serve".to_owned()
        } else {
            target.last_error.replace(&target.scrape_url, shown)
        };
        let new = || DownTargets { reason: reason.clone(), url: shown.to_owned(), targets: 0, is_own_page };
        by_kind.entry(kind_of(&reason, host_of(&target.scrape_url))).or_insert_with(new).targets += 1;
    }
    let mut reasons: Vec<_> = by_kind.into_values().collect();
    reasons.sort_by(|a, b| b.targets.cmp(&a.targets).then_with(|| a.url.cmp(&b.url)));
    reasons
}

/// Series of up targets that are not taken.
fn of_series(survey: &Survey<'_>, pool: &PoolStatus, alike: &[Vec<&TargetStatus>], found: &mut Vec<Finding>) {
    let is_told = |target: &TargetStatus| alike.iter().flatten().any(|known| std::ptr::eq(*known, target));
    let refusing: Vec<_> =
        pool.active.iter().filter(|target| !target.refused_series.is_empty() && !is_told(target)).collect();
    if let [first, others @ ..] = refusing.as_slice() {
        let more = match others.len() {
            0 => String::new(),
            more => format!("; so it is with {} more", targets(more as u64)),
        };
        let text = format!(
            "job {}: {}: a series is not taken: {}{more}",
            pool.scrape_pool,
            url(&first.scrape_url),
            first.refused_series
        );
        found.push(Finding::new(place_of_job(survey, &pool.scrape_pool), text));
    }
}

/// Targets whose labels are alike after relabelling, so that each would write the others' series.
fn alike_targets<'a>(survey: &'a Survey<'_>) -> Vec<Vec<&'a TargetStatus>> {
    let mut by_labels: BTreeMap<String, Vec<&TargetStatus>> = BTreeMap::new();
    for target in survey.pools.values().flat_map(|pool| &pool.active) {
        by_labels.entry(target.labels.to_string()).or_default().push(target);
    }
    by_labels.into_values().filter(|targets| targets.len() > 1).collect()
}

fn of_alike_targets(survey: &Survey<'_>, alike: &[Vec<&TargetStatus>], found: &mut Vec<Finding>) {
    for group in alike.iter().take(REASONS_TOLD) {
        let [first, second, others @ ..] = group.as_slice() else { continue };
        let more = match others.len() {
            0 => String::new(),
            more => format!(", and {} more", count(more as u64)),
        };
        let jobs = match (&first.scrape_pool, &second.scrape_pool) {
            (a, b) if a == b => format!("job {a}"),
            (a, b) => format!("jobs {a} and {b}"),
        };
        let text = format!(
            "{jobs}: {} write the same series, as up{}: {} and {}{more}; their labels are alike after relabelling",
            targets(group.len() as u64),
            first.labels,
            url(&first.scrape_url),
            url(&second.scrape_url),
        );
        found.push(Finding::new(place_of_job(survey, &second.scrape_pool), text));
    }
    if let Some(rest) = alike.len().checked_sub(REASONS_TOLD + 1) {
        let text = format!("{} more groups of targets write the same series", count(rest as u64 + 1));
        found.push(Finding::new(None, text));
    }
}

/// Series that some endpoints would not get because of others.
fn of_duplicates(survey: &Survey<'_>, alike: &[Vec<&TargetStatus>], found: &mut Vec<Finding>) {
    let is_told = |owner: &str| alike.iter().flatten().any(|target| target.scrape_url == owner);
    let mut owners = std::collections::BTreeSet::new();
    for duplicate in &survey.duplicates {
        let owner = duplicate.owner.as_str();
        if is_told(owner) || owners.len() == REASONS_TOLD || !owners.insert(owner) {
            continue;
        }
        let text = format!(
            "the series {} is not sent to every endpoint: with external labels and write_relabel_configs it has the \
             labels of a series of {}",
            duplicate.labels,
            url(owner)
        );
        found.push(Finding::new(None, text));
    }
}

/// What is wrong with an endpoint before anything is sent.
fn of_endpoint(survey: &Survey<'_>, endpoint: &Endpoint, add: &mut impl FnMut(String)) {
    let key = endpoint.write.key();
    match survey.signing.get(&key) {
        Some(Err(reason)) => add(format!("there is nothing to sign with: {reason}")),
        None if endpoint.sigv4.is_some() && survey.endpoints.contains_key(&key) => {
            add(format!("no credentials to sign with {}", until(survey.ended)));
        }
        None if endpoint.sigv4.is_none() && endpoint.write.is_amp() => {
            add("requests are not signed, and AMP takes no others: add sigv4".to_owned());
        }
        _ => {}
    }
}

/// What is wrong with what an endpoint would get.
fn of_delivery(survey: &Survey<'_>, status: &EndpointStatus, add: &mut impl FnMut(String)) {
    for (labels, reason) in survey.recorded.get(&status.key).iter().flat_map(|recorded| &recorded.refused) {
        add(format!("AMP would refuse the series {}: {reason}", short_series(labels)));
    }
    for usage in status.limits.iter().filter(|usage| usage.limit == "active_series_limit") {
        if usage.ratio() >= 1.0 {
            let largest: Vec<_> =
                usage.largest.iter().map(|(job, used)| format!("{job} with {used:.0}")).collect();
            add(format!(
                "{:.0} active series are more than its active_series_limit of {:.0}; the jobs with the most are {}",
                usage.used,
                usage.of,
                largest.join(", ")
            ));
        }
    }
    for (reason, counts) in &status.ledger.dropped {
        // Those are told of with the targets.
        if reason.as_str() != "duplicate_series" && counts.values() > 0 {
            add(format!("{} samples would be dropped: {reason}", count(counts.values())));
        }
    }
    let active: usize = status.jobs.iter().map(|job| job.active_series).sum();
    let is_any_up = survey.pools.values().flat_map(|pool| &pool.active).any(|t| t.health == TargetHealth::Up);
    if active == 0 && is_any_up {
        add("nothing would be sent: write_relabel_configs drop every series".to_owned());
    }
}

/// Characters of each name and value that are shown of a series that may be of any length.
const TEXT_SHOWN: usize = 40;
/// Labels that are shown of it.
const LABELS_SHOWN: usize = 10;

fn short_series(labels: &Labels) -> String {
    let short = |text: &str| shortened(text, TEXT_SHOWN);
    let shown = labels.iter().take(LABELS_SHOWN);
    let mut shown: Vec<_> =
        shown.map(|label| format!("{}={:?}", short(&label.name), short(&label.value))).collect();
    if labels.iter().count() > LABELS_SHOWN {
        shown.push("…".to_owned());
    }
    format!("{{{}}}", shown.join(", "))
}

/// By when something was not known.
fn until(ended: Ended) -> String {
    match ended {
        Ended::AtLimit(limit) => format!("within {}", humantime::format_duration(limit)),
        Ended::BySignal => "before the end that was asked for".to_owned(),
        Ended::Complete => "in time".to_owned(),
    }
}
