//! What only shows with the machine to itself: `kill -9` at random moments, hostile targets, punctuality. Cargo runs
//! test programs one after another, and these tests run one at a time.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod kills;
mod limits;
#[path = "../fixture/outcome.rs"]
mod outcome;
mod timing;

/// Waits until no other test of this program runs; they wait as long as the answer is kept.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}
