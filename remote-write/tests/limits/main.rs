//! Limits that last and series that are refused for ever: what the endpoint takes goes on, the rest waits or is
//! counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![allow(clippy::print_stdout, reason = "what is measured is shown with --nocapture")]

mod applied;
mod backend;
mod capped;
mod held;
mod interrupted;
mod parked;
#[path = "../receiver/mod.rs"]
mod receiver;
#[path = "../sender/mod.rs"]
mod sender;
mod world;
