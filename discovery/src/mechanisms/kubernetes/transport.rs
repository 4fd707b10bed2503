//! What kube's runtime sends its requests through: our HTTP client, with one pace for all that goes wrong, few lists at
//! a time, and bounds on what comes back.
//!
//! Everything that has to do with a request as such is here, because the runtime sends some without telling: the next
//! page, the next watch, a list that begins anew.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use form_urlencoded::{Serializer, parse};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use promferry_model::{Rng, SeededRng};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Service};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::answer::Answer;
use super::connections::{Lease, Server};
use super::objects::{Resource, Status};
use super::refusal::{Refusal, Refused};
use super::source::{Collection, CollectionStatus};

/// The longest explanation that is read.
const MAX_STATUS_BYTES: usize = 64 << 10;

/// The longest pause before a next attempt, without what chance adds.
pub(super) const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Objects on the first page of a list, of which nobody knows yet how long they are.
const FIRST_PAGE_ITEMS: u32 = 100;

/// Objects on the shortest of the other pages.
const MIN_PAGE_ITEMS: u32 = 10;

/// What pages are meant to have.
const PAGE_BYTES: u64 = 1 << 20;

/// The service below kube's client, one a collection.
#[derive(Clone)]
pub(super) struct Transport {
    pub(super) conversation: Arc<Conversation>,
    pub(super) lease: Arc<Lease>,
    /// kube's own log lines are switched off around it, ours are not.
    pub(super) log: Dispatch,
}

/// What one collection has asked, and what became of it; shared by the transport, the answers and the follower.
pub(super) struct Conversation {
    pub(super) server: Arc<Server>,
    pub(super) collection: Collection,
    status: Arc<Mutex<CollectionStatus>>,
    state: Mutex<State>,
    /// There are notes.
    pub(super) noted: Notify,
}

struct State {
    chance: SeededRng,
    /// In a row.
    failures: u32,
    attempt: Option<Attempt>,
    /// All objects are being asked for, and the end has not come.
    is_listing: bool,
    /// No watch was answered since the last one was refused.
    is_watch_refused: bool,
    permit: Option<OwnedSemaphorePermit>,
    page_items: PageItems,
    notes: Vec<Note>,
}

/// The request that was sent last.
struct Attempt {
    kind: RequestKind,
    began: Instant,
    is_answered: bool,
    /// A page came to its end, or a watch said something.
    is_heard: bool,
    /// The answer broke off or made no sense.
    is_faulty: bool,
    /// A streamed list was not continued for too long.
    is_silent: bool,
    /// What the server asks for.
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    FirstPage,
    NextPage,
    /// A watch that begins with all objects.
    StreamedList,
    Watch,
}

/// What the follower should know and the runtime does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// The server has begun to answer a watch.
    WatchBegan,
    /// An event was too long to be taken in.
    EventLeftOut,
}

/// How many objects to ask for, so that a page has about [`PAGE_BYTES`].
#[derive(Clone, Copy)]
struct PageItems {
    first: u32,
    next: u32,
    most: u32,
}

impl Service<Request<kube::client::Body>> for Transport {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let transport = self.clone();
        let log = self.log.clone();
        let exchange = async move {
            // Nothing of what is asked here has a body.
            let (head, _) = request.into_parts();
            transport.exchange(head).await.map_err(BoxError::from)
        };
        Box::pin(exchange.with_subscriber(log))
    }
}

impl Transport {
    async fn exchange(self, head: Parts) -> Result<Response<Answer>, Refusal> {
        let conversation = self.conversation.clone();
        let kind = RequestKind::of(&head.uri);
        if kind == RequestKind::StreamedList && conversation.has_fallen_silent() {
            conversation.server.refuses_streams();
        }
        if kind.begins_list() {
            conversation.state().permit = None;
        }
        if let Some(pause) = conversation.pause() {
            sleep(pause).await;
        }
        if kind.begins_list() {
            let permit = conversation.server.lists.clone().acquire_owned().await;
            let mut state = conversation.state();
            state.permit = permit.ok();
            state.is_listing = true;
        }
        if kind == RequestKind::StreamedList && !conversation.server.may_stream() {
            return Err(conversation.refusal(kind).unstreamed());
        }
        let (request, items) = conversation.request(kind, &head.uri)?;
        let was_well = conversation.begin(kind);
        let mut answer = self.ask(kind, request.clone()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && was_well {
            // A token has been replaced since the connection was made; it is read anew for each request.
            answer = self.ask(kind, request).await?;
        }
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            conversation.answered(kind);
            let answer = Answer::new(body, conversation, kind, items);
            return Ok(Response::from_parts(head, answer));
        }
        let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        conversation.refused(kind, retry_after.map(|pause| pause.min(MAX_RETRY_PAUSE)));
        let explained = body.read_to_end(MAX_STATUS_BYTES).await.unwrap_or_default();
        let status = serde_json::from_slice::<Status>(&explained).unwrap_or_default();
        Err(conversation.refusal(kind).by(head.status, &status, kind == RequestKind::StreamedList))
    }

