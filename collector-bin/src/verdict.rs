//! The verdict: in one line, whether all is well, and what is not.
//!
//! It is logged as soon as every target was scraped once (after 30 s at the latest), then once a minute, and at once when
//! something changes for the better or worse. `docs/log.md` tells its keys.

mod notices;
mod observation;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use promferry_remote_write::delivery::FirstSuccess;
use tokio::sync::watch;
use tokio::time::Instant;

use self::notices::Notices;
use self::observation::Observation;
use self::tally::Tally;
use crate::counts::Grouped;
use crate::pipeline::Pipeline;
use crate::reasons::{brief, kind_of, shortened};

/// How often it is looked before the first verdict.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// How often it is looked after it.
const LOOK: Duration = Duration::from_secs(2);
/// Looking takes no more than this part of the time, however many targets there are.
const LOOK_SHARE: u32 = 200;
/// The first verdict waits no longer for the first scrape of every target.
const FIRST_AFTER: Duration = Duration::from_secs(30);
/// From one verdict to the next while nothing changes.
const PERIOD: Duration = Duration::from_secs(60);
/// A change is told when it has lasted this long: what else changes with it is told with it.
const GATHER: Duration = Duration::from_secs(3);
/// The least time from one verdict to one about a change.
const BETWEEN_CHANGES: Duration = Duration::from_secs(10);
/// The same is not told again sooner, were it that it comes and goes.
const SAME_AGAIN: Duration = Duration::from_secs(58);

/// Says how everything stands until `stop` is true.
pub async fn speak(pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    let mut voice = Voice::new(Instant::now(), &Observation::of(&pipeline).await);
    let mut pause = FIRST_LOOK;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let seen = Observation::of(&pipeline).await;
        let now = Instant::now();
        for line in voice.hear(now, &seen) {
            line.log();
        }
        let usual = if voice.has_spoken() { LOOK } else { FIRST_LOOK };
        pause = usual.max(seen.took.saturating_mul(LOOK_SHARE));
    }
}

/// What is to be logged.
#[derive(Debug)]
enum Line {
    FirstSuccess(String, FirstSuccess),
    Notice(notices::Notice),
    Verdict(Box<Verdict>),
}

impl Line {
    fn log(&self) {
        match self {
            Self::FirstSuccess(endpoint, FirstSuccess { host, request_id, accepted, .. }) => {
                let id = request_id.as_ref().map(|id| format!(", request id {id}")).unwrap_or_default();
                let samples = number(accepted.values());
                tracing::info!("{endpoint}: first write accepted by {host}: {samples} samples{id}");
            }
            Self::Notice(notice) => notice.log(),
            Self::Verdict(verdict) => verdict.log(),
        }
    }
}

/// What was said, and when something has to be said again.
struct Voice {
    started: Instant,
    notices: Notices,
    /// What was counted since the last verdict.
    tally: Tally,
    tally_began: Instant,
    last: Option<Instant>,
    /// What the last verdict found.
    class: Class,
    changed: Option<Instant>,
    /// What was said lately, without numbers.
    said: Vec<(String, Instant)>,
    /// Endpoints whose first success was said.
    succeeded: BTreeSet<String>,
}

impl Voice {
    fn new(now: Instant, seen: &Observation) -> Self {
        Self {
            started: now,
            notices: Notices::default(),
            tally: Tally::new(now, seen),
            tally_began: now,
            last: None,
            class: Class::default(),
            changed: None,
            said: Vec::new(),
            succeeded: BTreeSet::new(),
        }
    }

    fn has_spoken(&self) -> bool {
        self.last.is_some()
    }

    /// What there is to say about what is seen now.
    fn hear(&mut self, now: Instant, seen: &Observation) -> Vec<Line> {
        self.tally.add(now, seen);
        let verdict = Verdict::new(seen, &self.tally, now - self.tally_began, self.last.is_none());
        let mut lines = Vec::new();
        for endpoint in &seen.endpoints {
            if let Some(first) = &endpoint.first_success
                && self.succeeded.insert(endpoint.key.clone())
            {
                lines.push(Line::FirstSuccess(endpoint.key.clone(), first.clone()));
            }
        }
        let is_first = self.last.is_none() && self.is_due(now, seen, &verdict);
        let notices = self.notices.hear(now - self.started, seen, is_first);
        lines.extend(notices.into_iter().map(Line::Notice));
        if self.is_due(now, seen, &verdict) {
            self.said.retain(|(_, at)| now - *at < SAME_AGAIN);
            self.said.push((verdict.kind(), now));
            self.tally.restart();
            (self.tally_began, self.last, self.changed) = (now, Some(now), None);
            self.class = verdict.class.clone();
            lines.push(Line::Verdict(Box::new(verdict)));
        }
        lines
    }

