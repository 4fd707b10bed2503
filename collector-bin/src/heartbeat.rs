//! How late timers are, as a gauge of whether something holds up the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How late the runtime's timers are: a task that sleeps for 100 ms again and again sees it.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    worst_micros: Arc<AtomicU64>,
}

const BEAT: Duration = Duration::from_millis(100);

impl Heartbeat {
    /// Beats until the runtime ends.
    pub async fn run(self) {
        loop {
            let due = Instant::now() + BEAT;
            tokio::time::sleep_until(due).await;
            let late = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.worst_micros.fetch_max(late, Ordering::Relaxed);
        }
    }

    /// The longest delay since it was last asked for.
    pub fn take_worst(&self) -> Duration {
        Duration::from_micros(self.worst_micros.swap(0, Ordering::Relaxed))
    }
}
