//! The command line, as people's manifests have it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod documents;
mod flags;
#[path = "../fixture/published.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod published;
mod started;
mod wal;
