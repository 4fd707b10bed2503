//! What the pipeline shows at one moment, as far as the log tells it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use promferry_discovery::MechanismStatus;
use promferry_model::{Clock as _, SystemClock, Timestamp};
use promferry_remote_write::EndpointStatus;
use promferry_remote_write::delivery::FirstSuccess;
use promferry_remote_write::spool::{SpoolStats, StorageState};
use promferry_scrape::{ActiveTarget, PoolSummary, TargetHealth};

use crate::pipeline::{DeliveryStatus, Pipeline};
use crate::reasons::{brief, host_of, kind_of};
use crate::signing::Signing;

/// How everything stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    pub(crate) jobs: Vec<Job>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) spool: Spool,
    /// Discovery that fails: `job pods: kubernetes discovery`, and why.
    pub(crate) failing_discovery: BTreeMap<String, String>,
    /// All of discovery has said something, and the scraper knows of it.
    pub(crate) is_discovered: bool,
    /// Samples on pages so far, by job.
    pub(crate) scraped: BTreeMap<String, u64>,
    /// Scrapes that addresses which targets share did not take in time so far.
    pub(crate) missed_at: BTreeMap<String, u64>,
    /// How long it took to look.
    pub(crate) took: Duration,
}

/// A job's targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) discovered: u64,
    pub(crate) kept: u64,
    pub(crate) up: u64,
    /// Targets that were not scraped yet.
    pub(crate) unscraped: u64,
    /// The longest time between two scrapes of a target.
    pub(crate) interval: Duration,
    pub(crate) down: Vec<Target>,
    /// Targets that are up, and of which series are not taken.
    pub(crate) curtailed: Vec<Target>,
    /// Targets that can't be scraped, such as those without an address, by reason.
    pub(crate) invalid: Vec<(u64, String)>,
    pub(crate) without_targets: Option<WithoutTargets>,
}

/// A target with what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where it is, without the values of a query.
    pub(crate) place: String,
    pub(crate) reason: String,
    /// [`kind_of`] the reason.
    pub(crate) kind: String,
    /// The reason in a few words.
    pub(crate) brief: String,
}

/// Why a job has no target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WithoutTargets {
    pub(crate) why: String,
    pub(crate) cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What discovery found is not kept.
    NoneKept,
    /// Discovery finds none.
    NoneFound,
    /// Discovery fails or lacks a file, which it says by itself.
    Discovery,
}

/// How an endpoint does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) key: String,
    /// Samples and histograms that were taken, over all runs.
    pub(crate) delivered: u64,
    /// Those that were given up, by reason, and whether the endpoint refused them.
    pub(crate) dropped: BTreeMap<String, (u64, bool)>,
    pub(crate) waiting: u64,
    /// How old the oldest is that waits.
    pub(crate) oldest: Option<Duration>,
    /// How long ago it last took something; absent if it never did.
    pub(crate) last_success: Option<Duration>,
    /// Why it takes nothing.
    pub(crate) trouble: Option<String>,
    /// A limit that it refuses series for, and how many wait for that.
    pub(crate) limit: Option<(String, usize)>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) first_success: Option<FirstSuccess>,
}

/// What an endpoint's requests are signed with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    pub(crate) until: Option<SystemTime>,
    /// How long they still hold; absent if they never end.
    pub(crate) left: Option<Duration>,
    /// Why the last refresh failed, if it did.
    pub(crate) failing: Option<String>,
}

/// How full the spool is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool {
    pub(crate) bytes: u64,
    /// Of them those of what waits for an endpoint; what waits for two counts twice.
    pub(crate) waiting_bytes: u64,
    /// Of the fullest log, and what it may take.
    pub(crate) fullest: (u64, u64),
    /// What fails of the disk.
    pub(crate) disk: Option<String>,
}

/// An endpoint that took nothing for this long, and failed last, takes nothing.
const TAKES_NOTHING_AFTER: Duration = Duration::from_secs(5);
/// The spool says how it stands when it is asked, and once a second.
const HELD_UP_AFTER: Duration = Duration::from_secs(5);

