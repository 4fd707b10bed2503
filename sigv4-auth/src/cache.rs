//! A refreshing cache over one source of credentials.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
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
/// How often it is looked whether a refresh is due, at least: a correction of the clock may move it.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Credentials that look expired when they come are used this long: it may be this machine's clock that is wrong,
/// and the endpoint's answer puts it right.
const DOUBTFUL_USE: Duration = Duration::from_secs(60);
/// A refresh that failed is tried again after a second, doubling up to these.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX_WHILE_VALID: Duration = Duration::from_secs(60);
const RETRY_MAX_WITHOUT: Duration = Duration::from_secs(10);
/// Credentials younger than this are not invalidated. It doubles with each refresh that did not help.
const INVALIDATE_MIN_AGE: Duration = Duration::from_secs(5);
const INVALIDATE_MIN_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Keeps credentials, and refreshes them in the background minutes before they expire.
///
/// - At most one refresh is under way, however many callers wait for it. From the first [`get`](Self::get) on they
///   are refreshed also while nobody asks.
/// - When a refresh fails, credentials that are still valid go on being used; it is tried again with growing
///   pauses, logged and counted.
/// - With none valid, [`get`](Self::get) waits for the refresh under way and says why it failed. Between
///   attempts it fails at once with the last reason, so that callers who retry do not call STS each time.
/// - Making it calls nothing: a start without reachable STS is like any other failed refresh.
/// - Credentials that have expired by the clock when they come count as a failed refresh, but are given out for a
///   minute: the clock may be wrong by hours, and the endpoint says so only when it is asked.
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

/// Times are what has passed by the clock ([`Clock::elapsed`]), which neither a correction nor a machine's clock that
/// is set back moves. What has expired is judged by the time of day.
#[derive(Default)]
struct State {
    current: Option<Credentials>,
    obtained_at: Duration,
    /// The current ones had expired by the clock when they came.
    doubtful: bool,
    /// Where in its span of time the next refresh lies, from 0 to 1.
    chance: f64,
    invalidated: bool,
    /// Since the endpoint accepted something.
    invalidations: u32,
    refreshing_since: Option<Instant>,
    /// Refreshes that were begun.
    started: u64,
    retry_at: Duration,
    refreshes: u64,
    failures: u64,
    consecutive_failures: u32,
    last_error: Option<CredentialError>,
    said: Option<Said>,
}

/// What was logged of failures last.
struct Said {
    trouble: Trouble,
    at: Duration,
    /// Credentials were refreshed since.
    is_over: bool,
}

/// What a failed refresh comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// There are others.
    StillValid,
    /// There are some that look expired.
    Doubtful,
    /// There are none.
    NoneValid,
}

/// A failure that is the same as the last is said again after an hour, one that comes again after a minute.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(3600);
const BETWEEN_WARNINGS: Duration = Duration::from_secs(60);

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
        let Shared { clock, .. } = &*self.shared;
        let mut finished = {
            let mut state = self.shared.lock();
            state.settle(clock);
            let due = state.invalidated || state.refresh_in(clock).is_some_and(|pause| pause.is_zero());
            let may_try = state.retry_in(clock).is_zero();
            let refreshing = state.refreshing_since.is_some();
            match state.usable(clock) {
                Some(credentials) if !due => return Ok(credentials),
                Some(credentials) if !state.invalidated || (!may_try && !refreshing) => {
                    if may_try {
                        self.shared.start_refresh(&mut state);
                    }
                    return Ok(credentials);
                }
                None if !may_try && !refreshing => return Err(self.shared.reason(&state)),
                _ => {}
            }
            // Subscribed before the task can end, so its end is not missed.
            let finished = self.shared.finished.subscribe();
            self.shared.start_refresh(&mut state);
            finished
        };
        // The sender lives as long as self.
        let _ = finished.changed().await;
        let state = self.shared.lock();
        state.usable(clock).ok_or_else(|| self.shared.reason(&state))
    }

    /// [`get`](Self::get), waiting at most this long.
    ///
    /// # Errors
    /// Also [`CredentialError::Waiting`], while a refresh goes on.
    pub async fn get_within(&self, patience: Duration) -> Result<Credentials, CredentialError> {
        tokio::time::timeout(patience, self.get()).await.unwrap_or_else(|_| {
            let since = self.shared.lock().refreshing_since;
            Err(CredentialError::Waiting {
                source_name: self.shared.source_name(),
                seconds: since.map_or(patience, |since| since.elapsed()).as_secs(),
            })
        })
    }

    /// Says that the endpoint refused credentials of this access key id. Should they be the current ones, the next
    /// [`get`](Self::get) waits for a refresh; should that fail, the old ones are used on while they are valid by
    /// their expiry.
    ///
    /// Credentials that are only seconds old stay. What a refresh brings may be refused as well, and the source is not
    /// asked in vain all the time: from one refusal to the next they have to be twice as old, five minutes at most,
    /// until something is [`accepted`](Self::accepted).
    pub fn invalidate(&self, access_key: &str) {
        let mut state = self.shared.lock();
        let is_current = state.current.as_ref().is_some_and(|current| current.access_key() == access_key);
        let min_age = INVALIDATE_MIN_AGE.saturating_mul(1 << state.invalidations.min(6));
        let min_age = min_age.min(INVALIDATE_MIN_AGE_MAX);
        if is_current && !state.invalidated && state.age(&self.shared.clock) >= min_age {
            state.invalidated = true;
            state.invalidations = state.invalidations.saturating_add(1);
        }
    }

    /// Says that the endpoint accepted credentials of this access key id.
    pub fn accepted(&self, access_key: &str) {
        let mut state = self.shared.lock();
        if state.current.as_ref().is_some_and(|current| current.access_key() == access_key) {
            state.invalidations = 0;
        }
    }

    /// The state as of now.
    pub fn status(&self) -> CacheStatus {
        let clock = &self.shared.clock;
        let mut state = self.shared.lock();
        state.settle(clock);
        CacheStatus {
            provider: state.current.as_ref().map(|current| current.provider().to_owned()),
            access_key: state.current.as_ref().map(|current| current.access_key().to_owned()),
            expires_at: state.current.as_ref().and_then(Credentials::expires_at),
            valid: state.valid_at(clock.now()).is_some(),
            refreshes: state.refreshes,
            failures: state.failures,
            consecutive_failures: state.consecutive_failures,
            last_error: state.last_error.clone(),
        }
    }

    /// What the source [looked at](CredentialSource::report) when it was last asked.
    pub fn report(&self) -> ProviderReport {
        self.shared.source.report()
    }

    /// The clock that decides what has expired; signing uses the same.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

