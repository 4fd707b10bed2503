use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use promferry_model::Metadata;

use super::attempt::BrokenAnswers;
use super::backoff::Backoff;
use super::outcome::Outcome;
use super::request::{Phase, Sender};
use super::size::BLAMABLE_RAW_BYTES;
use crate::Protocol;
use crate::encode::{self, EncodingContext};

/// What 1.0's metadata requests are made of and how often.
pub(super) struct MetadataSchedule {
    pub(super) context: Arc<EncodingContext>,
    pub(super) interval: Duration,
    pub(super) max_entries: usize,
}

/// What came of a metadata request.
enum Sent {
    Delivered,
    TooLarge,
    Refused,
    /// Neither this nor what follows it is worth a request now.
    GivenUp,
}

impl Sender {
    /// Sends what is known about families, a request at a time. What is not taken is given up: it comes again with
    /// the next round.
    pub(super) async fn deliver_metadata(&self, entries: &[Arc<Metadata>], max_entries: usize) {
        let mut work: VecDeque<&[Arc<Metadata>]> = entries.chunks(max_entries.max(1)).collect();
        while let Some(chunk) = work.pop_front() {
            let Some(request) = encode::metadata_requests(chunk, chunk.len()).pop() else { continue };
            let (raw_bytes, bytes) = (request.raw_len, request.body.len());
            let exceeds = raw_bytes.max(bytes) > self.size.raw_bytes(self.clock.monotonic());
            let sent = if exceeds && (chunk.len() > 1 || self.size.single_value_bytes().is_some()) {
                Sent::TooLarge
            } else {
                self.deliver_metadata_request(request.body).await
            };
            match sent {
                Sent::Delivered => self.stats.count_metadata(chunk.len(), Some(bytes)),
                Sent::TooLarge if raw_bytes > BLAMABLE_RAW_BYTES && chunk.len() > 1 => {
                    let (first, second) = chunk.split_at(chunk.len() / 2);
                    work.push_front(second);
                    work.push_front(first);
                }
                Sent::TooLarge | Sent::Refused => self.stats.count_metadata(chunk.len(), None),
                Sent::GivenUp => {
                    let left = work.iter().fold(chunk.len(), |sum, chunk| sum + chunk.len());
                    self.stats.count_metadata(left, None);
                    return;
                }
            }
        }
    }

    async fn deliver_metadata_request(&self, body: Bytes) -> Sent {
        let mut backoff = Backoff::new(self.min_backoff, self.max_backoff);
        let mut broken = BrokenAnswers::default();
        let body = self.describe(body);
        for attempt in 0.. {
            let answered = self.attempt(body.clone(), Protocol::V1, attempt, &mut broken).await;
            let Ok(answer) = answered else { break };
            match answer.outcome {
                Outcome::Delivered => return Sent::Delivered,
                Outcome::TooLarge => return Sent::TooLarge,
                Outcome::Retry { after, .. } => {
                    if !self.pause(&mut backoff, after, Phase::Flushing).await {
                        break;
                    }
                }
                // Samples say what is wrong with the credentials, and wait for better ones.
                Outcome::Denied => break,
                _ => {
                    let text = format!(
                        "{}: {}; metadata is not sent until the next round",
                        self.endpoint, answer.words
                    );
                    self.notices.warn(self.clock.monotonic(), "metadata", &text);
                    return Sent::Refused;
                }
            }
        }
        Sent::GivenUp
    }
}
