//! Lists and watches collections, by kube's runtime over our own transport.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures_util::StreamExt;
use http::StatusCode;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use promferry_model::{Rng, SeededRng};
use tokio::time::sleep;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use super::answer::MAX_EVENT_BYTES;
use super::api_server::{ApiServer, KubernetesOptions};
use super::connections::Server;
use super::objects::{Object, Resource};
use super::refusal::{Refusal, Why};
use super::source::{Collection, CollectionEvent, CollectionStatus};
use super::transport::{Conversation, MAX_RETRY_PAUSE, Note, Transport};
use super::watched::{Kind, Watched};
use crate::mechanisms::json::without_values;

/// Streamed lists in a row that do not come to an end until pages are asked for instead.
const MAX_BROKEN_STREAMS: u32 = 3;

/// Targets of an object at most. A slice of the 1,000 endpoints that the API allows with 50 ports has so many; it also
/// allows some that have a billion, and each takes a kilobyte.
const MAX_OBJECT_TARGETS: usize = 50_000;

/// An API server whose collections are followed. Clones, and all that follow, share its connections.
#[derive(Debug, Clone)]
pub(super) struct ApiServerSource(Arc<Server>);

impl ApiServerSource {
    pub(super) fn new(server: ApiServer, options: KubernetesOptions) -> Self {
        Self(Arc::new(Server::new(server, options)))
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
        E: FnMut(CollectionEvent) + Send + 'static,
    {
        let conversation = Arc::new(Conversation::new(self.0.clone(), collection, status));
        let follower = Follower { conversation, events, has_left_out: false, broken_streams: 0 };
        follower.run()
    }
}

struct Follower<E> {
    conversation: Arc<Conversation>,
    events: E,
    /// Objects were left out of what was last listed, or came after it.
    has_left_out: bool,
    /// In a row.
    broken_streams: u32,
}

/// How a collection is to be followed after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// As the runtime sees fit.
    GoOn,
    /// The same after a pause: no request was sent that would have waited.
    Wait,
    /// By listing everything anew.
    Anew,
}

impl<E: FnMut(CollectionEvent) + Send> Follower<E> {
    async fn run(mut self) {
        let transport = Transport {
            conversation: self.conversation.clone(),
            lease: Arc::new(self.conversation.server.lease()),
            log: tracing::dispatcher::get_default(Clone::clone),
        };
        // The namespace that it has by default is never asked for.
        let client = Client::new(transport, "default");
        loop {
            let client = client.clone();
            match self.conversation.collection.resource {
                Resource::Endpoints => self.follow(client, Object::Endpoints).await,
                Resource::EndpointSlices => self.follow(client, Object::EndpointSlice).await,
                Resource::Ingresses => self.follow(client, Object::Ingress).await,
                Resource::Jobs => self.follow(client, Object::Job).await,
                Resource::Namespaces => self.follow(client, Object::Namespace).await,
                Resource::Nodes => self.follow(client, Object::Node).await,
                Resource::Pods => self.follow(client, Object::Pod).await,
                Resource::ReplicaSets => self.follow(client, Object::ReplicaSet).await,
                Resource::Services => self.follow(client, Object::Service).await,
            }
        }
    }

