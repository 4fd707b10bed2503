//! Reading less often what nobody waits for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// From this rate on, bytes a second, nothing is held up: an answer is coming that somebody waits for.
const BUSY_RATE: f64 = 1e6;

/// Has what a peer sends now and then gather for a while before it is read, so that several small messages cost one
/// wake-up of all that is between the socket and who reads them. What comes fast is read as it comes.
pub(crate) struct Gather {
    pause: Duration,
    state: State,
    /// The time that is looked at began then, and brought so much.
    since: Instant,
    bytes: usize,
}

enum State {
    Reading,
    /// There was nothing more to read.
    Drained,
    Pausing(Pin<Box<Sleep>>),
}

impl Gather {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { pause, state: State::Reading, since: Instant::now(), bytes: 0 }
    }

    /// Ready when it is time to read; `readable` says whether there is something to read.
    pub(crate) fn poll_due(
        &mut self,
        cx: &mut Context<'_>,
        readable: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Drained) {
            ready!(readable(cx))?;
            self.state =
                if self.is_slow() { State::Pausing(Box::pin(sleep(self.pause))) } else { State::Reading };
        }
        if let State::Pausing(pause) = &mut self.state {
            ready!(pause.as_mut().poll(cx));
            self.state = State::Reading;
        }
        Poll::Ready(Ok(()))
    }

    /// Notes what reading brought.
    pub(crate) fn note(&mut self, bytes: usize, is_drained: bool) {
        self.bytes += bytes;
        if is_drained {
            self.state = State::Drained;
        }
    }

    /// Whether little came since it was last looked at. What it takes is at least a pause, so that a burst after one does
    /// not count as fast.
    fn is_slow(&mut self) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed < self.pause {
            return false;
        }
        let rate = self.bytes as f64 / elapsed.as_secs_f64();
        (self.since, self.bytes) = (Instant::now(), 0);
        rate < BUSY_RATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    const PAUSE: Duration = Duration::from_millis(100);

    /// Reads a peer that sends so many bytes every so often; gives how often was read in a second.
    async fn reads_a_second(message_bytes: usize, every: Duration) -> usize {
        let mut gather = Gather::new(PAUSE);
        let (began, mut sent, mut reads) = (Instant::now(), 0, 0);
        while began.elapsed() < Duration::from_secs(1) {
            let mut next = Box::pin(tokio::time::sleep_until(began + every * (sent + 1)));
            poll_fn(|cx| gather.poll_due(cx, |cx| next.as_mut().poll(cx).map(Ok))).await.unwrap();
            let there = (began.elapsed().as_nanos() / every.as_nanos()) as u32;
            gather.note((there - sent) as usize * message_bytes, true);
            sent = there;
            reads += 1;
        }
        reads
    }

    #[tokio::test(start_paused = true)]
    async fn little_is_gathered_and_much_is_not_held_up() {
        for (message_bytes, every_ms, reads) in
            [(9000, 20, 10..=16), (9000, 1000, 1..=2), (16_000, 2, 400..=510), (100, 1, 100..=115)]
        {
            let found = reads_a_second(message_bytes, Duration::from_millis(every_ms)).await;
            assert!(reads.contains(&found), "{message_bytes} bytes every {every_ms} ms: {found} reads");
        }
    }
}
