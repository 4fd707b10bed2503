//! Takes up a configuration that has changed, without a gap in what has not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use promferry_config::{Config, ConfigError, HealthCheck, LogLevel, Sources};
use promferry_remote_write::EndpointStatus;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, JoinError};

use crate::pipeline::{Pipeline, Reloaded, StartError};
use crate::watched_files::{self, ConfigFiles, Finding, NamedFiles, Reading};

/// Takes the configuration, as it is on the disk by now, into a running pipeline: when it is asked to, and by itself
/// while it [watches](Self::watch). One that can't be used changes nothing. Clones are handles to the same one.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    sources: Sources,
    pipeline: Arc<Pipeline>,
    /// What of the configuration was only used at the start.
    at_start: AtStart,
    /// Locked while a configuration is read and applied: one after the other.
    state: Mutex<State>,
}

struct State {
    /// What the last attempt has read, whether it could be used or not.
    files: ConfigFiles,
    /// It was read, but could not be made ready: a certificate is missing, say, whose coming nothing here would show.
    is_unready: bool,
    /// Why the last attempt failed, when that was said, and of which content.
    said: Option<(String, Instant, u64)>,
    /// What has been said of the configuration in force, without where.
    notes: BTreeSet<String>,
    health_check: Option<HealthCheck>,
    log_level: Option<LogLevel>,
    /// The files that it names, each with who does.
    named: Vec<(PathBuf, String)>,
    /// By endpoint: who says as whom its requests are signed.
    announcements: BTreeMap<String, AbortHandle>,
}

#[derive(PartialEq)]
struct AtStart {
    health_check: Option<HealthCheck>,
    log_level: Option<LogLevel>,
}

/// How reading the configuration went the last time, the start included.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReloadStatus {
    /// When it was last tried.
    pub last_attempt: SystemTime,
    /// When the configuration in force was read.
    pub last_success: SystemTime,
    /// Why the last attempt failed, if it did; the configuration of the last success is in force then.
    pub error: Option<String>,
    /// A hash of the files that the configuration in force was read from, their names included: alike where the same
    /// configuration runs. Zero where nothing was read from files.
    pub hash: u64,
}

impl ReloadStatus {
    /// As a start leaves it.
    pub(crate) fn at_start() -> Self {
        let now = SystemTime::now();
        Self { last_attempt: now, last_success: now, error: None, hash: 0 }
    }

    /// Whether what was read last is in force.
    pub fn is_successful(&self) -> bool {
        self.error.is_none()
    }
}

/// Why a configuration was not taken up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// It can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It was read, and something in it can't be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The attempt itself broke off, for a fault of the program or at its end.
    #[error("the attempt broke off: {0}")]
    Broken(String),
}

impl From<JoinError> for ReloadError {
    fn from(error: JoinError) -> Self {
        // Without the task's number: the same fault is the same text.
        Self::Broken(match error.try_into_panic() {
            Ok(panic) => {
                let message = panic.downcast_ref::<&str>().copied();
                let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                format!("a fault of this program ({})", message.unwrap_or("it says no more"))
            }
            Err(_) => "the process is ending".to_owned(),
        })
    }
}

/// Who tries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// Somebody who waits for the verdict.
    Asked,
    /// Nobody does: while it is not the last one, what fails is tried again before anything is said.
    ByItself { is_last: bool },
}

/// Reading the files again and again is not all that there is to do.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// A file that is written in place is whole when it has not changed for this long.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Then it is read however it is.
const MAX_SETTLING: u32 = 10;
/// What can't be used may be half of what is being written: tried again after each of these.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// What fails for the same reason as before is said again no sooner, however often it is asked for.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);

impl Reloader {
    /// For `pipeline`, which runs with `config`, and that was read from `files`. Says as whom its endpoints sign.
    pub fn new(sources: Sources, config: &Config, files: ConfigFiles, pipeline: Arc<Pipeline>) -> Self {
        pipeline.set_reload_status(|status| status.hash = files.fingerprint());
        let mut state = State {
            files,
            is_unready: false,
            said: None,
            notes: notes(config).map(|note| note.what).collect(),
            health_check: config.health_check.clone(),
            log_level: config.log_level,
            named: named(config),
            announcements: BTreeMap::new(),
        };
        state.announce(&pipeline, |_| true);
        let at_start = AtStart { health_check: config.health_check.clone(), log_level: config.log_level };
        Self(Arc::new(Inner { sources, pipeline, at_start, state: Mutex::new(state) }))
    }

    /// How it went the last time.
    pub fn status(&self) -> ReloadStatus {
        self.0.pipeline.reload_status()
    }

