//! Scrapes that are being stored.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use promferry_model::{Receipt, SinkError};

use crate::bits::SeriesSet;

/// Scrapes that were handed over and are not stored yet, oldest first.
pub(super) struct Tickets<C> {
    open: VecDeque<(Pin<Box<C>>, SeriesSet)>,
}

impl<C> Default for Tickets<C> {
    fn default() -> Self {
        Self { open: VecDeque::new() }
    }
}

impl<C: Future<Output = Result<Receipt, SinkError>>> Tickets<C> {
    pub(super) fn push(&mut self, ticket: C, marked: SeriesSet) {
        self.open.push_back((Box::pin(ticket), marked));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The outcome of the oldest; pending while there is none.
    pub(super) async fn next(&mut self) -> (Result<Receipt, SinkError>, SeriesSet) {
        poll_fn(|cx| {
            let Some((ticket, _)) = self.open.front_mut() else { return Poll::Pending };
            match ticket.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => {
                    let marked = self.open.pop_front().map(|(_, marked)| marked).unwrap_or_default();
                    Poll::Ready((result, marked))
                }
            }
        })
        .await
    }
}