    async fn ask(
        &self,
        kind: RequestKind,
        request: Request<Bytes>,
    ) -> Result<Response<promferry_http_client::Body>, Refusal> {
        let limit = self.conversation.server.options.answer_limit;
        match timeout(limit, self.lease.client().call(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.conversation.refusal(kind).unreachable(&error)),
            Err(_) => {
                let reason = format!("no answer within {limit:?}");
                Err(self.conversation.refusal(kind).unreachable(&reason))
            }
        }
    }
}

impl Conversation {
    pub(super) fn new(
        server: Arc<Server>,
        collection: Collection,
        status: Arc<Mutex<CollectionStatus>>,
    ) -> Self {
        let most = server.options.page_items.max(1);
        let first = FIRST_PAGE_ITEMS.min(most);
        let state = State {
            chance: SeededRng::from_process(),
            failures: 0,
            attempt: None,
            is_listing: false,
            is_watch_refused: false,
            permit: None,
            page_items: PageItems { first, next: first, most },
            notes: Vec::new(),
        };
        Self { server, collection, status, state: Mutex::new(state), noted: Notify::new() }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, CollectionStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All objects have been listed. Returns whether they can be followed, as far as is known.
    pub(super) fn list_ended(&self) -> bool {
        let mut state = self.state();
        state.is_listing = false;
        state.permit = None;
        // Where watches are refused, lists are not to follow each other without longer and longer pauses.
        if !state.is_watch_refused {
            state.failures = 0;
        }
        !state.is_watch_refused
    }

    /// What was answered cannot be used: the next request waits. Whether there was a request at all.
    pub(super) fn made_no_sense(&self) -> bool {
        match &mut self.state().attempt {
            Some(attempt) => {
                attempt.is_faulty = true;
                true
            }
            None => false,
        }
    }

    /// What was asked for was refused, and something else is to be asked for at once.
    pub(super) fn asks_otherwise(&self) {
        self.state().attempt = None;
    }

    pub(super) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.state().notes)
    }

    pub(super) fn note(&self, note: Note) {
        self.state().notes.push(note);
        self.noted.notify_one();
    }

    /// A page has come to its end.
    pub(super) fn page_ended(&self, items: u32, bytes: usize) {
        let mut state = self.state();
        state.page_items.learn(items, bytes);
        if let Some(attempt) = &mut state.attempt {
            attempt.is_heard = true;
        }
        drop(state);
        self.status().last_heard = Some(SystemTime::now());
    }

    /// A page with so many objects is too long.
    pub(super) fn page_was_too_long(&self, items: u32) {
        let mut state = self.state();
        state.page_items.first = (items / 8).max(1);
        state.page_items.most = state.page_items.first;
    }

    /// A watch said something.
    pub(super) fn heard(&self) {
        if let Some(attempt) = &mut self.state().attempt {
            attempt.is_heard = true;
        }
        self.status().last_heard = Some(SystemTime::now());
    }

    pub(super) fn fell_silent(&self) {
        if let Some(attempt) = &mut self.state().attempt {
            attempt.is_silent = true;
        }
    }

    pub(super) fn is_listing(&self) -> bool {
        self.state().is_listing
    }

    pub(super) fn refusal(&self, kind: RequestKind) -> Refused<'_> {
        Refusal::of(kind.verb(), &self.collection)
    }

    fn begin(&self, kind: RequestKind) -> bool {
        let mut state = self.state();
        state.attempt = Some(Attempt {
            kind,
            began: Instant::now(),
            is_answered: false,
            is_heard: false,
            is_faulty: false,
            is_silent: false,
            retry_after: None,
        });
        state.failures == 0
    }

    fn answered(&self, kind: RequestKind) {
        {
            let mut state = self.state();
            state.is_watch_refused &= !kind.is_watch();
            if let Some(attempt) = &mut state.attempt {
                attempt.is_answered = true;
            }
        }
        if kind.is_watch() {
            self.status().watches_total += 1;
            self.note(Note::WatchBegan);
        }
    }

    fn refused(&self, kind: RequestKind, retry_after: Option<Duration>) {
        let mut state = self.state();
        state.is_watch_refused |= kind.is_watch();
        if let Some(attempt) = &mut state.attempt {
            attempt.retry_after = retry_after;
        }
    }

    fn has_fallen_silent(&self) -> bool {
        let state = self.state();
        state.is_listing && state.attempt.as_ref().is_some_and(|attempt| attempt.is_silent)
    }

    /// How long to wait before the next request, by what became of the last one.
    fn pause(&self) -> Option<Duration> {
        let first = self.server.options.retry_pause;
        let mut state = self.state();
        let attempt = state.attempt.take()?;
        // Servers and proxies end watches that are well, some after seconds.
        let has_lasted = attempt.is_answered && attempt.began.elapsed() >= first;
        let is_well = match attempt.kind.is_watch() {
            true => has_lasted,
            false => attempt.is_heard,
        };
        if !state.is_listing && !state.is_watch_refused && (is_well || attempt.is_heard) {
            state.failures = 0;
        }
        if is_well && !attempt.is_faulty {
            return None;
        }
        let pause = first.saturating_mul(1 << state.failures.min(16)).min(MAX_RETRY_PAUSE);
        let pause = pause.max(attempt.retry_after.unwrap_or_default());
        state.failures += 1;
        // So that collectors that were refused together do not return together.
        Some(pause.mul_f64(1.0 + state.chance.next_f64()))
    }

    /// The request that `asked` stands for, and the objects that it wants at most.
    fn request(&self, kind: RequestKind, asked: &Uri) -> Result<(Request<Bytes>, u32), Refusal> {
        let mut items = 0;
        let mut query = Serializer::new(String::new());
        for (name, value) in parse(asked.query().unwrap_or_default().as_bytes()) {
            if name == "limit" {
                let state = self.state();
                items = match kind {
                    RequestKind::NextPage => state.page_items.next,
                    _ => state.page_items.first,
                };
                query.append_pair(&name, &items.to_string());
            } else {
                query.append_pair(&name, &value);
            }
        }
        let url = format!("{}{}?{}", self.server.url(), asked.path(), query.finish());
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.parse().map_err(|_| {
            let reason = format!("{} has no such path", self.server.shown_url());
            self.refusal(kind).unreachable(&reason)
        })?;
        request.headers_mut().insert(header::ACCEPT, accepted(self.collection.resource, kind));
        Ok((request, items))
    }
}

