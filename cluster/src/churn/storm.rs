use std::time::Duration;

use promferry_bench::proxy::{Proxy, Weather};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::World;
use crate::Cluster;

/// Changes in etcd while the API server is down.
const CHANGES_WHILE_DOWN: usize = 50;

/// What happens to a [`World`] and to those who watch it through a [`Proxy`].
#[derive(Debug, Clone)]
pub struct Storm {
    /// Changes a second.
    pub rate: u32,
    /// The shortest and longest time, milliseconds, from the end of one disturbance of the connections to the next.
    pub calm_ms: (u64, u64),
    /// The shortest and longest time that one lasts, milliseconds.
    pub disturbed_ms: (u64, u64),
    /// Whether the API server is restarted, after changes in etcd and a compaction of it, in the middle.
    pub restart: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StormCounts {
    /// Changes made.
    pub changes: u64,
    /// Disturbances of the connections.
    pub disturbances: u64,
    /// Restarts of the API server, each with a compaction.
    pub restarts: u64,
}

impl Storm {
    /// Lets it happen for so long, without the time that a restart takes. Afterwards connections are let through again.
    ///
    /// # Panics
    /// When etcd or the API server refuses a change, or the API server does not come back.
    pub async fn rage(
        &self,
        cluster: &mut Cluster,
        world: &mut World,
        proxy: &Proxy,
        length: Duration,
    ) -> StormCounts {
        let began = Instant::now();
        let (mut until, middle) = (began + length, began + length / 2);
        let mut counts = StormCounts::default();
        let mut pace = interval(Duration::from_secs(1) / self.rate.max(1));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_weather = began + between(world, self.calm_ms);
        let mut is_fair = true;
        let mut is_restarted = !self.restart;
        while Instant::now() < until {
            pace.tick().await;
            world.change(cluster, true).await;
            counts.changes += 1;
            let now = Instant::now();
            if now >= next_weather {
                is_fair = !is_fair;
                let weather = if is_fair { Weather::Fair } else { any_weather(world) };
                proxy.set(weather);
                counts.disturbances += u64::from(!is_fair);
                next_weather = now + between(world, if is_fair { self.calm_ms } else { self.disturbed_ms });
            }
            if now >= middle && !is_restarted {
                is_restarted = true;
                counts.restarts += 1;
                cluster.stop().await;
                for _ in 0..CHANGES_WHILE_DOWN {
                    world.change(cluster, false).await;
                    counts.changes += 1;
                }
                cluster.compact().await;
                cluster.restart().await;
                // How long that takes is up to the machine; what is to happen after it still does.
                until += now.elapsed();
            }
        }
        sleep_until(until).await;
        proxy.set(Weather::Fair);
        counts
    }
}

fn between(world: &mut World, (shortest, longest): (u64, u64)) -> Duration {
    Duration::from_millis(shortest + world.below(longest - shortest + 1))
}

/// Resets, silence, answers that break off, refused connections, slow ones, garbage.
fn any_weather(world: &mut World) -> Weather {
    match world.below(6) {
        0 => Weather::ResetAfter(world.below(4000)),
        1 => Weather::HalfOpen,
        2 => Weather::CutAnswerAfter(world.below(200_000)),
        3 => Weather::Down,
        4 => Weather::Latency(Duration::from_millis(50 + world.below(300))),
        _ => Weather::Garbage,
    }
}
