//! One refreshing cache for each chain of credentials.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::{Clock, CredentialError, CredentialSource, Credentials, ProviderReport};

/// Credentials are refreshed between these two times before they expire, at a random moment, so that a fleet
/// started together does not call STS together.
const REFRESH_BEFORE_MIN: Duration = Duration::from_secs(5 * 60);
const REFRESH_BEFORE_MAX: Duration = Duration::from_secs(10 * 60);
/// A service may hand out the same credentials until shortly before their end; it is not asked more often.
const REFRESH_PAUSE_MIN: Duration = Duration::from_secs(10);
/// Longer than a source needs with its own timeouts and retries (`sts.rs`).
const REFRESH_TIMEOUT: Duration = Duration::from_secs(40);
/// A refresh that failed is tried again after a second, doubling up to these.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX_WHILE_VALID: Duration = Duration::from_secs(60);
const RETRY_MAX_WITHOUT: Duration = Duration::from_secs(10);
/// Credentials younger than this are not invalidated: the refusal was about the ones before.
const INVALIDATE_MIN_AGE: Duration = Duration::from_secs(5);

/// Keeps credentials, and refreshes them in the background minutes before they expire.
///
/// - At most one refresh is under way, however many callers wait for it.
/// - When a refresh fails, credentials that are still valid go on being used; it is tried again with growing
///   pauses, logged and counted.
/// - With none valid, [`get`](Self::get) waits for the refresh under way and says why it failed. Between
///   attempts it fails at once with the last reason, so that callers who retry do not call STS each time.
/// - Making it calls nothing: a start without reachable STS is like any other failed refresh.
///
/// Cloning is cheap; clones share everything. [`get`](Self::get) needs a tokio runtime with time.
#[derive(Clone)]
pub struct CachedCredentials {
    shared: Arc<Shared>,
}

struct Shared {
    source: Box<dyn CredentialSource>,
    clock: Clock,
    random: RandomState,
    state: Mutex<State>,
    finished: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    current: Option<Credentials>,
    obtained_at: Option<SystemTime>,
    refresh_at: Option<SystemTime>,
    invalidated: bool,
    refreshing: bool,
    retry_at: Option<SystemTime>,
    refreshes: u64,
    failures: u64,
    consecutive_failures: u32,
    last_error: Option<CredentialError>,
}

/// The state of a cache, for metrics and pages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// What provided the current credentials.
    pub provider: Option<String>,
    /// The access key id of the current credentials.
    pub access_key: Option<String>,
    /// When the current credentials end; `None` also where they never do.
    pub expires_at: Option<SystemTime>,
    /// Whether there are credentials that are valid now.
    pub valid: bool,
    /// Refreshes that succeeded, the first included.
    pub refreshes: u64,
    /// Refreshes that failed.
    pub failures: u64,
    /// Refreshes that failed since the last one that succeeded.
    pub consecutive_failures: u32,
    /// Why the last refresh failed; `None` after one that succeeded.
    pub last_error: Option<CredentialError>,
}

impl CachedCredentials {
    /// Keeps what `source` gives. `clock` decides what has expired.
    pub fn new(source: impl CredentialSource, clock: Clock) -> Self {
        let shared = Shared {
            source: Box::new(source),
            clock,
            random: RandomState::new(),
            state: Mutex::default(),
            finished: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Credentials that are valid now.
    ///
    /// # Errors
    /// Why there are none. All of them are worth trying again later.
    pub async fn get(&self) -> Result<Credentials, CredentialError> {
        let mut finished = {
            let now = self.shared.clock.now();
            let mut state = self.shared.lock();
            let due = state.invalidated || state.refresh_at.is_some_and(|at| at <= now);
            let may_try = state.retry_at.is_none_or(|at| at <= now);
            let valid = state.valid_at(now);
            match valid {
                Some(credentials) if !due => return Ok(credentials),
                Some(credentials) if !state.invalidated || (!may_try && !state.refreshing) => {
                    if may_try {
                        self.start_refresh(&mut state);
                    }
                    return Ok(credentials);
                }
                None if !may_try && !state.refreshing => return Err(state.reason()),
                _ => {}
            }
            // Subscribed before the task can end, so its end is not missed.
            let finished = self.shared.finished.subscribe();
            self.start_refresh(&mut state);
            finished
        };
        // The sender lives as long as self.
        let _ = finished.changed().await;
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        state.valid_at(now).ok_or_else(|| state.reason())
    }

    /// [`get`](Self::get), waiting at most this long.
    ///
    /// # Errors
    /// Also [`CredentialError::Waiting`], while a refresh goes on.
    pub async fn get_within(&self, patience: Duration) -> Result<Credentials, CredentialError> {
        let asked_at = Instant::now();
        tokio::time::timeout(patience, self.get()).await.unwrap_or_else(|_| {
            let source_name = self.shared.source.waits_for();
            let source_name = source_name.unwrap_or_else(|| String::from("their source"));
            Err(CredentialError::Waiting { source_name, seconds: asked_at.elapsed().as_secs() })
        })
    }

    /// Says that the endpoint refused the current credentials: the next [`get`](Self::get) waits for a
    /// refresh. Should that fail, the old ones are used on while they are valid by their expiry. Credentials
    /// that are only seconds old stay.
    pub fn invalidate(&self) {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        let age = state.obtained_at.map(|at| now.duration_since(at).unwrap_or_default());
        if age.is_some_and(|age| age >= INVALIDATE_MIN_AGE) {
            state.invalidated = true;
        }
    }

    /// The state as of now.
    pub fn status(&self) -> CacheStatus {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        CacheStatus {
            provider: state.current.as_ref().map(|current| current.provider().to_owned()),
            access_key: state.current.as_ref().map(|current| current.access_key().to_owned()),
            expires_at: state.current.as_ref().and_then(Credentials::expires_at),
            valid: state.valid_at(now).is_some(),
            refreshes: state.refreshes,
            failures: state.failures,
            consecutive_failures: state.consecutive_failures,
            last_error: state.last_error.clone(),
        }
    }

    /// What the source looked at when it was last asked.
    pub fn report(&self) -> ProviderReport {
        self.shared.source.report()
    }

    /// The clock that decides what has expired; signing uses the same.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    fn start_refresh(&self, state: &mut State) {
        if state.refreshing {
            return;
        }
        state.refreshing = true;
        // A task of its own: a caller that gives up does not end the refresh that others wait for.
        let refresh = Refresh { shared: Arc::clone(&self.shared), outcome: None };
        tokio::spawn(refresh.run());
    }
}

impl fmt::Debug for CachedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedCredentials").field(&self.status()).finish()
    }
}

