//! Where objects come from.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use smol_str::SmolStr;
use tokio::sync::mpsc;

use super::objects::{Object, Resource};

/// Follows collections of objects. What lists and watches is behind this trait, what is made of the objects before it.
pub(crate) trait ObjectSource: Send + 'static {
    /// Tells `events` what is in the collection and what changes, for as long as the future is polled.
    fn follow(
        &self,
        collection: Collection,
        events: CollectionEvents,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// The objects of a kind, in one namespace or all, that selectors choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection {
    pub(crate) resource: Resource,
    /// All of them if absent.
    pub(crate) namespace: Option<SmolStr>,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
}

/// What happens to a collection.
#[derive(Debug)]
pub(crate) enum CollectionEvent {
    /// These are all its objects.
    Listed(Vec<Object>),
    /// An object is new or different.
    Applied(Object),
    /// An object is gone.
    Deleted(Object),
    /// What is known cannot be kept up to date, for this reason; it stays in force.
    Failed(String),
    /// It can again.
    Recovered,
}

/// Where the events of one collection go.
#[derive(Debug, Clone)]
pub(crate) struct CollectionEvents {
    index: usize,
    sender: mpsc::Sender<(usize, CollectionEvent)>,
}

impl CollectionEvents {
    pub(crate) fn new(index: usize, sender: mpsc::Sender<(usize, CollectionEvent)>) -> Self {
        Self { index, sender }
    }

    /// Waits while the receiver is busy. Without a receiver nobody wants to know, and this future is about to be
    /// dropped.
    pub(crate) async fn send(&self, event: CollectionEvent) {
        let _ = self.sender.send((self.index, event)).await;
    }
}

impl fmt::Display for Collection {
    /// `pods in namespace shop`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource.plural())?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}