    /// Follows the collection until everything has to be listed anew.
    async fn follow<T: Kind>(&mut self, client: Client, object: fn(T) -> Object) {
        let is_streamed = self.conversation.server.may_stream() && self.broken_streams < MAX_BROKEN_STREAMS;
        let collection = &self.conversation.collection;
        let config = config(collection, is_streamed, self.conversation.server.options.page_items);
        let api: Api<Watched<T>> = match &collection.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &collection.resource),
            None => Api::all_with(client, &collection.resource),
        };
        let mut watched = pin!(watcher(api, config));
        let mut is_listing = false;
        loop {
            let conversation = self.conversation.clone();
            // What is to be said is said by us, once: the runtime warns at each attempt, and with whole answers, in which
            // there may be secrets.
            let next = watched.next().with_subscriber(Dispatch::none());
            let next = tokio::select! {
                biased;
                () = conversation.noted.notified() => None,
                next = next => next,
            };
            self.heed_notes();
            match next {
                None => {}
                Some(Ok(Event::Init)) => {
                    if std::mem::replace(&mut is_listing, true) && is_streamed {
                        self.broken_streams += 1;
                    }
                    if self.may_stream() != is_streamed {
                        return;
                    }
                    self.has_left_out = false;
                    (self.events)(CollectionEvent::ListBegins);
                }
                Some(Ok(Event::InitDone)) => {
                    is_listing = false;
                    self.broken_streams = 0;
                    self.list_ended();
                }
                Some(Ok(Event::InitApply(of) | Event::Apply(of))) => {
                    self.conversation.status().applied_total += 1;
                    self.applied(object(of.object));
                }
                Some(Ok(Event::Delete(of))) => {
                    self.conversation.status().deleted_total += 1;
                    (self.events)(CollectionEvent::Deleted(object(of.object)));
                }
                Some(Err(error)) => match self.failed(error, is_streamed) {
                    After::GoOn => {}
                    After::Wait => sleep(MAX_RETRY_PAUSE).await,
                    After::Anew => return,
                },
            }
        }
    }

    fn applied(&mut self, object: Object) {
        let targets = object.multiplied_targets();
        if targets <= MAX_OBJECT_TARGETS {
            return (self.events)(CollectionEvent::Applied(object));
        }
        let metadata = object.metadata();
        let reason = format!(
            "watch {}: {}/{} has {targets} targets, more than {MAX_OBJECT_TARGETS}, it is left out",
            self.conversation.collection, metadata.namespace, metadata.name
        );
        self.has_left_out = true;
        self.report(reason);
        // What it was before is not what it is.
        (self.events)(CollectionEvent::Deleted(object));
    }

    fn may_stream(&self) -> bool {
        self.conversation.server.may_stream() && self.broken_streams < MAX_BROKEN_STREAMS
    }

    fn heed_notes(&mut self) {
        for note in self.conversation.take_notes() {
            match note {
                Note::WatchBegan if self.conversation.is_listing() || self.has_left_out => {}
                Note::WatchBegan => {
                    self.conversation.status().failure = None;
                    (self.events)(CollectionEvent::Recovered);
                }
                Note::EventLeftOut => {
                    let reason = format!(
                        "watch {}: an event has more than {MAX_EVENT_BYTES} bytes, it is left out",
                        self.conversation.collection
                    );
                    self.report(reason);
                }
            }
        }
    }

    fn list_ended(&mut self) {
        let is_well = self.conversation.list_ended() && !self.has_left_out;
        {
            let now = Some(SystemTime::now());
            let mut status = self.conversation.status();
            status.lists_total += 1;
            (status.last_listed, status.last_heard) = (now, now);
            if is_well {
                status.failure = None;
            }
        }
        (self.events)(CollectionEvent::ListEnds);
        // Whether a watch that was refused is so again is known when it has been asked for.
        if is_well {
            (self.events)(CollectionEvent::Recovered);
        }
    }

    fn report(&mut self, reason: String) {
        {
            let mut status = self.conversation.status();
            status.failures_total += 1;
            status.failure = Some(reason.clone());
        }
        (self.events)(CollectionEvent::Failed(reason));
    }

    fn failed(&mut self, error: watcher::Error, is_streamed: bool) -> After {
        let is_listing = self.conversation.is_listing();
        let reason = match error {
            watcher::Error::InitialListFailed(error) => {
                return self.request_failed("list", error, is_streamed);
            }
            watcher::Error::WatchStartFailed(error) => {
                return self.request_failed("watch", error, is_streamed);
            }
            // "too old resource version" comes this way, within an answer that began well.
            watcher::Error::WatchError(status) if status.code == 410 => {
                self.conversation.made_no_sense();
                return After::GoOn;
            }
            // "RequestWatchProgress is disabled" does.
            watcher::Error::WatchError(_) if is_listing && is_streamed => {
                self.conversation.server.refuses_streams();
                self.conversation.asks_otherwise();
                return After::Anew;
            }
            // The connection broke. That happens, also to watches that are well; the next attempt tells whether the
            // server is there. A list that broke has to be explained.
            watcher::Error::WatchFailed(kube::Error::ReadEvents(error)) => {
                if is_listing {
                    self.report(format!("watch {}: {error}", self.conversation.collection));
                }
                return After::GoOn;
            }
            watcher::Error::WatchError(status) => {
                format!("{} {}: {}", status.code, status.reason, status.message)
            }
            watcher::Error::WatchFailed(kube::Error::SerdeError(error)) => {
                format!("not an event: {}", without_values(&error))
            }
            // It was taken for an explanation, as JSON of any kind is.
            watcher::Error::WatchFailed(kube::Error::Api(status)) if status.message.is_empty() => {
                "not an event".to_owned()
            }
            watcher::Error::WatchFailed(error) => error.to_string(),
            error @ watcher::Error::NoResourceVersion => error.to_string(),
        };
        self.conversation.made_no_sense();
        self.report(format!("watch {}: {reason}", self.conversation.collection));
        After::Anew
    }

    /// What was asked for has not been answered, or with something that makes no sense.
    fn request_failed(&mut self, verb: &str, error: kube::Error, is_streamed: bool) -> After {
        let reason = match error {
            kube::Error::Service(error) => match error.downcast::<Refusal>() {
                Ok(refusal) => return self.refused(*refusal, is_streamed),
                Err(error) => error.to_string(),
            },
            kube::Error::SerdeError(error) => {
                format!("the answer is not a list of objects: {}", without_values(&error))
            }
            error => error.to_string(),
        };
        let was_asked = self.conversation.made_no_sense();
        self.report(format!("{verb} {}: {reason}", self.conversation.collection));
        if was_asked { After::GoOn } else { After::Wait }
    }

    fn refused(&mut self, refusal: Refusal, is_streamed: bool) -> After {
        match refusal.why {
            Why::NoStreams => self.conversation.server.refuses_streams(),
            Why::Unstreamed => self.broken_streams = MAX_BROKEN_STREAMS,
            // The version that is watched from is forgotten.
            Why::Status(StatusCode::GONE) => return After::Anew,
            Why::Status(status) => {
                self.report(refusal.reason);
                let is_listing = self.conversation.is_listing();
                let is_overloaded =
                    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
                if is_listing && is_streamed && status.is_server_error() && !is_overloaded {
                    self.broken_streams += 1;
                }
                // Asking the same again would be of no use.
                let is_final = status.is_client_error() && !is_overloaded;
                let is_to_change = is_listing && self.may_stream() != is_streamed;
                return if is_final || is_to_change { After::Anew } else { After::GoOn };
            }
            Why::Unreachable => {
                self.report(refusal.reason);
                return After::GoOn;
            }
        }
        self.conversation.asks_otherwise();
        After::Anew
    }
}

fn config(collection: &Collection, is_streamed: bool, page_items: u32) -> watcher::Config {
    let selector = |text: &String| (!text.is_empty()).then(|| text.clone());
    let config = watcher::Config {
        label_selector: selector(&collection.label_selector),
        field_selector: selector(&collection.field_selector),
        ..watcher::Config::default()
    };
    // Servers end watches by themselves; that not all end at once is up to the clients.
    let seconds = 300 + SeededRng::from_process().next_u64() % 300;
    let config = config.timeout(u32::try_from(seconds).unwrap_or(300)).any_semantic().page_size(page_items);
    if is_streamed { config.streaming_lists() } else { config }
}
