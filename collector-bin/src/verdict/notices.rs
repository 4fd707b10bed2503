//! What is said once when it begins and once when it is over, however many targets it concerns.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::observation::{Cause, Job, Observation, Target};
use super::{duration, number, size};
use crate::counts::plural;
use crate::reasons::{kind_of, shortened};

/// A line of the log about something that began or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) level: Level,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Info,
    Warn,
}

impl Notice {
    pub(super) fn log(&self) {
        let text = &self.text;
        match self.level {
            Level::Info => tracing::info!("{text}"),
            Level::Warn => tracing::warn!("{text}"),
        }
    }
}

/// What is the matter now, and what was lately.
#[derive(Debug, Default)]
pub(super) struct Notices {
    conditions: BTreeMap<Key, Condition>,
    /// When lines about beginnings were said, in the last minute.
    begun: Vec<Duration>,
}

/// What tells one condition from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Targets of a job are down for a kind of reason.
    Down { kind: String, job: String },
    /// Series of a job's targets are not taken, for a kind of reason.
    Curtailed { kind: String, job: String },
    /// Discovered targets of a job can't be scraped, for a kind of reason.
    Invalid { kind: String, job: String },
    /// The job has no target, for a kind of reason.
    WithoutTargets { kind: String, job: String },
    /// The spool is more than half full.
    SpoolFilling,
}

#[derive(Debug)]
struct Condition {
    began: Duration,
    last_seen: Duration,
    /// How long it has to last before it is said.
    gather: Duration,
    /// When its beginning was said last.
    said: Option<Duration>,
    /// It was over, and that was said where it had to be.
    is_over: bool,
    /// The places of all targets that it concerned.
    places: HashSet<String>,
}

/// A condition as it is seen now.
struct Seen<'a> {
    key: Key,
    targets: Vec<&'a Target>,
    /// How many targets the job has.
    of: u64,
    /// How long it has to last before it is said.
    gather: Duration,
}

/// What begins is said when every target was scraped again, between these times: what fails with it comes meanwhile.
const GATHER_MIN: Duration = Duration::from_secs(3);
const GATHER_MAX: Duration = Duration::from_secs(15);
/// What was not seen for this long is over.
const OVER_AFTER: Duration = Duration::from_secs(15);
/// What comes again is not said again sooner.
const SAME_AGAIN: Duration = Duration::from_secs(60);
/// What is over is remembered for this long.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most lines about beginnings in a minute; what is beyond them and lasts is said in the next, and is in the verdict
/// and on the status page all along.
const MAX_LINES: usize = 10;
/// Jobs that are named where the same happens to several.
const JOBS_NAMED: usize = 3;
/// As much of a reason as is said.
const REASON_CHARS: usize = 1000;
/// How full the spool is, in hundredths, when that is over.
const SPOOL_WELL: u64 = 40;

impl Notices {
    /// What there is to say about what is seen `now`, by a clock that only goes forward; without waiting for what else
    /// may fail with it where `is_complete`.
    pub(super) fn hear(&mut self, now: Duration, seen: &Observation, is_complete: bool) -> Vec<Notice> {
        let all =
            conditions(seen, self.conditions.get(&Key::SpoolFilling).is_some_and(|known| !known.is_over));
        for condition in &all {
            let known = self.conditions.entry(condition.key.clone()).or_insert_with(|| Condition::new(now));
            if known.is_over {
                *known = Condition { said: known.said, ..Condition::new(now) };
            }
            known.last_seen = now;
            known.gather = if is_complete { Duration::ZERO } else { condition.gather };
            known.places.extend(condition.targets.iter().map(|target| target.place.clone()));
        }
        let mut notices = self.begun(now, &all, seen);
        notices.extend(self.over(now, seen));
        self.conditions.retain(|_, known| !known.is_over || now - known.last_seen < REMEMBERED);
        notices
    }

    /// Whether something has begun that is said soon.
    pub(super) fn is_gathering(&self, now: Duration) -> bool {
        let mut lasting = self.conditions.values().filter(|known| known.last_seen == now);
        lasting.any(|known| known.said.is_none() && now - known.began < known.gather)
    }