    fn is_due(&mut self, now: Instant, seen: &Observation, verdict: &Verdict) -> bool {
        let Some(last) = self.last else {
            return seen.has_gone_round() || now - self.started >= FIRST_AFTER;
        };
        if now - last >= PERIOD {
            return true;
        }
        if !verdict.class.is_news(&self.class) {
            self.changed = None;
            return false;
        }
        let changed = *self.changed.get_or_insert(now);
        let kind = verdict.kind();
        let is_new = !self.said.iter().any(|(said, at)| *said == kind && now - *at < SAME_AGAIN);
        // What has begun is told by itself first, with all there is to say of it.
        let is_told = !self.notices.is_gathering(now - self.started);
        is_new && is_told && now - changed >= GATHER && now - last >= BETWEEN_CHANGES
    }
}

/// What is wrong, without how much of it: a verdict is given at once when this changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Class {
    /// What lasts: each thing that is wrong, without numbers.
    troubles: BTreeSet<String>,
    /// What samples were lost for since the last verdict.
    losses: BTreeSet<String>,
}

impl Class {
    /// Whether this has to be told to someone who knows `before`. That nothing more is lost is no news: it shows in the
    /// next verdict.
    fn is_news(&self, before: &Self) -> bool {
        self.troubles != before.troubles || !self.losses.is_subset(&before.losses)
    }
}

/// How everything stands, and what happened since the verdict before.
#[derive(Clone, Debug, Default)]
struct Verdict {
    discovered: u64,
    kept: u64,
    up: u64,
    down: u64,
    unscraped: u64,
    /// Samples on pages since the last verdict.
    scraped: u64,
    delivered: u64,
    /// What endpoints refused since the last verdict, by endpoint and reason.
    refused: BTreeMap<(String, String), u64>,
    /// What was given up here.
    dropped: BTreeMap<(String, String), u64>,
    waiting: u64,
    oldest: Option<Duration>,
    waiting_bytes: u64,
    spool_bytes: u64,
    credentials_until: Option<SystemTime>,
    endpoints: usize,
    /// What is wrong, the worst first.
    troubles: Vec<String>,
    class: Class,
    /// Since the last verdict.
    period: Duration,
    is_first: bool,
}

/// Reasons for which targets are down that are told; the others are counted.
const REASONS_SHOWN: usize = 3;
/// Addresses that do not take what is due that are told; the others are counted.
const ADDRESSES_SHOWN: usize = 3;
/// Jobs without targets that are told of where there is no target at all.
const JOBS_SHOWN: usize = 5;
/// As much of a reason as a verdict tells; what was said when it began tells all of it.
const REASON_CHARS: usize = 120;
/// Credentials that end this soon, and could not be refreshed, are told of.
const ENDS_SOON: Duration = Duration::from_secs(600);

impl Verdict {
    fn new(seen: &Observation, tally: &Tally, period: Duration, is_first: bool) -> Self {
        let sum = |count: fn(&observation::Job) -> u64| seen.jobs.iter().map(count).sum();
        let counted = tally.counted.clone();
        let mut verdict = Self {
            discovered: sum(|job| job.discovered),
            kept: seen.kept(),
            up: sum(|job| job.up),
            down: sum(|job| job.down.len() as u64),
            unscraped: sum(|job| job.unscraped),
            scraped: counted.scraped,
            delivered: counted.delivered,
            refused: counted.refused,
            dropped: counted.dropped,
            waiting: seen.endpoints.iter().map(|endpoint| endpoint.waiting).sum(),
            oldest: seen.endpoints.iter().filter_map(|endpoint| endpoint.oldest).max(),
            waiting_bytes: seen.spool.waiting_bytes,
            spool_bytes: seen.spool.bytes,
            credentials_until: seen
                .endpoints
                .iter()
                .filter_map(|endpoint| endpoint.credentials.as_ref()?.until)
                .min(),
            endpoints: seen.endpoints.len(),
            period,
            is_first,
            ..Self::default()
        };
        verdict.judge_delivery(seen, tally);
        verdict.judge_spool(seen);
        verdict.judge_targets(seen);
        verdict.judge_gateways(counted.missed_at);
        verdict.judge_losses();
        verdict
    }

    /// Adds something that is wrong: `kind` tells it from others, without numbers.
    fn add(&mut self, kind: String, words: String) {
        self.class.troubles.insert(kind);
        self.troubles.push(words);
    }