impl Observation {
    /// As it is now.
    pub(crate) async fn of(pipeline: &Pipeline) -> Self {
        let DeliveryStatus { endpoints, spool: published } = pipeline.delivery().await;
        let started = Instant::now();
        let now = SystemClock::new().now();
        let mechanisms = pipeline.discovery();
        let pools = pipeline.scraper().summary();
        // Groups tell of what is on its way, which comes in batches.
        let in_pools = pools.iter().fold((0, 0), |sum, pool| (sum.0 + pool.groups, sum.1 + pool.discovered));
        let announced = mechanisms.iter().fold((0, 0), |sum, mechanism| {
            let jobs = mechanism.jobs.len();
            (sum.0 + (mechanism.groups * jobs) as u64, sum.1 + (mechanism.targets * jobs) as u64)
        });
        let have_said =
            mechanisms.iter().all(|mechanism| mechanism.last_success.is_some() || mechanism.is_failing);
        let mut spool = Spool::of(&published.stats);
        if published.age >= HELD_UP_AFTER {
            spool.disk = Some(format!("it has not answered for {} s", published.age.as_secs()));
        }
        let signing = pipeline.signing();
        let endpoints = endpoints.iter().map(|endpoint| {
            let signing = signing.iter().find(|signing| signing.endpoint == endpoint.key);
            Endpoint::of(endpoint, &published.stats, signing, now)
        });
        let scraped = pipeline.scraper().stats().into_iter();
        let gateways = pipeline.scraper().gateways().into_iter().filter(|gateway| gateway.missed > 0);
        let mut jobs: Vec<_> = pools.iter().map(|pool| Job::of(pool, &mechanisms)).collect();
        pipeline.scraper().for_each_active(&mut |target| {
            let job = jobs.binary_search_by(|job| job.name.as_str().cmp(target.scrape_pool()));
            if let Some(job) = job.ok().and_then(|at| jobs.get_mut(at)) {
                job.look_at(target);
            }
        });
        for job in &mut jobs {
            job.down.sort_by(|a, b| a.place.cmp(&b.place));
            job.curtailed.sort_by(|a, b| a.place.cmp(&b.place));
        }
        Self {
            endpoints: endpoints.collect(),
            jobs,
            spool,
            failing_discovery: failing(&mechanisms),
            is_discovered: have_said && in_pools == announced,
            scraped: scraped.map(|(job, stats)| (job.to_string(), stats.samples_scraped)).collect(),
            missed_at: gateways.map(|gateway| (gateway.address.to_string(), gateway.missed)).collect(),
            took: started.elapsed(),
        }
    }

    pub(crate) fn kept(&self) -> u64 {
        self.jobs.iter().map(|job| job.kept).sum()
    }

    /// Everything that is discovered was scraped once.
    pub(crate) fn has_gone_round(&self) -> bool {
        self.is_discovered && self.jobs.iter().all(|job| job.unscraped == 0)
    }
}

impl Job {
    fn of(pool: &PoolSummary, mechanisms: &[MechanismStatus]) -> Self {
        Self {
            name: pool.scrape_pool.to_string(),
            discovered: pool.discovered,
            invalid: pool.invalid.iter().map(|kind| (kind.targets, kind.error.to_string())).collect(),
            without_targets: WithoutTargets::of(pool, mechanisms),
            ..Self::default()
        }
    }

    /// Notes what has to be told of a target of the job.
    fn look_at(&mut self, target: ActiveTarget<'_>) {
        self.kept += 1;
        self.interval = self.interval.max(target.target().scrape_interval());
        match target.health() {
            TargetHealth::Unknown => self.unscraped += 1,
            TargetHealth::Up => self.up += 1,
            TargetHealth::Down => self.down.push(Target::of(target, target.last_error())),
        }
        if target.health() != TargetHealth::Down && !target.refused_series().is_empty() {
            self.curtailed.push(Target::of(target, target.refused_series()));
        }
    }
}

impl Target {
    fn of(target: ActiveTarget<'_>, reason: &str) -> Self {
        let target = target.target();
        let url = target.url_without_query();
        let query = &target.url()[url.len()..];
        let instance = target.public_labels().get("instance");
        let place = match query {
            // Behind one that asks others, the instance is what tells them apart.
            query if !query.is_empty() && !url.contains(instance) => format!("{url} (instance {instance})"),
            _ => url.to_owned(),
        };
        // The URL is in the place; in the reason it might come with its query.
        let reason = reason.replace(target.url(), url);
        Self { place, kind: kind_of(&reason, host_of(url)), brief: brief(&reason), reason }
    }
}

impl WithoutTargets {
    fn of(pool: &PoolSummary, mechanisms: &[MechanismStatus]) -> Option<Self> {
        if pool.active > 0 {
            return None;
        }
        let mechanisms: Vec<_> =
            mechanisms.iter().filter(|mechanism| mechanism.jobs.contains(&pool.scrape_pool)).collect();
        if pool.discovered > 0 {
            let why = format!("discovered {}, {}", pool.discovered, not_kept(pool));
            return Some(Self { why, cause: Cause::NoneKept });
        }
        if mechanisms.is_empty() {
            let why = "it has no static_configs and no other discovery".to_owned();
            return Some(Self { why, cause: Cause::NoneFound });
        }
        let failing = mechanisms.iter().any(|mechanism| mechanism.is_failing || mechanism.remark.is_some());
        let why: Vec<_> = mechanisms.into_iter().map(found_none).collect();
        let cause = if failing { Cause::Discovery } else { Cause::NoneFound };
        Some(Self { why: why.join("; "), cause })
    }
}