impl RequestKind {
    fn of(uri: &Uri) -> Self {
        let (mut is_watch, mut is_streamed, mut is_continued) = (false, false, false);
        for (name, _) in parse(uri.query().unwrap_or_default().as_bytes()) {
            is_watch |= name == "watch";
            is_streamed |= name == "sendInitialEvents";
            is_continued |= name == "continue";
        }
        match (is_watch, is_streamed, is_continued) {
            (true, true, _) => Self::StreamedList,
            (true, false, _) => Self::Watch,
            (false, _, true) => Self::NextPage,
            (false, _, false) => Self::FirstPage,
        }
    }

    pub(super) fn is_watch(self) -> bool {
        matches!(self, Self::StreamedList | Self::Watch)
    }

    fn begins_list(self) -> bool {
        matches!(self, Self::StreamedList | Self::FirstPage)
    }

    /// As rules of RBAC name it.
    fn verb(self) -> &'static str {
        if self.is_watch() { "watch" } else { "list" }
    }
}

impl PageItems {
    /// Takes the objects on a page for as long as those on the next one.
    fn learn(&mut self, items: u32, bytes: usize) {
        let fitting = u64::from(items) * PAGE_BYTES / (bytes as u64).max(1);
        let fewest = MIN_PAGE_ITEMS.min(self.most);
        self.next = u32::try_from(fitting).unwrap_or(u32::MAX).clamp(fewest, self.most);
    }
}

/// Of objects that only lend their metadata, nothing else is asked for; a server that cannot leave it out sends all.
fn accepted(resource: Resource, kind: RequestKind) -> HeaderValue {
    HeaderValue::from_static(match (resource.is_metadata_only(), kind.is_watch()) {
        (false, _) => "application/json",
        (true, false) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
        (true, true) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
    })
}
