//! The program as it is run, between real targets and real receivers.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod answers;
#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod comparison;
mod delivery;
mod duplicates;
mod opentelemetry;
mod visible;
