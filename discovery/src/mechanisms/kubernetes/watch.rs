//! Lists and watches collections by the API server's HTTP interface.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use promferry_http_client::Body;
use promferry_model::{Rng, SeededRng};
use smol_str::SmolStr;
use tokio::time::{Instant, sleep, timeout};
use tower::Service;

use super::api_server::{ApiServer, KubernetesOptions};
use super::objects::{List, Resource, Status, WatchEvent, read_event, read_list};
use super::source::{Collection, CollectionEvent, CollectionStatus};

/// The longest page that is read: 500 objects of more than 100 KiB.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// The longest event that is read. An object has at most 1.5 MiB in etcd, in another encoding.
const MAX_EVENT_BYTES: usize = 8 << 20;

/// The longest explanation that is read.
const MAX_STATUS_BYTES: usize = 64 << 10;

/// A page that has not come by then does not come.
const LIST_LIMIT: Duration = Duration::from_secs(60);

/// The longest pause before a next attempt, without what chance adds.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// Lists and watches over HTTP, with one connection for each collection.
#[derive(Debug, Clone)]
pub(super) struct ApiServerSource {
    server: ApiServer,
    options: KubernetesOptions,
}

impl ApiServerSource {
    pub(super) fn new(server: ApiServer, options: KubernetesOptions) -> Self {
        Self { server, options }
    }

    /// Tells `events` what is in the collection and what changes, in order, for as long as the future is polled. `status`
    /// is kept up to date but for the number of objects, which is its owner's.
    pub(super) fn follow<E>(
        &self,
        collection: Collection,
        status: Arc<Mutex<CollectionStatus>>,
        events: E,
    ) -> impl Future<Output = ()> + Send + use<E>
    where
        E: FnMut(CollectionEvent) + Send + Sync + 'static,
    {
        let follower = Follower {
            source: self.clone(),
            collection,
            status,
            events,
            chance: SeededRng::from_process(),
            failures: 0,
            is_failing: false,
        };
        follower.run()
    }
}

struct Follower<E> {
    source: ApiServerSource,
    collection: Collection,
    status: Arc<Mutex<CollectionStatus>>,
    events: E,
    chance: SeededRng,
    /// In a row.
    failures: u32,
    is_failing: bool,
}

/// Why listing or watching came to an end.
enum Failure {
    /// It cannot be done; `retry_after` is what the server asks for, `is_final` that asking the same again is of no
    /// use.
    Refused { reason: String, retry_after: Option<Duration>, is_final: bool },
    /// The version that is watched from is forgotten, or what came made no sense: all has to be listed again.
    Outdated,
    /// The connection broke. That happens, also to watches that are well.
    Broken(String),
}

impl<E: FnMut(CollectionEvent) + Send + Sync> Follower<E> {
    async fn run(mut self) {
        let mut version: Option<SmolStr> = None;
        loop {
            let started = Instant::now();
            let (outcome, has_news) = match version.take() {
                None => match self.list().await {
                    Ok(listed) => {
                        version = Some(listed);
                        (Ok(()), true)
                    }
                    Err(failure) => (Err(failure), false),
                },
                Some(from) => {
                    let mut reached = from.clone();
                    let outcome = self.watch(&mut reached).await;
                    // Servers and proxies end watches that are well, some after seconds.
                    let has_lasted = started.elapsed() >= self.source.options.retry_pause
                        && !matches!(outcome, Err(Failure::Refused { .. }));
                    let has_news = reached != from || has_lasted;
                    version = Some(reached);
                    (outcome, has_news)
                }
            };
            if has_news {
                self.failures = 0;
            }
            match outcome {
                // After a list the watch begins at once.
                Ok(()) if has_news => continue,
                Ok(()) => self.pause(None).await,
                Err(Failure::Outdated) => {
                    version = None;
                    if !has_news {
                        self.pause(None).await;
                    }
                }
                Err(Failure::Broken(reason)) => {
                    // The next attempt tells whether the server is there; a list that broke has to be explained.
                    if version.is_none() {
                        self.report(reason);
                    }
                    self.pause(None).await;
                }
                Err(Failure::Refused { reason, retry_after, is_final }) => {
                    if is_final {
                        version = None;
                    }
                    self.report(reason);
                    self.pause(retry_after).await;
                }
            }
        }
    }

