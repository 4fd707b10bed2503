//! What the pages show of a running pipeline.

use std::sync::Arc;

use promferry_config::Sources;
use promferry_exposition::negotiate;
use promferry_model::EscapingScheme;
use tokio::sync::Semaphore;

use crate::pipeline::Pipeline;
use crate::web::{PageBody, Pages, body};
use crate::{self_metrics, status_page, targets};

/// The pages of a running [`Pipeline`].
pub struct CollectorPages {
    pipeline: Arc<Pipeline>,
    source: String,
    /// Places for lists of targets that are being sent: each takes a thread.
    listings: Arc<Semaphore>,
}

const LISTINGS: usize = 2;

impl CollectorPages {
    /// Pages that show `pipeline`.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline, source: String::new(), listings: Arc::new(Semaphore::new(LISTINGS)) }
    }

    /// The same, which say where the configuration comes from.
    pub fn with_sources(self, sources: &Sources) -> Self {
        let source = match sources {
            Sources::Prometheus(file) => file.display().to_string(),
            Sources::OpenTelemetry { uris, sets } => {
                // What is written into a flag may be a secret.
                let uris = uris.iter().map(|uri| match uri.strip_prefix("yaml:") {
                    Some(_) => "a text of --config",
                    None => uri,
                });
                let sets = sets.iter().map(|_| "a value of --set");
                uris.chain(sets).collect::<Vec<_>>().join(", ")
            }
        };
        Self { source, ..self }
    }
}

impl Pages for CollectorPages {
    fn is_healthy(&self) -> bool {
        self.pipeline.is_working()
    }

    async fn metrics(&self, accept: Option<&str>) -> (String, Vec<u8>) {
        // As every Go program answers who does not say how names are to be escaped.
        let answer = negotiate(accept.unwrap_or_default(), EscapingScheme::Underscores);
        self_metrics::page(&self.pipeline, answer).await
    }

    async fn targets(&self, query: &str) -> PageBody {
        let (pipeline, query) = (Arc::clone(&self.pipeline), query.to_owned());
        // It is never closed.
        let permit = Arc::clone(&self.listings).acquire_owned().await;
        body::streamed(move |to| {
            let _permit = permit;
            targets::write_targets(pipeline.scraper(), &query, to)
        })
    }

    async fn status(&self, title: &str, query: &str) -> String {
        status_page::page(&self.pipeline, &self.source, title, query).await
    }
}
