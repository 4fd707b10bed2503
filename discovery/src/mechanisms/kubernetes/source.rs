//! What is followed, and what happens to it.

use std::fmt;
use std::time::SystemTime;

use smol_str::SmolStr;

use super::objects::{Object, Resource};

/// The objects of a kind, in one namespace or all, that selectors choose.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// All its objects follow as [`Applied`](Self::Applied), up to [`ListEnds`](Self::ListEnds). When this comes a second
    /// time instead of the end, the list broke off and begins anew: of what has not been mentioned nothing is known.
    ListBegins,
    /// An object is new or different, or was listed.
    Applied(Object),
    /// These were all its objects: others that are known are gone.
    ListEnds,
    /// An object is gone.
    Deleted(Object),
    /// What is known cannot be kept up to date, for this reason; it stays in force. A list does not end that by itself:
    /// what cannot be watched gets old.
    Failed(String),
    /// It can again.
    Recovered,
}

/// How one collection of the API is followed, for a status page and for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CollectionStatus {
    /// The API's name of what it is of, such as `pods`.
    pub resource: &'static str,
    /// The namespace; absent if it is all of them, or of no namespace.
    pub namespace: Option<SmolStr>,
    /// The selector by labels, empty for none.
    pub label_selector: String,
    /// The selector by fields, empty for none.
    pub field_selector: String,
    /// Objects that are known.
    pub objects: usize,
    /// When all of it was listed last.
    pub last_listed: Option<SystemTime>,
    /// When the server last said anything about it, were it that nothing has changed.
    pub last_heard: Option<SystemTime>,
    /// Why it cannot be kept up to date; absent if it can.
    pub failure: Option<String>,
    /// Lists that were completed.
    pub lists_total: u64,
    /// Watches that were begun.
    pub watches_total: u64,
    /// Objects that were listed, or new, or changed.
    pub applied_total: u64,
    /// Objects that were deleted.
    pub deleted_total: u64,
    /// Failed requests, and answers that made no sense.
    pub failures_total: u64,
}

impl CollectionStatus {
    pub(crate) fn new(collection: &Collection) -> Self {
        Self {
            resource: collection.resource.plural(),
            namespace: collection.namespace.clone(),
            label_selector: collection.label_selector.clone(),
            field_selector: collection.field_selector.clone(),
            objects: 0,
            last_listed: None,
            last_heard: None,
            failure: None,
            lists_total: 0,
            watches_total: 0,
            applied_total: 0,
            deleted_total: 0,
            failures_total: 0,
        }
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
