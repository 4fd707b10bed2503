//! What the pages show of a running pipeline.

use std::sync::Arc;

use promferry_exposition::accepted_format;

use crate::pipeline::Pipeline;
use crate::web::Pages;
use crate::{self_metrics, status_page, targets};

/// The pages of a running [`Pipeline`].
pub struct CollectorPages {
    pipeline: Arc<Pipeline>,
}

impl CollectorPages {
    /// Pages that show `pipeline`.
    pub fn new(pipeline: Arc<Pipeline>) -> Self {
        Self { pipeline }
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
        status_page::page(&self.pipeline, title, query).await
    }
}
