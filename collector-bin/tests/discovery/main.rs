//! What is discovered, beside a real Prometheus that is given the same jobs.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod beside;
#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod dns;
mod dns_server;
mod file;
mod http;
mod intended;
mod kubernetes;
mod rbac;
mod sandbox;
mod scenario;