    /// Reads the configuration and takes it up. What fails is said in the log too, unless it is known.
    ///
    /// Cancelling the future does not: what has begun is brought to its end.
    ///
    /// # Errors
    /// [`ReloadError`] says why the configuration from before goes on.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.attempt(Attempt::Asked).await.unwrap_or_else(|| Ok(Reloaded::default()))
    }

    /// Looks every `interval` whether the files of the configuration, and those that it and `more` name, have other
    /// contents, and takes up what has changed; no more often than ten times a second. Ends only when it is cancelled.
    pub async fn watch(self, interval: Duration, more: Vec<(PathBuf, String)>) {
        let mut named_files = NamedFiles::default();
        loop {
            let named = self.0.state.lock().await.named.iter().chain(&more).cloned().collect::<Vec<_>>();
            named_files = look(move || {
                let findings = named_files.look(named);
                (named_files, findings)
            })
            .await;
            tokio::time::sleep(interval.max(MIN_INTERVAL)).await;
            if self.is_due().await {
                self.reload_by_itself().await;
            }
        }
    }

    /// Whether there is something that the last attempt did not see.
    async fn is_due(&self) -> bool {
        let (files, is_unready) = {
            let state = self.0.state.lock().await;
            (state.files.clone(), state.is_unready)
        };
        // Where looking breaks off, so will the attempt, and say it.
        is_unready || tokio::task::spawn_blocking(move || files.have_changed()).await.unwrap_or(true)
    }

    async fn reload_by_itself(&self) {
        self.until_settled().await;
        for pause in PAUSES {
            match self.attempt(Attempt::ByItself { is_last: false }).await {
                Some(Err(_)) => tokio::time::sleep(pause).await,
                _ => return,
            }
        }
        // What it comes to is in the log and in the status.
        let _ = self.attempt(Attempt::ByItself { is_last: true }).await;
    }

    /// Waits until nobody writes to the configuration any more, so that half of it is not taken for all of it.
    async fn until_settled(&self) {
        for _ in 0..MAX_SETTLING {
            let sources = self.0.sources.clone();
            let read = tokio::task::spawn_blocking(move || watched_files::load(&sources, Reading::Again).1);
            let Ok(files) = read.await else { return };
            tokio::time::sleep(SETTLED_AFTER).await;
            let has_changed = tokio::task::spawn_blocking(move || files.have_changed());
            if !has_changed.await.unwrap_or(false) {
                return;
            }
        }
    }

    /// `None` when what is there was judged already.
    async fn attempt(&self, attempt: Attempt) -> Option<Result<Reloaded, ReloadError>> {
        let inner = Arc::clone(&self.0);
        let attempted = tokio::spawn(async move { inner.attempt(attempt).await });
        self.0.concluded(attempt, attempted.await).await
    }
}

/// Looks, and says what was found. Where that breaks off, for a fault of this program, everything is looked at anew the
/// next time.
async fn look(look: impl FnOnce() -> (NamedFiles, Vec<Finding>) + Send + 'static) -> NamedFiles {
    match tokio::task::spawn_blocking(look).await {
        Ok((looked, findings)) => {
            findings.iter().for_each(Finding::log);
            looked
        }
        Err(error) => {
            let error = ReloadError::from(error);
            tracing::error!("the files that the configuration names were not looked at: {error}");
            NamedFiles::default()
        }
    }
}

impl Inner {
    async fn attempt(&self, attempt: Attempt) -> Option<Result<Reloaded, ReloadError>> {
        let mut state = self.state.lock().await;
        let sources = self.sources.clone();
        let read = tokio::task::spawn_blocking(move || watched_files::load(&sources, Reading::Again));
        let (config, files) = match read.await {
            Ok((config, files)) => (config.map_err(ReloadError::from), files),
            Err(error) => (Err(error.into()), state.files.clone()),
        };
        let is_broken = matches!(config, Err(ReloadError::Broken(_)));
        if attempt != Attempt::Asked && files == state.files && !state.is_unready && !is_broken {
            return None;
        }
        let waiting = self.pipeline.delivery().await.endpoints;
        let outcome = match config {
            Ok(config) => match self.pipeline.apply(&config).await {
                Ok(reloaded) => Ok((config, reloaded)),
                Err(error) => Err(ReloadError::from(error)),
            },
            Err(error) => Err(error),
        };
        match outcome {
            Ok((config, reloaded)) => {
                state.files = files;
                state.is_unready = false;
                self.taken_up(&mut state, &config, &reloaded);
                log_left_behind(&waiting, &reloaded);
                Some(Ok(reloaded))
            }
            Err(error) if attempt == (Attempt::ByItself { is_last: false }) => Some(Err(error)),
            // Nobody wants to know any more what the configuration is worth.
            Err(error) if self.pipeline.is_stopping() => Some(Err(error)),
            Err(error) => {
                state.files = files;
                state.is_unready = matches!(error, ReloadError::Start(_));
                self.refused(&mut state, attempt, &error);
                Some(Err(error))
            }
        }
    }