    /// What has begun, the same of several jobs in one line.
    fn begun(&mut self, now: Duration, all: &[Seen<'_>], seen: &Observation) -> Vec<Notice> {
        let mut groups: BTreeMap<String, Vec<&Seen<'_>>> = BTreeMap::new();
        for condition in all {
            let Some(known) = self.conditions.get(&condition.key) else { continue };
            let is_due = match known.said {
                None => true,
                Some(said) => said < known.began && now - said >= SAME_AGAIN,
            };
            if is_due && now - known.began >= known.gather {
                groups.entry(condition.key.group()).or_default().push(condition);
            }
        }
        self.begun.retain(|said| now - *said < SAME_AGAIN);
        let mut notices = Vec::new();
        for group in groups.into_values().take(MAX_LINES.saturating_sub(self.begun.len())) {
            for condition in &group {
                if let Some(known) = self.conditions.get_mut(&condition.key) {
                    known.said = Some(now);
                }
            }
            notices.push(begin(&group, seen));
        }
        self.begun.extend(notices.iter().map(|_| now));
        notices
    }

    /// What is over, the same of several jobs in one line.
    fn over(&mut self, now: Duration, seen: &Observation) -> Vec<Notice> {
        let mut groups: BTreeMap<String, Vec<(&Key, u64, Duration)>> = BTreeMap::new();
        for (key, known) in &mut self.conditions {
            if known.is_over || now - known.last_seen < OVER_AFTER {
                continue;
            }
            known.is_over = true;
            let was_said = known.said.is_some_and(|said| said >= known.began);
            let well = key.is_well(known, seen);
            if was_said && well > 0 {
                let lasted = known.last_seen - known.began;
                groups.entry(key.group()).or_default().push((key, well, lasted));
            }
        }
        groups.into_values().map(|group| end(&group)).collect()
    }
}

impl Seen<'_> {
    fn without_targets(key: Key) -> Self {
        Self { key, targets: Vec::new(), of: 0, gather: GATHER_MIN }
    }
}

impl Condition {
    fn new(now: Duration) -> Self {
        let gather = Duration::ZERO;
        Self { began: now, last_seen: now, gather, said: None, is_over: false, places: HashSet::new() }
    }
}

impl Key {
    /// What is the same for several jobs.
    fn group(&self) -> String {
        match self {
            Self::Down { kind, .. } => format!("down {kind}"),
            Self::Curtailed { kind, .. } => format!("curtailed {kind}"),
            // Each has its own numbers.
            Self::Invalid { kind, job } => format!("invalid {job} {kind}"),
            // Each has its own reason.
            Self::WithoutTargets { job, .. } => format!("without {job}"),
            Self::SpoolFilling => "spool".to_owned(),
        }
    }

    fn job(&self) -> &str {
        match self {
            Self::Down { job, .. }
            | Self::Curtailed { job, .. }
            | Self::Invalid { job, .. }
            | Self::WithoutTargets { job, .. } => job,
            Self::SpoolFilling => "",
        }
    }

    /// How many of those concerned are well now; none where it only turned into something else.
    fn is_well(&self, known: &Condition, seen: &Observation) -> u64 {
        let job = seen.jobs.iter().find(|job| job.name == self.job());
        match (self, job) {
            (Self::SpoolFilling, _) => 1,
            (Self::WithoutTargets { .. }, Some(job)) => job.kept,
            (Self::Down { .. }, Some(job)) => {
                let down: HashSet<_> = job.down.iter().map(|target| &target.place).collect();
                let up = known.places.iter().filter(|place| !down.contains(place)).count() as u64;
                // Of those that are gone nobody knows.
                up.min(job.up)
            }
            (Self::Curtailed { .. }, Some(job)) => u64::from(job.curtailed.is_empty() && job.up > 0),
            (Self::Invalid { .. }, Some(_)) => 1,
            (_, None) => 0,
        }
    }
}

