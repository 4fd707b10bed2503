//! What the pages show of a running pipeline.

use std::sync::Arc;

use promferry_config::Sources;
use promferry_exposition::accepted_format;

use crate::pipeline::Pipeline;
use crate::web::Pages;
use crate::{self_metrics, status_page, targets};

/// The pages of a running [`Pipeline`].
pub struct CollectorPages {
    pipeline: Arc<Pipeline>,
    source: String,
}

impl CollectorPages {
    /// Pages that show `pipeline`.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline, source: String::new() }
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
        self_metrics::page(&self.pipeline, accepted_format(accept.unwrap_or_default())).await
    }

    async fn targets(&self, query: &str) -> Vec<u8> {
        targets::targets_json(&self.pipeline.scraper().status(), query)
    }

    async fn status(&self, title: &str, query: &str) -> String {
        status_page::page(&self.pipeline, &self.source, title, query).await
    }
}