    /// What an attempt came to; one that broke off is shown as any other that failed, and is due again.
    async fn concluded(
        &self,
        attempt: Attempt,
        attempted: Result<Option<Result<Reloaded, ReloadError>>, JoinError>,
    ) -> Option<Result<Reloaded, ReloadError>> {
        let error = match attempted {
            Ok(outcome) => return outcome,
            Err(error) => ReloadError::from(error),
        };
        if attempt != (Attempt::ByItself { is_last: false }) && !self.pipeline.is_stopping() {
            let mut state = self.state.lock().await;
            state.is_unready = true;
            self.refused(&mut state, attempt, &error);
        }
        Some(Err(error))
    }

    fn taken_up(&self, state: &mut State, config: &Config, reloaded: &Reloaded) {
        let (now, hash) = (SystemTime::now(), state.files.fingerprint());
        self.pipeline.set_reload_status(|status| {
            *status = ReloadStatus { last_attempt: now, last_success: now, error: None, hash };
        });
        state.said = None;
        if reloaded.is_nothing() {
            tracing::info!("configuration reloaded: what it asks for has not changed");
        } else {
            tracing::info!("configuration reloaded: {reloaded}");
        }
        self.log_notes(state, config);
        state.named = named(config);
        let Reloaded { endpoints, .. } = reloaded;
        state.announce(&self.pipeline, |key| {
            endpoints.added.iter().chain(&endpoints.changed).any(|new| new == key)
        });
    }

    fn refused(&self, state: &mut State, attempt: Attempt, error: &ReloadError) {
        let (text, hash) = (error.to_string(), state.files.fingerprint());
        let is_said = state.said.as_ref().is_some_and(|(said, at, of)| {
            let is_recent = attempt != Attempt::Asked || at.elapsed() < SAID_AGAIN_AFTER;
            *said == text && *of == hash && is_recent
        });
        if !is_said {
            let since = humantime::format_rfc3339_seconds(self.pipeline.reload_status().last_success);
            tracing::error!("the configuration was not reloaded, the one of {since} goes on: {text}");
            state.said = Some((text.clone(), Instant::now(), hash));
        }
        self.pipeline.set_reload_status(|status| {
            status.last_attempt = SystemTime::now();
            status.error = Some(text);
        });
    }

    /// Says what is new of what is to be said of a configuration, and what of it is not taken up.
    fn log_notes(&self, state: &mut State, config: &Config) {
        notes(config).filter(|note| !state.notes.contains(&note.what)).for_each(|note| note.log());
        state.notes = notes(config).map(|note| note.what).collect();
        let AtStart { health_check, log_level } = &self.at_start;
        if config.health_check != state.health_check && config.health_check != *health_check {
            tracing::warn!(
                "health_check stays as it was at the start: the process has to be started anew for that"
            );
        }
        if config.log_level != state.log_level && config.log_level != *log_level {
            tracing::warn!(
                "the log's level stays as it was at the start: the process has to be started anew for that"
            );
        }
        state.health_check.clone_from(&config.health_check);
        state.log_level = config.log_level;
    }
}

