//! What holds of the cache whatever happens to STS, to the machine's clock and to the credentials.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use promferry_sigv4_auth::{
    CachedCredentials, Clock, CredentialError, CredentialFuture, CredentialSource, Credentials,
};
use proptest::collection::vec;
use proptest::prelude::*;

const START: i64 = 1_800_000_000;

/// How long a failed refresh can keep the next one from being tried, and a bit.
const PAUSE_MAX: i64 = 80;

#[derive(Clone, Debug)]
enum Event {
    /// Time passes, by every clock.
    Pass(i64),
    /// The machine's clock is set to so many seconds ahead of AWS'.
    SetClock(i64),
    /// An answer of AWS tells the time.
    Answered,
    /// An answer on the way tells another.
    Lied(i64),
    Invalidated,
    Got,
    /// From now on STS gives credentials that live so long.
    Gives(i64),
    Fails,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop_oneof![0..15_i64, 0..120_i64, 0..5_000_i64].prop_map(Event::Pass),
        2 => prop_oneof![Just(0), -600..600_i64, -20_000..20_000_i64].prop_map(Event::SetClock),
        2 => Just(Event::Answered),
        1 => (-200_000..200_000_i64).prop_map(Event::Lied),
        1 => Just(Event::Invalidated),
        6 => Just(Event::Got),
        1 => prop_oneof![12..120_i64, 900..40_000_i64].prop_map(Event::Gives),
        1 => Just(Event::Fails),
    ]
}

/// STS and the machine's clock.
#[derive(Clone)]
struct World(Arc<Mutex<State>>);

struct State {
    /// AWS' time.
    now: i64,
    /// How far the machine's clock is ahead of it.
    ahead: i64,
    /// What STS gives; `None`: it is away.
    lifetime: Option<i64>,
    given: Vec<Given>,
    /// How far the machine's clock was set back so far, all together: what nobody saw pass.
    set_back: i64,
    calls: u32,
}

/// What STS has given: when, whether it looked expired then, and how far the clock had been set back.
#[derive(Clone, Copy)]
struct Given {
    at: i64,
    looked_expired: bool,
    set_back: i64,
}

impl World {
    fn new() -> Self {
        let state =
            State { now: START, ahead: 0, lifetime: Some(3_600), given: Vec::new(), set_back: 0, calls: 0 };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> CachedCredentials {
        let (world, source) = (self.clone(), self.clone());
        let clock = Clock::from_fn(move || {
            let state = world.state();
            at(state.now + state.ahead)
        });
        CachedCredentials::new(Sts { world: source, clock: clock.clone() }, clock)
    }
}

struct Sts {
    world: World,
    clock: Clock,
}

impl CredentialSource for Sts {
    fn credentials(&self) -> CredentialFuture<'_> {
        let corrected = self.clock.now();
        let mut state = self.world.state();
        state.calls += 1;
        let outcome = match state.lifetime {
            Some(lifetime) => {
                let expires_at = at(state.now + lifetime);
                let given = Given {
                    at: state.now,
                    looked_expired: expires_at <= corrected,
                    set_back: state.set_back,
                };
                state.given.push(given);
                Ok(Credentials::new(&(state.given.len() - 1).to_string(), "s", None)
                    .expiring(Some(expires_at)))
            }
            None => Err(CredentialError::TimedOut { seconds: 1 }),
        };
        Box::pin(std::future::ready(outcome))
    }
}

fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).expect("after 1970"))
}

/// A refresh in the background comes to its end.
async fn settled() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

async fn got(world: &World, cache: &CachedCredentials) -> Result<(), TestCaseError> {
    let calls = world.state().calls;
    let outcome = cache.get().await;
    settled().await;
    let state = world.state();
    prop_assert!(state.calls <= calls + 1, "one call for one question");
    let Ok(credentials) = outcome else { return Ok(()) };
    let number: usize = credentials.access_key().parse().expect("a number");
    let given = state.given[number];
    let age = state.now - given.at;
    let in_doubt = given.looked_expired && age < 60 + state.set_back - given.set_back;
    drop(state);
    prop_assert!(credentials.valid_at(cache.clock().now()) || in_doubt, "given out {age} s after they came");
    Ok(())
}

async fn happens(world: &World, cache: &CachedCredentials, event: &Event) -> Result<(), TestCaseError> {
    match *event {
        Event::Pass(seconds) => world.state().now += seconds,
        Event::SetClock(ahead) => {
            let mut state = world.state();
            state.set_back += (state.ahead - ahead).max(0);
            state.ahead = ahead;
        }
        Event::Answered => answered(world, cache, 0),
        Event::Lied(ahead) => answered(world, cache, ahead),
        Event::Invalidated => {
            if let Some(access_key) = cache.status().access_key {
                cache.invalidate(&access_key);
            }
        }
        Event::Got => got(world, cache).await?,
        Event::Gives(lifetime) => world.state().lifetime = Some(lifetime),
        Event::Fails => world.state().lifetime = None,
    }
    Ok(())
}

fn answered(world: &World, cache: &CachedCredentials, ahead: i64) {
    let now = world.state().now;
    cache.clock().observe(at(now + ahead));
}

/// STS is there again, the endpoint answers, and somebody asks each second: then there are credentials that AWS
/// takes, soon, and they stay.
async fn recovers(world: &World, cache: &CachedCredentials) -> Result<(), TestCaseError> {
    world.state().lifetime = Some(3_600);
    let calls = world.state().calls;
    for second in 0..3 * PAUSE_MAX {
        world.state().now += 1;
        got(world, cache).await?;
        if let Ok(credentials) = cache.get().await {
            let now = at(world.state().now);
            // The endpoint refuses them, and says the time.
            cache.clock().observe(now);
            if credentials.valid_at(now) {
                cache.accepted(credentials.access_key());
            } else {
                cache.invalidate(credentials.access_key());
            }
        }
        settled().await;
        if second > PAUSE_MAX {
            let credentials = cache.get().await;
            let now = at(world.state().now);
            prop_assert!(
                credentials.as_ref().is_ok_and(|credentials| credentials.valid_at(now)),
                "after {second} s: {credentials:?}, {:?}",
                cache.status()
            );
            prop_assert!(cache.status().valid);
        }
    }
    let calls = world.state().calls - calls;
    prop_assert!(calls <= 10, "{calls} calls");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_stops_it_and_nothing_expired_is_given_out(events in vec(event(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new();
            let cache = world.cache();
            for event in &events {
                happens(&world, &cache, event).await?;
            }
            recovers(&world, &cache).await
        })?;
    }

    #[test]
    fn they_are_fresh_though_nobody_asks(
        steps in vec((prop_oneof![0..400_i64, 900..4_000_i64], 900..40_000_i64, prop_oneof![Just(0), -20_000..20_000_i64]), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let world = World::new();
            let cache = world.cache();
            cache.get().await.expect("credentials");
            for (seconds, lifetime, ahead) in steps {
                world.state().lifetime = Some(lifetime);
                // The machine's clock is set, and the next answer tells that it is wrong.
                world.state().ahead = ahead;
                answered(&world, &cache, 0);
                for _ in 0..seconds / 10 {
                    world.state().now += 10;
                    tokio::time::advance(Duration::from_secs(10)).await;
                    settled().await;
                    let (status, now) = (cache.status(), world.state().now);
                    // Five minutes at least, of which a clock may be wrong by four before anybody says so.
                    prop_assert!(status.expires_at.is_some_and(|end| end > at(now + 40)), "{now}: {status:?}");
                }
            }
            Ok(())
        })?;
    }
}