impl fmt::Debug for CachedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CachedCredentials").field(&self.status()).finish()
    }
}

impl State {
    /// Whether a failed refresh is to be said: each that comes to something else, and the same once in a while.
    fn is_to_be_said(&mut self, trouble: Trouble, now: Duration) -> bool {
        let is_due = self.said.as_ref().is_none_or(|said| {
            let again = if said.is_over { BETWEEN_WARNINGS } else { SAID_AGAIN_AFTER };
            said.trouble != trouble || now.saturating_sub(said.at) >= again
        });
        if is_due {
            self.said = Some(Said { trouble, at: now, is_over: false });
        }
        is_due
    }

    fn valid_at(&self, now: SystemTime) -> Option<Credentials> {
        self.current.as_ref().filter(|current| current.valid_at(now)).cloned()
    }

    /// How old the current ones are.
    fn age(&self, clock: &Clock) -> Duration {
        clock.elapsed().saturating_sub(self.obtained_at)
    }

    /// Those that may be signed with.
    fn usable(&self, clock: &Clock) -> Option<Credentials> {
        let in_doubt = self.doubtful && self.age(clock) < DOUBTFUL_USE;
        if in_doubt { self.current.clone() } else { self.valid_at(clock.now()) }
    }

    /// Credentials that only looked expired are as good as others once the clock is corrected.
    fn settle(&mut self, clock: &Clock) {
        if self.doubtful && self.valid_at(clock.now()).is_some() {
            self.doubtful = false;
            self.refreshes += 1;
            self.consecutive_failures = 0;
            self.last_error = None;
            self.retry_at = Duration::ZERO;
        }
    }

    /// How long it is until a refresh is due, some time before the end of the lifetime as it is by the clock's
    /// correction of now; `None`: for ever.
    fn refresh_in(&self, clock: &Clock) -> Option<Duration> {
        let expires_at = self.current.as_ref()?.expires_at()?;
        let age = self.age(clock);
        let lifetime = expires_at.duration_since(clock.now()).unwrap_or_default().saturating_add(age);
        let wait = lifetime.saturating_sub(refresh_before(lifetime, self.chance)).max(REFRESH_PAUSE_MIN);
        Some(wait.saturating_sub(age))
    }

    /// How long it is until a refresh may be tried.
    fn retry_in(&self, clock: &Clock) -> Duration {
        self.retry_at.saturating_sub(clock.elapsed())
    }