/// What became of all the targets that were discovered.
fn not_kept(pool: &PoolSummary) -> String {
    let all = pool.discovered;
    let mut parts = Vec::new();
    for dropped in &pool.dropped_by {
        match dropped.targets {
            targets if targets == all => parts.push(format!("all dropped by {dropped}")),
            targets => parts.push(format!("{targets} dropped by {dropped}")),
        }
    }
    for invalid in &pool.invalid {
        parts.push(format!("{} that can't be scraped: {}", invalid.targets, invalid.error));
    }
    if parts.is_empty() {
        // Rules drop them by giving them no address, say.
        parts.push(format!("{} dropped by relabelling", pool.dropped_count));
    }
    parts.join(", ")
}

fn found_none(mechanism: &MechanismStatus) -> String {
    let MechanismStatus { mechanism: kind, subject, remark, last_failure, .. } = mechanism;
    let of = if subject.is_empty() { String::new() } else { format!(" ({subject})") };
    match (mechanism.is_failing, last_failure, remark) {
        (true, Some((_, reason)), _) => format!("{kind} discovery failed: {reason}"),
        (_, _, Some(remark)) => format!("{kind} discovery: {remark}"),
        _ if mechanism.last_success.is_none() => format!("{kind} discovery{of} has not answered yet"),
        _ => format!("{kind} discovery{of} finds none"),
    }
}

fn failing(mechanisms: &[MechanismStatus]) -> BTreeMap<String, String> {
    let failing = mechanisms.iter().filter(|mechanism| mechanism.is_failing);
    let said = failing.filter_map(|mechanism| {
        let jobs: Vec<_> = mechanism.jobs.iter().map(ToString::to_string).collect();
        let (_, reason) = mechanism.last_failure.as_ref()?;
        let what = format!("{} discovery of job {}", mechanism.mechanism, jobs.join(", "));
        Some((what, reason.clone()))
    });
    said.collect()
}

impl Endpoint {
    fn of(endpoint: &EndpointStatus, spool: &SpoolStats, signing: Option<&Signing>, now: Timestamp) -> Self {
        let (ledger, delivery) = (&endpoint.ledger, &endpoint.delivery);
        let stored = spool.endpoints.iter().find(|stored| stored.key == endpoint.key);
        let last_success =
            (delivery.last_success > Timestamp::default()).then(|| now.since(delivery.last_success));
        let waits = ledger.pending.values() > ledger.parked.values();
        let took_lately = last_success.is_some_and(|ago| ago < TAKES_NOTHING_AFTER);
        let trouble = delivery
            .last_error
            .as_ref()
            .filter(|error| error.at >= delivery.last_success && waits && !took_lately);
        let dropped = ledger
            .dropped
            .iter()
            .map(|(reason, counts)| (reason.as_str().to_owned(), (counts.values(), reason.is_refusal())));
        let limits = &delivery.limits;
        Self {
            key: endpoint.key.clone(),
            delivered: ledger.delivered.values(),
            dropped: dropped.collect(),
            waiting: ledger.pending.values(),
            oldest: stored.and_then(|stored| stored.oldest_pending).map(|oldest| now.since(oldest)),
            last_success,
            trouble: trouble.map(|error| brief(&error.text)),
            limit: limits
                .limit
                .as_ref()
                .filter(|_| limits.parked_series > 0)
                .map(|limit| (limit.to_string(), limits.parked_series)),
            credentials: signing.map(Credentials::of),
            first_success: delivery.first_success.clone(),
        }
    }
}

impl Credentials {
    fn of(signing: &Signing) -> Self {
        let status = signing.credentials.status();
        let now = signing.credentials.clock().now();
        Self {
            until: status.expires_at,
            left: status.expires_at.map(|until| until.duration_since(now).unwrap_or_default()),
            failing: status.last_error.map(|error| error.to_string()),
        }
    }
}

impl Spool {
    fn of(stats: &SpoolStats) -> Self {
        let share = |log: &&(u64, u64)| log.0.saturating_mul(1000) / log.1.max(1);
        let logs: Vec<_> = stats.logs.iter().map(|log| (log.bytes, log.max_bytes)).collect();
        let disk = match &stats.storage {
            StorageState::Healthy => None,
            StorageState::Degraded { error, .. } => Some(error.clone()),
        };
        Self {
            bytes: logs.iter().map(|(bytes, _)| bytes).sum(),
            waiting_bytes: stats
                .endpoints
                .iter()
                .map(|stored| stored.pending_bytes + stored.parked_bytes)
                .sum(),
            fullest: logs.iter().max_by_key(share).copied().unwrap_or_default(),
            disk,
        }
    }

    /// How full the fullest log is, in hundredths.
    pub(crate) fn percent(&self) -> u64 {
        self.fullest.0.saturating_mul(100) / self.fullest.1.max(1)
    }
}