    fn judge_delivery(&mut self, seen: &Observation, tally: &Tally) {
        for endpoint in &seen.endpoints {
            let key = &endpoint.key;
            if let Some(words) = &endpoint.trouble {
                let since = match tally.last_success(key) {
                    Some(ago) => format!("has taken nothing for {}", duration(ago)),
                    None => "has taken nothing yet".to_owned(),
                };
                self.add(
                    format!("{key} takes nothing: {}", kind_of(words, "")),
                    format!("{key} {since}: {words}"),
                );
            } else if let Some((limit, series)) = &endpoint.limit {
                self.add(
                    format!("{key} has reached {limit}"),
                    format!("{key} takes no new series ({limit}): {} series wait", number(*series as u64)),
                );
            }
            let ends_soon = endpoint.credentials.as_ref().and_then(|credentials| {
                let failing = credentials.failing.as_ref()?;
                let left = credentials.left.filter(|left| !left.is_zero() && *left < ENDS_SOON)?;
                Some((failing, left))
            });
            if let Some((failing, left)) = ends_soon {
                self.add(
                    format!("the credentials of {key} end"),
                    format!(
                        "the credentials of {key} end in {} and can't be refreshed: {}",
                        duration(left),
                        shortened(failing, REASON_CHARS)
                    ),
                );
            }
        }
    }

    fn judge_spool(&mut self, seen: &Observation) {
        if let Some(reason) = &seen.spool.disk {
            let words = shortened(reason, REASON_CHARS);
            self.add("the disk fails".to_owned(), format!("the spool's disk fails: {words}"));
        }
        if seen.spool.percent() >= 50 {
            let (bytes, max) = seen.spool.fullest;
            self.add(
                "the spool is filling".to_owned(),
                format!("the spool is {} % full ({} of {})", seen.spool.percent(), size(bytes), size(max)),
            );
        }
    }

    fn judge_targets(&mut self, seen: &Observation) {
        if self.kept == 0 {
            return self.judge_none(seen);
        }
        // By what went wrong: how many, and whose they are.
        let mut reasons: BTreeMap<&str, (u64, Vec<&str>)> = BTreeMap::new();
        for job in &seen.jobs {
            for target in &job.down {
                let (targets, jobs) = reasons.entry(&target.brief).or_default();
                *targets += 1;
                if jobs.last() != Some(&job.name.as_str()) {
                    jobs.push(&job.name);
                    self.class.troubles.insert(format!("job {}: {}", job.name, target.brief));
                }
            }
        }
        if !reasons.is_empty() {
            let mut reasons: Vec<_> = reasons.into_iter().collect();
            reasons.sort_by_key(|(_, (targets, _))| std::cmp::Reverse(*targets));
            let shown = reasons.iter().take(REASONS_SHOWN).map(|(reason, (targets, jobs))| {
                let jobs = named(jobs);
                match targets {
                    1 => format!("{reason} ({jobs})"),
                    targets => format!("{reason} ({} of {jobs})", number(*targets)),
                }
            });
            let mut words = format!("{} of {} targets down: ", number(self.down), number(self.kept));
            words.push_str(&shown.collect::<Vec<_>>().join(", "));
            let others: u64 = reasons.iter().skip(REASONS_SHOWN).map(|(_, (targets, _))| targets).sum();
            if others > 0 {
                let _ = write!(words, ", and {} for other reasons", number(others));
            }
            self.troubles.push(words);
        }
        for (what, reason) in &seen.failing_discovery {
            self.add(
                format!("{what} fails"),
                format!("{what} fails, the targets it found before stay: {}", brief(reason)),
            );
        }
    }

