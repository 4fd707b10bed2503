//! The mechanisms and the set that runs them, against files on disk, an HTTP server and a DNS server.

#![cfg(all(feature = "static", feature = "file", feature = "http", feature = "dns"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod config;
mod dns;
mod file;
mod http;
mod set;
mod support;