    fn obtain(&mut self, credentials: Credentials, at: Duration) {
        self.current = Some(credentials);
        self.obtained_at = at;
        self.doubtful = false;
        self.invalidated = false;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there are none.
    fn reason(&self, state: &State) -> CredentialError {
        let not_yet = || CredentialError::TimedOut { seconds: self.source.longest_call().as_secs() };
        state.last_error.clone().unwrap_or_else(not_yet)
    }

    /// A number from 0 to 1.
    fn chance(&self, salt: u64) -> f64 {
        f64::from((self.random.hash_one(salt) >> 32) as u32) / f64::from(u32::MAX)
    }

    fn source_name(&self) -> String {
        self.source.waits_for().unwrap_or_else(|| String::from("their source"))
    }

    fn start_refresh(self: &Arc<Self>, state: &mut State) {
        if state.refreshing_since.is_some() {
            return;
        }
        state.refreshing_since = Some(Instant::now());
        state.started += 1;
        let number = state.started;
        let refresh = Refresh { shared: Arc::clone(self), outcome: None };
        let shared = Arc::downgrade(self);
        // A task of its own: a caller that gives up does not end the refresh that others wait for.
        tokio::spawn(async move {
            refresh.run().await;
            Self::refresh_when_due(shared, number).await;
        });
    }

    /// Begins the refresh after this one when it is due, unless somebody else does, for as long as there is a cache.
    async fn refresh_when_due(shared: Weak<Self>, after: u64) {
        loop {
            let pause = {
                let Some(shared) = shared.upgrade() else { return };
                let mut state = shared.lock();
                state.settle(&shared.clock);
                let pause = state.refresh_in(&shared.clock).filter(|_| state.started == after);
                let Some(pause) = pause.map(|pause| pause.max(state.retry_in(&shared.clock))) else { return };
                if pause.is_zero() {
                    return shared.start_refresh(&mut state);
                }
                pause
            };
            tokio::time::sleep(pause.min(LOOK_PAUSE_MAX)).await;
        }
    }

    fn refreshed(&self, credentials: Credentials) {
        let now = self.clock.elapsed();
        let mut state = self.lock();
        if !credentials.valid_at(self.clock.now()) {
            let provider = credentials.provider().to_owned();
            let reason = "what it gave has already expired; is this machine's clock right?".to_owned();
            if state.valid_at(self.clock.now()).is_none() {
                state.obtain(credentials, now);
                state.doubtful = true;
            }
            return self.failed_locked(&mut state, CredentialError::Invalid { provider, reason });
        }
        state.refreshes += 1;
        let was_said = state.said.as_mut().is_some_and(|said| !std::mem::replace(&mut said.is_over, true));
        if was_said && state.consecutive_failures > 0 {
            tracing::info!(
                provider = credentials.provider(),
                failures = state.consecutive_failures,
                "AWS credentials are refreshed again"
            );
        }
        state.obtain(credentials, now);
        state.chance = self.chance(state.refreshes);
        state.consecutive_failures = 0;
        state.last_error = None;
        state.retry_at = Duration::ZERO;
    }

    fn failed(&self, error: CredentialError) {
        self.failed_locked(&mut self.lock(), error);
    }

    fn failed_locked(&self, state: &mut State, error: CredentialError) {
        let valid = state.valid_at(self.clock.now());
        state.failures += 1;
        state.consecutive_failures = state.consecutive_failures.saturating_add(1);
        let max = if valid.is_some() { RETRY_MAX_WHILE_VALID } else { RETRY_MAX_WITHOUT };
        let pause = RETRY_FIRST.saturating_mul(1 << (state.consecutive_failures - 1).min(6)).min(max);
        let pause = pause.mul_f64(0.75 + 0.5 * self.chance(state.failures));
        state.retry_at = self.clock.elapsed() + pause;
        let failures = state.consecutive_failures;
        let left = |expires_at: SystemTime| expires_at.duration_since(self.clock.now()).unwrap_or_default();
        let valid_for_seconds =
            valid.as_ref().and_then(Credentials::expires_at).map(|expires_at| left(expires_at).as_secs());
        let trouble = match valid {
            Some(_) => Trouble::StillValid,
            None if state.doubtful => Trouble::Doubtful,
            None => Trouble::NoneValid,
        };
        // Who asks while there never were any is told why, and says it.
        let is_lost = trouble != Trouble::NoneValid || state.refreshes > 0;
        let is_due = is_lost && state.is_to_be_said(trouble, self.clock.elapsed());
        macro_rules! say {
            ($level:ident, $($said:tt)+) => {
                if is_due { tracing::$level!($($said)+) } else { tracing::debug!($($said)+) }
            };
        }
        match trouble {
            Trouble::StillValid => say!(
                warn,
                %error,
                failures,
                valid_for_seconds,
                "AWS credentials could not be refreshed; the ones at hand are still used"
            ),
            Trouble::Doubtful => say!(
                warn,
                %error,
                failures,
                "AWS credentials look expired by this machine's clock; they are used for a minute, for it may be wrong"
            ),
            Trouble::NoneValid => {
                say!(error, %error, failures, "there are no valid AWS credentials; requests wait");
            }
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
        let longest = self.shared.source.longest_call();
        let outcome = tokio::time::timeout(longest, self.shared.source.credentials()).await;
        self.outcome = Some(outcome.unwrap_or_else(|_| {
            Err(CredentialError::Waiting {
                source_name: self.shared.source_name(),
                seconds: longest.as_secs(),
            })
        }));
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
        self.shared.lock().refreshing_since = None;
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