    /// No target at all: that always has a reason.
    fn judge_none(&mut self, seen: &Observation) {
        let mut words = "no targets: ".to_owned();
        let jobs: Vec<_> =
            seen.jobs.iter().filter_map(|job| Some((job, job.without_targets.as_ref()?))).collect();
        if jobs.is_empty() {
            words.push_str("the configuration has no scrape_configs");
        }
        for (at, (job, without)) in jobs.iter().take(JOBS_SHOWN).enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            let _ = write!(words, "{separator}job {}: {}", job.name, without.why);
            self.class.troubles.insert(format!("job {}: {}", job.name, kind_of(&without.why, "")));
        }
        if jobs.len() > JOBS_SHOWN {
            let _ = write!(words, "; and {} more jobs", jobs.len() - JOBS_SHOWN);
        }
        self.add("no targets".to_owned(), words);
    }

    /// Scrapes that were not made, since an address that targets share did not take them in time.
    fn judge_gateways(&mut self, missed_at: BTreeMap<String, u64>) {
        let mut addresses: Vec<_> = missed_at.into_iter().collect();
        addresses.sort_by_key(|(_, missed)| std::cmp::Reverse(*missed));
        for (at, (address, missed)) in addresses.iter().enumerate() {
            self.class.losses.insert(format!("{address} misses scrapes"));
            if at < ADDRESSES_SHOWN {
                self.troubles.push(format!(
                    "{address} does not take as many scrapes as are due: {} missed",
                    number(*missed)
                ));
            }
        }
        if addresses.len() > ADDRESSES_SHOWN {
            let others = addresses.len() - ADDRESSES_SHOWN;
            let are = if others == 1 { "address does" } else { "addresses do" };
            self.troubles.push(format!("{others} other {are} not either"));
        }
    }

    fn judge_losses(&mut self) {
        for (losses, how) in [(&self.refused, "refused by"), (&self.dropped, "not sent to")] {
            let mut endpoints: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
            for ((endpoint, reason), count) in losses {
                endpoints.entry(endpoint).or_default().push((reason, *count));
                self.class.losses.insert(format!("{endpoint}: {reason}"));
            }
            for (endpoint, reasons) in endpoints {
                let count: u64 = reasons.iter().map(|(_, count)| count).sum();
                let reasons: Vec<_> =
                    reasons.iter().map(|(reason, count)| format!("{reason} {}", number(*count))).collect();
                let samples = if count == 1 { "sample" } else { "samples" };
                self.troubles.push(format!(
                    "{} {samples} {how} {endpoint}: {}",
                    number(count),
                    reasons.join(", ")
                ));
            }
        }
    }

    fn is_well(&self) -> bool {
        self.troubles.is_empty()
    }

    /// The sentence without numbers.
    fn kind(&self) -> String {
        kind_of(&self.to_string(), "")
    }

    fn log(&self) {
        let until = self.credentials_until.map(|until| humantime::format_rfc3339_seconds(until).to_string());
        let sum = |losses: &BTreeMap<_, u64>| losses.values().sum::<u64>();
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    discovered = self.discovered,
                    kept = self.kept,
                    up = self.up,
                    down = self.down,
                    scraped = self.scraped,
                    delivered = self.delivered,
                    refused = sum(&self.refused),
                    dropped = sum(&self.dropped),
                    waiting = self.waiting,
                    oldest_s = self.oldest.unwrap_or_default().as_secs(),
                    waiting_bytes = self.waiting_bytes,
                    spool_bytes = self.spool_bytes,
                    credentials_until = until,
                    period_s = self.period.as_secs(),
                    "{self}"
                )
            };
        }
        if self.is_well() { log!(info) } else { log!(warn) }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_well() {
            return f.write_str(&self.troubles.join("; "));
        }
        write!(f, "well: {} of {} targets up", number(self.up), number(self.kept))?;
        if self.unscraped > 0 {
            write!(f, " and {} not scraped yet", number(self.unscraped))?;
        }
        // How much it is a second is told of a time that is long enough to tell.
        let (divisor, each) = if self.is_first { (1.0, "") } else { (self.period.as_secs_f64(), "/s") };
        let rate = |count: u64| number((count as f64 / divisor).round() as u64);
        write!(f, ", {} samples{each} scraped", rate(self.scraped))?;
        if self.endpoints == 0 {
            return f.write_str(", and nothing is sent, for there is no remote_write");
        }
        let waiting = match self.oldest {
            Some(oldest) if self.waiting > 0 => format!("oldest waiting {}", duration(oldest)),
            _ => "nothing waiting".to_owned(),
        };
        write!(f, ", {}{each} delivered, nothing refused, {waiting}", rate(self.delivered))
    }
}

/// Jobs that are named where the same happens to several.
const JOBS_NAMED: usize = 2;

/// `api`, `api and db`, `api, db and 4 other jobs`.
fn named(jobs: &[&str]) -> String {
    match jobs {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} and {other}"),
        more => {
            let (shown, others) = more.split_at(JOBS_NAMED);
            let jobs = if others.len() == 1 { "job" } else { "jobs" };
            format!("{} and {} other {jobs}", shown.join(", "), others.len())
        }
    }
}

/// `1,204`.
fn number(number: u64) -> String {
    Grouped(number).to_string()
}

/// `2 s`, `3 m 20 s`, `2 h 5 m`.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} m"),
        (0, minutes, seconds) => format!("{minutes} m {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} m"),
    }
}

/// `14 KiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} bytes"),
        0x400..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests;