impl State {
    fn valid_at(&self, now: SystemTime) -> Option<Credentials> {
        self.current.as_ref().filter(|current| current.valid_at(now)).cloned()
    }

    fn reason(&self) -> CredentialError {
        let not_yet = || CredentialError::TimedOut { seconds: REFRESH_TIMEOUT.as_secs() };
        self.last_error.clone().unwrap_or_else(not_yet)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number from 0 to 1.
    fn chance(&self, salt: u64) -> f64 {
        f64::from((self.random.hash_one(salt) >> 32) as u32) / f64::from(u32::MAX)
    }

    fn refreshed(&self, credentials: Credentials) {
        let now = self.clock.now();
        let mut state = self.lock();
        if !credentials.valid_at(now) {
            let provider = credentials.provider().to_owned();
            let reason = "what it gave has already expired; is this machine's clock right?".to_owned();
            return self.failed_locked(&mut state, CredentialError::Invalid { provider, reason });
        }
        state.refreshes += 1;
        state.refresh_at = credentials.expires_at().map(|expires_at| {
            let lifetime = expires_at.duration_since(now).unwrap_or_default();
            let before = refresh_before(lifetime, self.chance(state.refreshes));
            now + lifetime.saturating_sub(before).max(REFRESH_PAUSE_MIN)
        });
        if state.consecutive_failures > 0 {
            tracing::info!(
                provider = credentials.provider(),
                failures = state.consecutive_failures,
                "AWS credentials are refreshed again"
            );
        }
        state.current = Some(credentials);
        state.obtained_at = Some(now);
        state.invalidated = false;
        state.consecutive_failures = 0;
        state.last_error = None;
        state.retry_at = None;
    }

    fn failed(&self, error: CredentialError) {
        self.failed_locked(&mut self.lock(), error);
    }

    fn failed_locked(&self, state: &mut State, error: CredentialError) {
        let now = self.clock.now();
        let current = state.valid_at(now);
        state.failures += 1;
        state.consecutive_failures = state.consecutive_failures.saturating_add(1);
        let max = if current.is_some() { RETRY_MAX_WHILE_VALID } else { RETRY_MAX_WITHOUT };
        let pause = RETRY_FIRST.saturating_mul(1 << (state.consecutive_failures - 1).min(6)).min(max);
        let pause = pause.mul_f64(0.75 + 0.5 * self.chance(state.failures));
        state.retry_at = Some(now + pause);
        match current.and_then(|current| current.expires_at()) {
            Some(expires_at) => tracing::warn!(
                %error,
                failures = state.consecutive_failures,
                valid_for_seconds = expires_at.duration_since(now).unwrap_or_default().as_secs(),
                "AWS credentials could not be refreshed; the ones at hand are still used"
            ),
            None => tracing::error!(
                %error,
                failures = state.consecutive_failures,
                "there are no valid AWS credentials; requests wait"
            ),
        }
        state.last_error = Some(error);
    }
}

/// One refresh. Its end is said even when the source panics or the runtime ends.
struct Refresh {
    shared: Arc<Shared>,
    outcome: Option<Result<Credentials, CredentialError>>,
}

impl Refresh {
    async fn run(mut self) {
        let outcome = tokio::time::timeout(REFRESH_TIMEOUT, self.shared.source.credentials()).await;
        let seconds = REFRESH_TIMEOUT.as_secs();
        self.outcome = Some(outcome.unwrap_or(Err(CredentialError::TimedOut { seconds })));
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        match self.outcome.take() {
            Some(Ok(credentials)) => self.shared.refreshed(credentials),
            Some(Err(error)) => self.shared.failed(error),
            None => self.shared.failed(CredentialError::Invalid {
                provider: String::from("the credential source"),
                reason: String::from("it ended without an answer"),
            }),
        }
        self.shared.lock().refreshing = false;
        self.shared.finished.send_modify(|finished| *finished += 1);
    }
}

/// How long before the end of `lifetime` to refresh: 5 to 10 minutes, and for short lifetimes between a third
/// and a half of them.
fn refresh_before(lifetime: Duration, chance: f64) -> Duration {
    let min = REFRESH_BEFORE_MIN.min(lifetime / 3);
    let max = REFRESH_BEFORE_MAX.min(lifetime / 2);
    min + (max - min).mul_f64(chance)
}
