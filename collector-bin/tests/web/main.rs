//! The pages as they are served: who may look, where they lie, what can be asked of the process, what they show.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod authority;
mod bad_files;
#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod health_check;
mod lifecycle;
mod paths;
mod peer;
mod places;
mod self_metrics;
mod site;
mod status_page;