    fn status(&self) -> MutexGuard<'_, CollectionStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&mut self, reason: String) {
        self.is_failing = true;
        let mut status = self.status();
        status.failures_total += 1;
        status.failure = Some(reason.clone());
        drop(status);
        (self.events)(CollectionEvent::Failed(reason));
    }

    async fn pause(&mut self, asked_for: Option<Duration>) {
        let pause = self.source.options.retry_pause.saturating_mul(1 << self.failures.min(16));
        let pause = pause.min(MAX_RETRY_PAUSE).max(asked_for.unwrap_or_default());
        self.failures += 1;
        sleep(pause.mul_f64(1.0 + self.chance.next_f64())).await;
    }

    /// Lists everything and returns the version that it is of.
    async fn list(&mut self) -> Result<SmolStr, Failure> {
        (self.events)(CollectionEvent::ListBegins);
        let mut next = String::new();
        loop {
            let limit = self.source.options.page_items.to_string();
            let mut query = vec![("limit", limit.as_str())];
            if !next.is_empty() {
                query.push(("continue", &next));
            }
            let exchange = async {
                let (_, body) = self.ask("list", &query).await?;
                body.read_to_end(MAX_PAGE_BYTES).await.map_err(|error| self.broken("list", &error))
            };
            let page = match timeout(LIST_LIMIT, exchange).await {
                Ok(page) => page?,
                Err(_) => {
                    let reason = format!("no complete answer within {LIST_LIMIT:?}");
                    return Err(self.broken("list", &reason));
                }
            };
            let List { metadata, items } = read_list(self.collection.resource, &page).map_err(|error| {
                self.refused("list", format!("the answer is not a list of objects: {error}"))
            })?;
            self.status().applied_total += items.len() as u64;
            items.into_iter().for_each(|object| (self.events)(CollectionEvent::Applied(object)));
            next = metadata.r#continue;
            if next.is_empty() {
                self.is_failing = false;
                {
                    let now = Some(SystemTime::now());
                    let mut status = self.status();
                    status.lists_total += 1;
                    (status.last_listed, status.last_heard, status.failure) = (now, now, None);
                }
                (self.events)(CollectionEvent::ListEnds);
                return Ok(metadata.resource_version.into());
            }
        }
    }

    /// Passes on what changes after `version`, which moves on, until the server ends the watch.
    async fn watch(&mut self, version: &mut SmolStr) -> Result<(), Failure> {
        // Servers end watches by themselves; that not all end at once is up to the clients.
        let seconds = (300 + self.chance.next_u64() % 300).to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version.as_str()),
            ("timeoutSeconds", seconds.as_str()),
        ];
        let (_, mut body) = match timeout(LIST_LIMIT, self.ask("watch", &query)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.refused("watch", format!("no answer within {LIST_LIMIT:?}"))),
        };
        {
            let mut status = self.status();
            status.watches_total += 1;
            status.failure = None;
        }
        if std::mem::take(&mut self.is_failing) {
            (self.events)(CollectionEvent::Recovered);
        }
        let mut received = BytesMut::new();
        // No line ends before this.
        let mut searched = 0;
        loop {
            let chunk = match timeout(self.source.options.watch_silence, body.chunk()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => return Ok(()),
                Ok(Some(Err(error))) => return Err(self.broken("watch", &error)),
                Err(_) => return Err(self.broken("watch", &"the server fell silent")),
            };
            self.status().last_heard = Some(SystemTime::now());
            received.extend_from_slice(&chunk);
            while let Some(end) = received[searched..].iter().position(|byte| *byte == b'\n') {
                let line = received.split_to(searched + end + 1);
                searched = 0;
                if !line.trim_ascii().is_empty() {
                    self.pass_on(&line, version)?;
                }
            }
            searched = received.len();
            if searched > MAX_EVENT_BYTES {
                let reason = format!("an event has more than {MAX_EVENT_BYTES} bytes");
                self.report(format!("watch {}: {reason}", self.collection));
                return Err(Failure::Outdated);
            }
        }
    }

    fn pass_on(&mut self, line: &[u8], version: &mut SmolStr) -> Result<(), Failure> {
        let event = match read_event(self.collection.resource, line) {
            Ok(event) => event,
            Err(error) => {
                let reason = format!("watch {}: not an event: {error}", self.collection);
                self.report(reason);
                return Err(Failure::Outdated);
            }
        };
        let event = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                *version = object.metadata().resource_version.clone();
                self.status().applied_total += 1;
                CollectionEvent::Applied(object)
            }
            WatchEvent::Deleted(object) => {
                *version = object.metadata().resource_version.clone();
                self.status().deleted_total += 1;
                CollectionEvent::Deleted(object)
            }
            WatchEvent::Bookmark(bookmark) => {
                *version = bookmark.metadata.resource_version;
                return Ok(());
            }
            // "too old resource version" comes this way, within an answer that began well.
            WatchEvent::Error(status) if status.code == 410 => return Err(Failure::Outdated),
            WatchEvent::Error(status) => {
                let Status { message, reason, code } = status;
                let reason = format!("watch {}: {code} {reason}: {message}", self.collection);
                self.report(reason);
                return Err(Failure::Outdated);
            }
        };
        (self.events)(event);
        Ok(())
    }

    /// The beginning of a good answer.
    async fn ask(&self, verb: &str, query: &[(&str, &str)]) -> Result<(HeaderMap, Body), Failure> {
        let url = self.url(query);
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url
            .parse()
            .map_err(|_| self.refused(verb, format!("{} has no such path", self.source.server.shown_url)))?;
        request.headers_mut().insert(header::ACCEPT, accepted(self.collection.resource, verb));
        let mut client = self.source.server.client.clone();
        let answer = client.call(request).await.map_err(|error| self.refused(verb, error.to_string()))?;
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            return Ok((head.headers, body));
        }
        if head.status == StatusCode::GONE {
            return Err(Failure::Outdated);
        }
        let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = seconds.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let explained = body.read_to_end(MAX_STATUS_BYTES).await.unwrap_or_default();
        let status = serde_json::from_slice::<Status>(&explained).unwrap_or_default();
        let reason = format!("{} {}: {}", self.verb_and_what(verb), head.status, self.advice(&head.status));
        let reason = match status.message.is_empty() {
            true => reason,
            false => format!("{reason} ({})", status.message),
        };
        Err(Failure::Refused {
            reason,
            retry_after: retry_after.map(|pause| pause.min(MAX_RETRY_PAUSE)),
            is_final: head.status.is_client_error() && head.status != StatusCode::TOO_MANY_REQUESTS,
        })
    }

    fn url(&self, query: &[(&str, &str)]) -> String {
        let Collection { resource, namespace, label_selector, field_selector } = &self.collection;
        let mut url = self.source.server.url.clone();
        url += match resource.group() {
            "" => "/api/v1",
            _ => "/apis/",
        };
        if !resource.group().is_empty() {
            url += resource.group();
            url += "/v1";
        }
        if let Some(namespace) = namespace {
            url += "/namespaces/";
            url += namespace;
        }
        url += "/";
        url += resource.plural();
        url += "?";
        let mut query_text = Serializer::new(String::new());
        query_text.extend_pairs(query);
        for (name, selector) in [("labelSelector", label_selector), ("fieldSelector", field_selector)] {
            if !selector.is_empty() {
                query_text.append_pair(name, selector);
            }
        }
        url + &query_text.finish()
    }

    fn advice(&self, status: &StatusCode) -> String {
        let resource = self.collection.resource;
        match *status {
            StatusCode::UNAUTHORIZED => "the API server does not take the credentials".to_owned(),
            StatusCode::FORBIDDEN => {
                let kind = if self.collection.namespace.is_some() { "Role" } else { "ClusterRole" };
                let group = match resource.group() {
                    "" => String::new(),
                    group => format!(" of apiGroup {group}"),
                };
                format!("a {kind} needs get, list, watch on {}{group}", resource.plural())
            }
            StatusCode::NOT_FOUND => {
                let group = if resource.group().is_empty() { "" } else { "/" };
                format!("this API server has no {} of {}{group}v1", resource.plural(), resource.group())
            }
            _ => "the API server refuses".to_owned(),
        }
    }

    /// `list pods in namespace shop:`.
    fn verb_and_what(&self, verb: &str) -> String {
        format!("{verb} {}:", self.collection)
    }

    fn refused(&self, verb: &str, reason: String) -> Failure {
        let reason = format!("{} {reason}", self.verb_and_what(verb));
        Failure::Refused { reason, retry_after: None, is_final: false }
    }

    fn broken(&self, verb: &str, reason: &dyn std::fmt::Display) -> Failure {
        Failure::Broken(format!("{} {reason}", self.verb_and_what(verb)))
    }
}

/// Of objects that only lend their metadata, nothing else is asked for; a server that cannot leave it out sends all.
fn accepted(resource: Resource, verb: &str) -> HeaderValue {
    HeaderValue::from_static(match (resource.is_metadata_only(), verb) {
        (false, _) => "application/json",
        (true, "list") => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
        (true, _) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
    })
}
