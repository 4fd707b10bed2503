//! The container image: what `scripts/image` makes, and that the program does its work where there is nothing else.
//!
//! The script is tested with a tiny program of its own. What runs is the image that `PROMFERRY_IMAGE` names (a folder,
//! relative ones from the repository's), since making one links the program once more:
//!
//! ```sh
//! scripts/image --profile dev target/image
//! PROMFERRY_IMAGE=target/image cargo test --package promferry --test image
//! ```
//!
//! Tests that can't run, for want of that, of umoci, of bubblewrap or of user namespaces, say so; with
//! `PROMFERRY_REQUIRE_IMAGE=1` they fail.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod container;
mod contents;
mod delivery;
mod deploy;
mod dns;
#[path = "../fixture/dns_server.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod dns_server;
#[path = "../fixture/inside.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod inside;
mod layout;
mod names;
mod network;
mod start_up;
mod tls;
#[path = "../fixture/tls_front.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod tls_front;
