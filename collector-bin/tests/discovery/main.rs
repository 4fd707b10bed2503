//! What is discovered, beside a real Prometheus that is given the same jobs.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod beside;
#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod dns;
#[path = "../fixture/dns_server.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod dns_server;
mod file;
mod http;
#[path = "../fixture/inside.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod inside;
mod intended;
mod kubernetes;
mod rbac;
mod sandbox;
mod scenario;
