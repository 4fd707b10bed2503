//! The refreshing cache, on a scripted source and a clock that the test moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use promferry_sigv4_auth::{
    CachedCredentials, Clock, CredentialError, CredentialFuture, CredentialSource, Credentials,
};
use tokio::sync::Semaphore;

const START: u64 = 1_800_000_000;

/// A source that counts its calls, waits for a permit before each answer, and can fail.
#[derive(Clone)]
struct Script {
    seconds: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    permits: Arc<Semaphore>,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Clone, Copy)]
enum Outcome {
    Lifetime(u64),
    Fails,
    Panics,
}

impl Script {
    fn new() -> Self {
        Self {
            seconds: Arc::new(AtomicU64::new(START)),
            calls: Arc::default(),
            permits: Arc::new(Semaphore::new(1_000)),
            outcome: Arc::new(Mutex::new(Outcome::Lifetime(3_600))),
        }
    }

    fn cache(&self) -> CachedCredentials {
        let seconds = Arc::clone(&self.seconds);
        let clock = Clock::from_fn(move || at(seconds.load(Ordering::SeqCst)));
        CachedCredentials::new(self.clone(), clock)
    }

    fn set(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }

    fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

impl CredentialSource for Script {
    fn credentials(&self) -> CredentialFuture<'_> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(async move {
            self.permits.acquire().await.expect("open").forget();
            let outcome = *self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Outcome::Lifetime(seconds) => {
                    let expires_at = at(self.seconds.load(Ordering::SeqCst) + seconds);
                    Ok(Credentials::new(&format!("KEY{call}"), "s", None).expiring(Some(expires_at)))
                }
                Outcome::Fails => Err(CredentialError::Unreachable {
                    provider: String::from("script"),
                    endpoint: String::from("https://sts.test"),
                    reason: format!("call {call}"),
                }),
                Outcome::Panics => panic!("scripted"),
            }
        })
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

async fn key(cache: &CachedCredentials) -> String {
    cache.get().await.expect("credentials").access_key().to_owned()
}

/// Lets background tasks run until `done`.
async fn until(done: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        // A refresh that was just started runs only once this task yields.
        loop {
            tokio::task::yield_now().await;
            if done() {
                break;
            }
        }
    })
    .await
    .expect("within ten seconds");
}

#[tokio::test]
async fn callers_share_one_refresh_even_when_the_first_gives_up() {
    let script = Script::new();
    script.permits.forget_permits(1_000);
    let cache = script.cache();
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get().await }
    });
    until(|| script.calls() == 1).await;
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { key(&cache).await })
        })
        .collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.is_err());
    script.permits.add_permits(1);
    for task in waiting {
        assert_eq!(task.await.expect("a key"), "KEY1");
    }
    assert_eq!(script.calls(), 1);
}

#[tokio::test]
async fn refreshed_in_the_background_minutes_before_the_end() {
    let script = Script::new();
    let cache = script.cache();
    assert_eq!(key(&cache).await, "KEY1");
    script.pass(3_600 - 601);
    assert_eq!(key(&cache).await, "KEY1");
    assert_eq!(script.calls(), 1, "more than ten minutes are left");
    script.permits.forget_permits(1_000);
    script.pass(302);
    assert_eq!(key(&cache).await, "KEY1", "the caller does not wait for the refresh");
    until(|| script.calls() == 2).await;
    assert_eq!(key(&cache).await, "KEY1");
    assert_eq!(script.calls(), 2, "one refresh at a time");
    script.permits.add_permits(1_000);
    until(|| cache.status().refreshes == 2).await;
    assert_eq!(key(&cache).await, "KEY2");
    assert_eq!(cache.status().expires_at, Some(at(START + 3_600 - 601 + 302 + 3_600)));
}

#[tokio::test]
async fn moments_of_refresh_are_spread() {
    let mut moments = Vec::new();
    for _ in 0..20 {
        let script = Script::new();
        let cache = script.cache();
        key(&cache).await;
        script.pass(3_000);
        let mut left = 600;
        while script.calls() == 1 && left > 0 {
            key(&cache).await;
            tokio::task::yield_now().await;
            script.pass(5);
            left -= 5;
        }
        assert!((290..=600).contains(&left), "{left}");
        moments.push(left);
    }
    moments.sort_unstable();
    moments.dedup();
    assert!(moments.len() > 5, "{moments:?}");
}

