//! A configuration that changes while the program runs.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod credentials;
mod edges;
mod endpoints;
#[path = "../fixture/outcome.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod outcome;
mod tls_front;
mod triggers;
mod under_load;
mod volume;
