//! The body of an answer, on its way to kube's runtime, which would take in any length and wait for any time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use promferry_http_client::Body;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::transport::{Conversation, Note, RequestKind};

/// The longest page that is read: a hundred objects of more than 600 KiB.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// The longest event that is read. An object has at most 1.5 MiB in etcd, in another encoding.
pub(super) const MAX_EVENT_BYTES: usize = 8 << 20;

/// The answer limits after which a streamed list that goes on and on does not end: the server does not know what it was
/// asked for.
const STREAMED_LIST_LIMITS: u32 = 2;

/// A page, or a watch.
pub(super) struct Answer {
    body: Body,
    conversation: Arc<Conversation>,
    content: Content,
    /// For a page to be there, for a watch to say something.
    patience: Pin<Box<Sleep>>,
}

enum Content {
    Page { items: u32, read: usize },
    Watch(Lines),
}

/// Where in a line what was passed on last ends.
struct Lines {
    /// The longest line that is passed on whole.
    limit: usize,
    length: usize,
    /// The rest of the line is left out.
    is_skipping: bool,
    /// When a list that is streamed has to be at its end.
    list_deadline: Option<Instant>,
}

impl Answer {
    pub(super) fn new(body: Body, conversation: Arc<Conversation>, kind: RequestKind, items: u32) -> Self {
        let content = match kind.is_watch() {
            true => {
                let limit = conversation.server.options.answer_limit;
                let deadline = Instant::now() + limit.saturating_mul(STREAMED_LIST_LIMITS);
                let list_deadline = (kind == RequestKind::StreamedList).then_some(deadline);
                Content::Watch(Lines { list_deadline, ..Lines::new(MAX_EVENT_BYTES) })
            }
            false => Content::Page { items, read: 0 },
        };
        let options = &conversation.server.options;
        let patience = match kind {
            RequestKind::Watch => options.watch_silence,
            _ => options.answer_limit,
        };
        Self { patience: Box::pin(sleep(patience)), body, conversation, content }
    }

    fn wait_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        self.patience.as_mut().reset(deadline);
    }

    /// What to pass on of it.
    fn took(&mut self, data: Bytes) -> Result<Bytes, BoxError> {
        let lines = match &mut self.content {
            Content::Page { items, read } => {
                *read += data.len();
                if *read > MAX_PAGE_BYTES {
                    self.conversation.page_was_too_long(*items);
                    return Err(format!("a page has more than {MAX_PAGE_BYTES} bytes").into());
                }
                return Ok(data);
            }
            Content::Watch(lines) => lines,
        };
        let (passed, left_out) = lines.pass(data);
        let deadline = lines.list_deadline;
        let (silence, limit) = {
            let options = &self.conversation.server.options;
            (options.watch_silence, options.answer_limit)
        };
        self.conversation.heard();
        for _ in 0..left_out {
            self.conversation.note(Note::EventLeftOut);
        }
        let patience = match deadline {
            Some(deadline) if self.conversation.is_listing() => {
                deadline.saturating_duration_since(Instant::now()).min(limit)
            }
            _ => silence,
        };
        self.wait_for(patience);
        Ok(passed)
    }

    fn ended(&self) {
        if let Content::Page { items, read } = self.content {
            self.conversation.page_ended(items, read);
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.patience.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match &mut self.content {
                Content::Page { .. } => {
                    self.conversation.made_no_sense();
                    let limit = self.conversation.server.options.answer_limit;
                    let reason = format!("no complete answer within {limit:?}");
                    return Poll::Ready(Some(Err(reason.into())));
                }
                // The list has ended in the meantime, and more patience is due to a watch.
                Content::Watch(lines) if lines.list_deadline.is_some() && !self.conversation.is_listing() => {
                    lines.list_deadline = None;
                    self.wait_for(self.conversation.server.options.watch_silence);
                }
                // Not an error: a watch that ends is begun again.
                Content::Watch(_) => {
                    self.conversation.fell_silent();
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    match this.took(data) {
                        Ok(data) if data.is_empty() => continue,
                        Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Err(error) => {
                            this.conversation.made_no_sense();
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.conversation.made_no_sense();
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    this.ended();
                    return Poll::Ready(None);
                }
                Poll::Pending => return this.poll_patience(cx),
            }
        }
    }
}

impl Lines {
    fn new(limit: usize) -> Self {
        Self { limit, length: 0, is_skipping: false, list_deadline: None }
    }

    /// What of the data is to be passed on, and how many lines have turned out too long.
    ///
    /// Such a line is passed on up to the limit and ended there: an event that breaks off is passed over by the runtime.
    fn pass(&mut self, data: Bytes) -> (Bytes, usize) {
        if !self.is_skipping && self.length + data.len() <= self.limit {
            self.length = match memchr::memrchr(b'\n', &data) {
                Some(end) => data.len() - end - 1,
                None => self.length + data.len(),
            };
            return (data, 0);
        }
        let mut passed = BytesMut::new();
        let mut left_out = 0;
        let mut rest = &data[..];
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).map(|end| end + 1);
            let (line, others) = rest.split_at(end.unwrap_or(rest.len()));
            rest = others;
            if !self.is_skipping {
                let room = self.limit - self.length;
                if line.len() <= room {
                    passed.extend_from_slice(line);
                    self.length += line.len();
                } else if let Some(cut) = (room..line.len()).find(|at| is_boundary(line[*at])) {
                    passed.extend_from_slice(&line[..cut]);
                    passed.extend_from_slice(b"\n");
                    self.is_skipping = true;
                    left_out += 1;
                } else {
                    passed.extend_from_slice(line);
                    self.length = self.limit;
                }
            }
            if end.is_some() {
                (self.length, self.is_skipping) = (0, false);
            }
        }
        (passed.freeze(), left_out)
    }
}

/// Whether a character of UTF-8 begins with this byte.
fn is_boundary(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the data is cut on its way.
    #[test]
    fn lines_are_passed_on_whole_or_cut_at_the_limit() {
        let limit = 12;
        let text = "short\n12345678901\n123456789012\nlong: äöüäöüäöü\n\nüüüüü\nlong: 字字字字\nafter\nlong without end";
        for size in 1..=text.len() {
            let mut lines = Lines::new(limit);
            let (mut passed, mut left_out) = (Vec::new(), 0);
            for chunk in text.as_bytes().chunks(size) {
                let (data, count) = lines.pass(Bytes::copy_from_slice(chunk));
                passed.extend_from_slice(&data);
                left_out += count;
            }
            let passed = String::from_utf8(passed).unwrap_or_else(|error| panic!("{size}: {error}"));
            assert_eq!((passed.lines().count(), left_out), (text.lines().count(), 4), "{size}: {passed:?}");
            for (line, original) in passed.lines().zip(text.lines()) {
                if original.len() < limit {
                    assert_eq!(line, original, "{size}");
                } else {
                    let cut = limit..limit + 3;
                    assert!(original.starts_with(line) && cut.contains(&line.len()), "{size}: {line:?}");
                }
            }
        }
    }
}