impl State {
    /// Says as whom the requests of new endpoints are signed, as soon as that is known.
    fn announce(&mut self, pipeline: &Pipeline, is_new: impl Fn(&str) -> bool) {
        let signing = pipeline.signing();
        self.announcements.retain(|key, announcement| {
            let stays = signing.iter().any(|signing| signing.endpoint == *key) && !is_new(key);
            if !stays {
                announcement.abort();
            }
            stays
        });
        for signing in signing.into_iter().filter(|signing| is_new(&signing.endpoint)) {
            let key = signing.endpoint.clone();
            let announcement = tokio::spawn(async move { signing.announce().await });
            self.announcements.insert(key, announcement.abort_handle());
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.announcements.values().for_each(AbortHandle::abort);
    }
}

/// What becomes of what waits for an endpoint that is not configured any more.
pub(crate) const LEFT_BEHIND: &str = "which is no remote_write endpoint any more: they are kept for a day; `promferry \
                                      spool drain` delivers them, `promferry spool forget` gives them up";

/// Of endpoints that left the configuration, what waited for them.
fn log_left_behind(waiting: &[EndpointStatus], reloaded: &Reloaded) {
    for EndpointStatus { key, ledger, .. } in waiting {
        let samples = ledger.pending.samples;
        if samples > 0 && reloaded.endpoints.removed.contains(key) {
            tracing::warn!("{samples} samples wait for {key}, {LEFT_BEHIND}");
        }
    }
}

/// Something that is to be said of a configuration.
pub(crate) struct Note {
    is_warning: bool,
    text: String,
    /// What it is about, without where that stands: lines move with everything that is written above them.
    what: String,
}

impl Note {
    pub(crate) fn log(&self) {
        let text = &self.text;
        if self.is_warning { tracing::warn!("{text}") } else { tracing::info!("{text}") }
    }
}

/// What is to be said of a configuration.
pub(crate) fn notes(config: &Config) -> impl Iterator<Item = Note> {
    let warnings = config.warnings.iter().map(|warning| Note {
        is_warning: true,
        text: warning.to_string(),
        what: format!("{} {}", warning.path(), warning.message()),
    });
    let differences = config.differences.iter().map(|difference| Note {
        is_warning: false,
        text: format!("other than from the OpenTelemetry Collector: {difference}"),
        what: difference.clone(),
    });
    warnings.chain(differences)
}

fn named(config: &Config) -> Vec<(PathBuf, String)> {
    let files = config.files().into_iter();
    files.map(|file| (file.path, format!("{} of {}", file.key, file.owner))).collect()
}

#[cfg(test)]
mod tests {
    use promferry_config::NoFiles;
    use promferry_remote_write::spool::{MemoryStorage, SpoolOptions};
    use promferry_sigv4_auth::Environment;

    use super::*;
    use crate::limits::Limits;
    use crate::pipeline::PipelineOptions;

    const CONFIG: &str = "global: {external_labels: {cluster: a}}\n";

    /// A reloader of this file, with nothing to scrape and nowhere to send it.
    async fn reloader(file: PathBuf) -> Reloader {
        let options = PipelineOptions {
            storage_path: PathBuf::from("/nonexistent"),
            spool: SpoolOptions::default(),
            limits: Limits {
                memory_bytes: 512 << 20,
                memory_is_limited: true,
                cpus: 1.0,
                budget_share: None,
            },
            user_agent: "promferry-test".to_owned(),
            environment: Environment::from_pairs([] as [(&str, &str); 0]),
            discovery_debounce: Duration::from_millis(100),
            start_timestamps: false,
            extra_scrape_metrics: false,
            transports: None,
        };
        let config = Config::from_prometheus(&file, CONFIG, &NoFiles, &|_: &str| None).unwrap();
        let pipeline = Pipeline::start_on(&config, options, || Ok(MemoryStorage::new())).await.unwrap();
        let sources = Sources::Prometheus(file);
        let (_, files) = watched_files::load(&sources, Reading::First);
        Reloader::new(sources, &config, files, Arc::new(pipeline))
    }

    #[tokio::test]
    async fn an_attempt_that_breaks_off_is_shown_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, CONFIG).unwrap();
        let reloader = reloader(file).await;
        assert!(!reloader.is_due().await && reloader.status().is_successful());
        for attempt in [Attempt::Asked, Attempt::ByItself { is_last: true }] {
            let broken = tokio::spawn(async { panic!("a number that is none") }).await;
            let outcome = reloader.0.concluded(attempt, broken).await;
            let text = "the attempt broke off: a fault of this program (a number that is none)";
            assert_eq!(outcome.unwrap().unwrap_err().to_string(), text);
            assert_eq!(reloader.status().error.as_deref(), Some(text));
            assert!(reloader.is_due().await, "nothing else would show that it can be tried again");
        }
        assert!(reloader.attempt(Attempt::ByItself { is_last: false }).await.unwrap().is_ok());
        assert!(reloader.status().is_successful() && !reloader.is_due().await);
        reloader.0.pipeline.shutdown(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn a_look_that_breaks_off_is_not_the_last_one() {
        let looked = look(|| panic!("a file that is none")).await;
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        let named = vec![(token.clone(), "job a".to_owned())];
        std::fs::write(&token, "one").unwrap();
        let before = named.clone();
        let mut files = look(move || {
            let mut files = looked;
            let findings = files.look(before);
            (files, findings)
        })
        .await;
        std::fs::write(&token, "two").unwrap();
        assert_eq!(files.look(named).len(), 1);
    }
}