#[tokio::test]
async fn valid_ones_are_used_while_refreshes_fail() {
    let script = Script::new();
    let cache = script.cache();
    key(&cache).await;
    script.set(Outcome::Fails);
    script.pass(3_301);
    let mut calls = 0;
    for _ in 0..298 {
        assert_eq!(key(&cache).await, "KEY1");
        until(|| cache.status().failures + 1 == script.calls()).await;
        calls = script.calls();
        script.pass(1);
    }
    assert!((5..40).contains(&calls), "tried again with growing pauses, not each time: {calls}");
    let status = cache.status();
    assert!(status.valid && status.consecutive_failures > 3, "{status:?}");
    assert!(status.last_error.is_some_and(|error| error.to_string().contains("https://sts.test")));

    script.pass(10);
    let error = cache.get().await.expect_err("expired");
    assert!(matches!(error, CredentialError::Unreachable { .. }), "{error}");
    assert!(!cache.status().valid);

    script.set(Outcome::Lifetime(3_600));
    script.pass(61);
    assert!(key(&cache).await.starts_with("KEY"));
    let status = cache.status();
    assert_eq!((status.consecutive_failures, status.last_error), (0, None));
}

#[tokio::test]
async fn a_start_without_sts_is_no_end() {
    let script = Script::new();
    script.set(Outcome::Fails);
    let cache = script.cache();
    assert_eq!(script.calls(), 0, "making it calls nothing");
    let first = cache.get().await.expect_err("down");
    assert!(first.to_string().contains("call 1"), "{first}");
    for _ in 0..100 {
        assert_eq!(cache.get().await.expect_err("down"), first, "at once, with the last reason");
    }
    assert_eq!(script.calls(), 1);
    script.pass(2);
    assert!(cache.get().await.expect_err("down").to_string().contains("call 2"));
    script.set(Outcome::Lifetime(3_600));
    script.pass(4);
    assert_eq!(key(&cache).await, "KEY3");
}

#[tokio::test]
async fn a_source_that_panics_or_gives_old_ones_is_a_failure() {
    let script = Script::new();
    let cache = script.cache();
    script.set(Outcome::Panics);
    let error = cache.get().await.expect_err("it panics");
    assert!(error.to_string().contains("without an answer"), "{error}");
    script.pass(60);
    script.set(Outcome::Lifetime(60));
    assert_eq!(key(&cache).await, "KEY2");
}

#[tokio::test]
async fn what_looks_expired_is_used_for_a_minute_and_asked_for_again() {
    let script = Script::new();
    let cache = script.cache();
    script.set(Outcome::Lifetime(0));
    for _ in 0..200 {
        assert!(key(&cache).await.starts_with("KEY"));
        until(|| cache.status().failures == script.calls()).await;
        script.pass(1);
    }
    assert!((14..=20).contains(&script.calls()), "one in ten seconds at most: {}", script.calls());
    let status = cache.status();
    assert!(!status.valid && status.refreshes == 0, "{status:?}");
    let error = status.last_error.expect("loud").to_string();
    assert!(error.contains("already expired") && error.contains("clock"), "{error}");

    script.set(Outcome::Fails);
    script.pass(61);
    assert!(
        matches!(cache.get().await, Err(CredentialError::Unreachable { .. })),
        "for a minute, and no longer"
    );

    script.pass(60);
    script.set(Outcome::Lifetime(3_600));
    key(&cache).await;
    script.set(Outcome::Lifetime(0));
    script.pass(3_301);
    let valid = key(&cache).await;
    until(|| cache.status().consecutive_failures == 1).await;
    assert_eq!(key(&cache).await, valid, "those that hold are not given up for them");
    assert!(cache.status().valid);
}

#[tokio::test]
async fn a_correction_of_the_clock_moves_no_refresh() {
    let hours = Duration::from_secs(2 * 3_600);
    for is_ahead in [true, false] {
        let script = Script::new();
        let cache = script.cache();
        let correct = || {
            let now = at(script.seconds.load(Ordering::SeqCst));
            cache.clock().observe(if is_ahead { now - hours } else { now + hours }).expect("corrected");
        };
        script.set(Outcome::Lifetime(3 * 3_600));
        key(&cache).await;
        script.pass(6);
        cache.invalidate("KEY1");
        script.set(Outcome::Fails);
        key(&cache).await;
        correct();
        script.pass(2);
        script.set(Outcome::Lifetime(3 * 3_600));
        assert_eq!(key(&cache).await, "KEY3", "a refresh that failed is tried again after the same pause");
        script.pass(11);
        cache.invalidate("KEY3");
        assert_eq!(key(&cache).await, "KEY4", "their age is the same");
    }
}

