//! What the pages show of a running pipeline.

use std::fmt::Write as _;
use std::sync::Arc;

use promferry_exposition::accepted_format;

use crate::pipeline::Pipeline;
use crate::web::Pages;
use crate::{self_metrics, targets};

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
    async fn metrics(&self, accept: Option<&str>) -> (String, Vec<u8>) {
        self_metrics::page(&self.pipeline, accepted_format(accept.unwrap_or_default())).await
    }

    async fn targets(&self, query: &str) -> Vec<u8> {
        targets::targets_json(&self.pipeline.scraper().status(), query)
    }

    async fn status(&self) -> String {
        let mut page = String::from(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Promferry</title></head><body>\
             <h1>Promferry</h1><p><a href=\"/metrics\">metrics</a> <a href=\"/api/v1/targets\">targets</a></p>\
             <table><tr><th>job</th><th>target</th><th>health</th><th>last error</th></tr>",
        );
        for pool in self.pipeline.scraper().status() {
            for target in &pool.active {
                // Writing to a String cannot fail.
                let _ = write!(
                    page,
                    "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                    escape(&pool.scrape_pool),
                    escape(&target.scrape_url),
                    target.health.as_str(),
                    escape(&target.last_error)
                );
            }
        }
        page.push_str("</table><table><tr><th>endpoint</th><th>accepted</th><th>delivered</th><th>dropped</th><th>waiting</th><th>last trouble</th></tr>");
        for endpoint in self.pipeline.endpoints().await.unwrap_or_default() {
            let ledger = &endpoint.ledger;
            let trouble = endpoint.delivery.last_error.map(|error| error.text).unwrap_or_default();
            let _ = write!(
                page,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&endpoint.key),
                ledger.accepted.samples,
                ledger.delivered.samples,
                ledger.dropped_total().samples,
                ledger.pending.samples,
                escape(&trouble)
            );
        }
        page.push_str("</table></body></html>\n");
        page
    }
}

/// Text from outside, fit to stand in a page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
