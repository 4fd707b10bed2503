//! Receivers, networks and disks that fail, and for how long: each case ends with the ledger balanced and with nothing
//! lost, or with the reason counted.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod disk;
mod endpoints;
mod network;
mod outage;
#[path = "../fixture/outcome.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod outcome;
#[path = "../fixture/pace.rs"]
mod pace;
mod stall;
mod tls;
#[path = "../fixture/tls_front.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod tls_front;
