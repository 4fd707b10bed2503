//! Manifests that people run today: each starts unchanged and delivers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agent;
mod aws;
mod cluster;
#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod fargate;
mod helm_chart;
/// The API server with which discovery is tested.
#[path = "../../../discovery/tests/kubernetes/api_server.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod kubernetes;
mod operator;
#[path = "../fixture/published.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod published;
mod real_cluster;