fn conditions(seen: &Observation, spool_was_filling: bool) -> Vec<Seen<'_>> {
    let mut all = Vec::new();
    for job in &seen.jobs {
        let name = &job.name;
        all.extend(by_kind(job, &job.down, |kind| Key::Down { kind, job: name.clone() }));
        // That another target writes the same series is said by the one who finds it.
        let curtailed = by_kind(job, &job.curtailed, |kind| Key::Curtailed { kind, job: name.clone() });
        all.extend(curtailed.into_iter().filter(|condition| {
            !condition.targets.iter().any(|target| target.reason.contains("already written by target"))
        }));
        for (_, error) in job.invalid.iter().filter(|_| job.kept > 0) {
            let key = Key::Invalid { kind: kind_of(error, ""), job: name.clone() };
            all.push(Seen::without_targets(key));
        }
        // Where there is no target at all, the verdict says why.
        if let Some(without) = &job.without_targets
            && seen.is_discovered
            && seen.kept() > 0
            && without.cause != Cause::Discovery
        {
            let key = Key::WithoutTargets { kind: kind_of(&without.why, ""), job: name.clone() };
            all.push(Seen::without_targets(key));
        }
    }
    let well = if spool_was_filling { SPOOL_WELL } else { 50 };
    if seen.spool.percent() >= well {
        all.push(Seen::without_targets(Key::SpoolFilling));
    }
    all
}

fn by_kind<'a>(job: &Job, targets: &'a [Target], key: impl Fn(String) -> Key) -> Vec<Seen<'a>> {
    let mut kinds: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
    for target in targets {
        kinds.entry(&target.kind).or_default().push(target);
    }
    let gather = (job.interval + Duration::from_secs(1)).clamp(GATHER_MIN, GATHER_MAX);
    let seen = |(kind, targets): (&str, _)| Seen { key: key(kind.to_owned()), targets, of: job.kept, gather };
    kinds.into_iter().map(seen).collect()
}