#[tokio::test]
async fn what_only_looked_expired_is_as_good_as_others_once_the_clock_is_corrected() {
    let script = Script::new();
    let cache = script.cache();
    script.set(Outcome::Lifetime(0));
    key(&cache).await;
    cache.clock().observe(at(START - 7_200)).expect("corrected");
    let status = cache.status();
    assert_eq!((status.valid, status.consecutive_failures, status.last_error), (true, 0, None));
    script.pass(7_200 - 610);
    assert_eq!((key(&cache).await.as_str(), script.calls()), ("KEY1", 1));
    script.pass(311);
    assert_eq!(key(&cache).await, "KEY1");
    until(|| script.calls() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn refreshed_without_anybody_asking() {
    let script = Script::new();
    let started = tokio::time::Instant::now();
    let cache = CachedCredentials::new(script.clone(), Clock::from_fn(move || at(START) + started.elapsed()));
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(script.calls(), 0, "not before somebody asked");
    script.pass(10_000);
    key(&cache).await;
    tokio::time::sleep(Duration::from_secs(3_600 - 601)).await;
    assert_eq!(script.calls(), 1);
    script.pass(3_600);
    tokio::time::sleep(Duration::from_secs(302)).await;
    assert_eq!(script.calls(), 2, "five to ten minutes before the end");
    script.set(Outcome::Fails);
    tokio::time::sleep(Duration::from_secs(3_900)).await;
    assert!((6..40).contains(&script.calls()), "tried again with growing pauses: {}", script.calls());
    script.set(Outcome::Lifetime(3_600));
    script.pass(3_600);
    // A minute and a quarter is the longest pause.
    tokio::time::sleep(Duration::from_secs(76)).await;
    let (status, calls) = (cache.status(), script.calls());
    assert!(status.valid && status.consecutive_failures == 0, "{status:?}");
    drop(cache);
    tokio::time::sleep(Duration::from_secs(10_000)).await;
    assert_eq!(script.calls(), calls, "nobody keeps them any more");
}

#[tokio::test]
async fn lifetimes_of_a_minute_last_over_many_refreshes() {
    let script = Script::new();
    script.set(Outcome::Lifetime(60));
    let cache = script.cache();
    for second in 0..1_200 {
        let credentials = cache.get().await.expect("never without");
        assert!(credentials.valid_at(at(START + second)));
        until(|| cache.status().refreshes == script.calls()).await;
        script.pass(1);
    }
    assert!((20..=60).contains(&script.calls()), "{}", script.calls());
}

#[tokio::test]
async fn lasting_keys_are_got_once_and_again_when_refused() {
    let cache = CachedCredentials::new(Credentials::new("AKID", "s", None), Clock::system());
    assert_eq!(key(&cache).await, "AKID");
    assert_eq!(cache.status().expires_at, None);

    let script = Script::new();
    let cache = script.cache();
    cache.invalidate("KEY1");
    assert_eq!(key(&cache).await, "KEY1");
    script.pass(10);
    cache.invalidate("KEY1");
    script.set(Outcome::Fails);
    assert_eq!(key(&cache).await, "KEY1", "the refused ones, for want of better");
    assert_eq!(script.calls(), 2);
    script.set(Outcome::Lifetime(3_600));
    script.pass(2);
    assert_eq!(key(&cache).await, "KEY3");
}

#[tokio::test]
async fn a_source_that_gives_what_is_refused_is_asked_less_and_less() {
    let script = Script::new();
    script.set(Outcome::Lifetime(12 * 3_600));
    let cache = script.cache();
    let current = || cache.status().access_key.expect("a key");
    key(&cache).await;
    for _ in 0..3_600 {
        script.pass(1);
        cache.invalidate(&current());
        key(&cache).await;
    }
    assert!((10..=20).contains(&script.calls()), "{} calls in an hour", script.calls());

    cache.accepted("KEY1");
    let calls = script.calls();
    let refused = current();
    for _ in 0..200 {
        script.pass(1);
        cache.invalidate(&refused);
        key(&cache).await;
    }
    assert!(script.calls() <= calls + 1, "what was accepted are other keys");
    cache.accepted(&current());
    script.pass(5);
    let calls = script.calls();
    cache.invalidate("KEY1");
    key(&cache).await;
    assert_eq!(script.calls(), calls, "these are others than those that were refused");
    cache.invalidate(&current());
    key(&cache).await;
    assert_eq!(script.calls(), calls + 1, "after an accepted request as at first");
}

/// Takes its time.
struct Slow(Duration);

impl CredentialSource for Slow {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async {
            tokio::time::sleep(self.0).await;
            Ok(Credentials::new("SLOW", "s", None))
        })
    }

    fn longest_call(&self) -> Duration {
        Duration::from_secs(100)
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_has_the_time_that_it_says_it_needs() {
    let cache = CachedCredentials::new(Slow(Duration::from_secs(99)), Clock::system());
    assert_eq!(key(&cache).await, "SLOW");
    let cache = CachedCredentials::new(Slow(Duration::from_secs(101)), Clock::system());
    let error = cache.get().await.expect_err("late");
    assert!(matches!(error, CredentialError::Waiting { seconds: 100, .. }), "{error}");
}
