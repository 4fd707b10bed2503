//! `promferry run --dry-run`, as it is run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// The API server with which discovery is tested.
#[path = "../../../discovery/tests/kubernetes/api_server.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod kubernetes;
mod manifests;
mod program;
mod report;
mod signing;
