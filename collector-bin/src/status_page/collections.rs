//! What is followed of Kubernetes' APIs.

use promferry_model::Timestamp;

use super::Shown;
use super::html::{Html, ago, text, trouble};
use crate::self_metrics::collections_alike_together;

impl Html {
    /// The one that was silent for longest comes first.
    pub(super) fn collections(&mut self, shown: &Shown) {
        let mut collections: Vec<_> = collections_alike_together(&shown.mechanisms).into_iter().collect();
        collections.sort_by_key(|(_, status)| (status.failure.is_none(), status.last_heard));
        let rows = collections.into_iter().map(|((resource, namespace, selector), status)| {
            let namespace = if namespace.is_empty() { "all".to_owned() } else { namespace };
            let since = |at: Option<_>| {
                at.map_or_else(|| "never".to_owned(), |at| ago(Timestamp::from(at), shown.now))
            };
            [
                text(resource),
                text(namespace),
                text(selector),
                text(status.objects),
                text(since(status.last_heard)),
                text(since(status.last_listed)),
                text(format!("{} and {}", status.lists_total, status.watches_total)),
                text(status.failures_total),
                trouble(status.failure.unwrap_or_default()),
            ]
        });
        let heads = [
            "objects of Kubernetes",
            "in namespace",
            "selected by",
            "known",
            "server heard",
            "listed",
            "lists and watches",
            "failures",
            "why it fails",
        ];
        self.table("Followed in Kubernetes", &heads, rows);
    }
}