fn begin(group: &[&Seen<'_>], seen: &Observation) -> Notice {
    let jobs = jobs(group.iter().map(|condition| condition.key.job()));
    let targets: usize = group.iter().map(|condition| condition.targets.len()).sum();
    let of: u64 = group.iter().map(|condition| condition.of).sum();
    let first = group.iter().find_map(|condition| condition.targets.first());
    let place = first.map(|target| target.place.as_str()).unwrap_or_default();
    let reason = first.map(|target| shortened(&target.reason, REASON_CHARS)).unwrap_or_default();
    let such_as = if targets > 1 { format!("such as {place}") } else { place.to_owned() };
    let (level, text) = match &group[0].key {
        Key::Down { .. } => {
            let are = if targets == 1 { "is" } else { "are" };
            let of = format!("{} of {}", number(targets as u64), plural(of, "target", "targets"));
            (Level::Warn, format!("{jobs}: {of} {are} down, {such_as}: {reason}"))
        }
        Key::Curtailed { .. } => {
            let of = plural(targets as u64, "target", "targets");
            (Level::Warn, format!("{jobs}: series of {of} are not taken, {such_as}: {reason}"))
        }
        Key::Invalid { kind, job } => {
            let job = seen.jobs.iter().find(|known| known.name == *job);
            let invalid =
                job.and_then(|job| job.invalid.iter().find(|(_, error)| kind_of(error, "") == *kind));
            let (targets, error) = invalid.map_or((0, ""), |(targets, error)| (*targets, error.as_str()));
            let targets = plural(targets, "target", "targets");
            (Level::Warn, format!("{jobs}: {targets} can't be scraped: {error}"))
        }
        Key::WithoutTargets { job, .. } => {
            let job = seen.jobs.iter().find(|known| known.name == *job);
            let without = job.and_then(|job| job.without_targets.as_ref());
            let is_dropped = without.is_some_and(|without| without.cause == Cause::NoneKept);
            let why = without.map(|without| without.why.as_str()).unwrap_or_default();
            let level = if is_dropped { Level::Warn } else { Level::Info };
            (level, format!("{jobs} has no targets: {why}"))
        }
        Key::SpoolFilling => {
            let (bytes, max) = seen.spool.fullest;
            let text = format!(
                "the spool is more than half full, {} of {}: what is scraped is not delivered as fast; when it is \
                 full, the oldest samples are lost",
                size(bytes),
                size(max)
            );
            (Level::Warn, text)
        }
    };
    Notice { level, text }
}

fn end(group: &[(&Key, u64, Duration)]) -> Notice {
    let jobs = jobs(group.iter().map(|(key, ..)| key.job()));
    let targets: u64 = group.iter().map(|(_, targets, _)| targets).sum();
    let lasted = group.iter().map(|(.., lasted)| *lasted).max().unwrap_or_default();
    let lasted = duration(lasted);
    let text = match &group[0].0 {
        Key::Down { .. } => {
            let are = if targets == 1 { "is" } else { "are" };
            format!("{jobs}: {} {are} up again after {lasted}", plural(targets, "target", "targets"))
        }
        Key::Curtailed { .. } => format!("{jobs}: all series are taken again after {lasted}"),
        Key::Invalid { .. } => format!("{jobs}: targets that could not be scraped are gone, or can be now"),
        Key::WithoutTargets { .. } => format!("{jobs} has {} now", plural(targets, "target", "targets")),
        Key::SpoolFilling => {
            format!("the spool is less than {SPOOL_WELL} % full again after {lasted}")
        }
    };
    Notice { level: Level::Info, text }
}

/// `job api`, `jobs api, db`, `jobs api, db, web and 4 others`.
fn jobs<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let named = names.iter().take(JOBS_NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        1 => format!("job {named}"),
        ..=JOBS_NAMED => format!("jobs {named}"),
        all => format!("jobs {named} and {} others", all - JOBS_NAMED),
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::WithoutTargets;
    use super::*;
    use crate::reasons::brief;

    fn target(at: usize, reason: &str) -> Target {
        let place = format!("http://10.0.0.{at}:80/metrics");
        Target { place, reason: reason.to_owned(), kind: kind_of(reason, ""), brief: brief(reason) }
    }

    fn job(name: &str, kept: u64, down: Vec<Target>) -> Job {
        let up = kept - down.len() as u64;
        Job { name: name.to_owned(), discovered: kept, kept, up, down, ..Job::default() }
    }

    fn seen(jobs: Vec<Job>) -> Observation {
        Observation { jobs, is_discovered: true, ..Observation::default() }
    }

    /// What is said at each of these seconds, as `WARN text`.
    fn said(notices: &mut Notices, seconds: impl Iterator<Item = u64>, seen: &Observation) -> Vec<String> {
        let at = |second| notices.hear(Duration::from_secs(second), seen, false);
        let all: Vec<_> = seconds.flat_map(at).collect();
        all.iter().map(|notice| format!("{:?} {}", notice.level, notice.text)).collect()
    }

    const REFUSED: &str = "cannot connect to 10.0.0.7:80: connection refused";

    #[test]
    fn many_targets_are_one_line_at_the_beginning_and_one_at_the_end() {
        let mut notices = Notices::default();
        let well = seen(vec![job("api", 200, Vec::new()), job("web", 3, Vec::new())]);
        assert_eq!(said(&mut notices, 0..10, &well), [""; 0]);
        let down = (0..200).map(|at| target(at, REFUSED)).collect();
        let gone = seen(vec![job("api", 200, down), job("web", 3, vec![target(0, "HTTP status 404")])]);
        let expected = [
            "Warn job web: 1 of 3 targets is down, http://10.0.0.0:80/metrics: HTTP status 404".to_owned(),
            format!(
                "Warn job api: 200 of 200 targets are down, such as http://10.0.0.0:80/metrics: {REFUSED}"
            ),
        ];
        assert_eq!(said(&mut notices, 10..120, &gone), expected);
        let again = [
            "Info job web: 1 target is up again after 1 m 49 s",
            "Info job api: 200 targets are up again after 1 m 49 s",
        ];
        assert_eq!(said(&mut notices, 120..300, &well), again);
    }

    #[test]
    fn what_comes_and_goes_is_said_once_a_minute_at_most() {
        let mut notices = Notices::default();
        let (well, down) =
            (seen(vec![job("api", 1, vec![])]), seen(vec![job("api", 1, vec![target(1, REFUSED)])]));
        let mut lines = Vec::new();
        // Down for five seconds, up for five.
        for second in 0..300 {
            let now = if second % 10 < 5 { &down } else { &well };
            lines.extend(said(&mut notices, second..second + 1, now));
        }
        assert_eq!(lines.len(), 1, "{lines:?}");
        // Up for so long that it is over each time.
        let (mut notices, mut lines) = (Notices::default(), Vec::new());
        for second in 0..300 {
            let now = if second % 25 < 5 { &down } else { &well };
            lines.extend(said(&mut notices, second..second + 1, now));
        }
        let begun = lines.iter().filter(|line| line.starts_with("Warn")).count();
        assert!((2..=5).contains(&begun), "{lines:?}");
        assert!(lines.len() <= 2 * begun, "{lines:?}");
    }

    #[test]
    fn another_reason_is_no_recovery() {
        let mut notices = Notices::default();
        let refused = seen(vec![job("api", 1, vec![target(1, REFUSED)])]);
        let missing = seen(vec![job("api", 1, vec![target(1, "server returned HTTP status 404 Not Found")])]);
        assert_eq!(said(&mut notices, 0..30, &refused).len(), 1);
        let lines = said(&mut notices, 30..90, &missing);
        assert!(lines.len() == 1 && lines[0].contains("404 Not Found"), "{lines:?}");
    }

    #[test]
    fn the_same_in_several_jobs_is_one_line() {
        let mut notices = Notices::default();
        let jobs = ["a", "b", "c", "d", "e"].map(|name| job(name, 2, vec![target(1, REFUSED)]));
        let lines = said(&mut notices, 0..30, &seen(jobs.into()));
        let expected = "Warn jobs a, b, c and 2 others: 5 of 10 targets are down, such as";
        assert!(lines.len() == 1 && lines[0].starts_with(expected), "{lines:?}");
    }

    #[test]
    fn a_job_without_targets_is_said_where_others_have_some() {
        let without = |cause| WithoutTargets { why: "discovered 12, all dropped".to_owned(), cause };
        let empty =
            |cause| Job { name: "pods".to_owned(), without_targets: Some(without(cause)), ..Job::default() };
        for (cause, expected) in [
            (Cause::NoneKept, &["Warn job pods has no targets: discovered 12, all dropped"][..]),
            (Cause::NoneFound, &["Info job pods has no targets: discovered 12, all dropped"]),
            (Cause::Discovery, &[]),
        ] {
            let mut notices = Notices::default();
            assert_eq!(said(&mut notices, 0..30, &seen(vec![empty(cause)])), [""; 0]);
            let others = seen(vec![empty(cause), job("api", 1, vec![])]);
            assert_eq!(said(&mut notices, 30..60, &others), expected);
            let lines =
                said(&mut notices, 60..90, &seen(vec![job("pods", 2, vec![]), job("api", 1, vec![])]));
            assert_eq!(lines.len(), expected.len(), "{lines:?}");
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_said_a_minute_later_or_is_over_in_silence() {
        let without = |why: &str| Some(WithoutTargets { why: why.to_owned(), cause: Cause::NoneKept });
        let empty = |at: usize| Job {
            name: format!("pods-{at:02}"),
            without_targets: without("discovered 12, all dropped"),
            ..Job::default()
        };
        let jobs = |empty_jobs: usize| {
            let others = (empty_jobs..25).map(|at| job(&format!("pods-{at:02}"), 1, vec![]));
            let api = job("api", 1, vec![]);
            seen((0..empty_jobs).map(empty).chain(others).chain([api]).collect())
        };
        let mut notices = Notices::default();
        assert_eq!(said(&mut notices, 0..50, &jobs(25)).len(), 10);
        assert_eq!(said(&mut notices, 50..70, &jobs(25)).len(), 10);
        // The last five were never said to have begun.
        assert_eq!(said(&mut notices, 70..100, &jobs(20)), [""; 0]);
        let over = said(&mut notices, 100..200, &jobs(0));
        assert!(over.len() == 20 && over.iter().all(|line| line.contains("has 1 target now")), "{over:?}");
    }

    #[test]
    fn a_spool_that_fills_is_said_from_half_on_and_over_well_below() {
        let mut notices = Notices::default();
        let filled = |percent: u64| {
            let mut seen = seen(vec![job("api", 1, vec![])]);
            seen.spool.fullest = (percent << 20, 100 << 20);
            seen
        };
        assert_eq!(said(&mut notices, 0..10, &filled(49)), [""; 0]);
        let lines = said(&mut notices, 10..20, &filled(52));
        assert!(lines.len() == 1 && lines[0].contains("52 MiB of 100 MiB"), "{lines:?}");
        assert_eq!(said(&mut notices, 20..60, &filled(45)), [""; 0]);
        assert_eq!(said(&mut notices, 60..90, &filled(30)).len(), 1);
    }
}
