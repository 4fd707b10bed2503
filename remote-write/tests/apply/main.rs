//! Endpoints and external labels change while scrapes and requests go on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod changes;
mod crash;
mod faults;
mod hand_over;
mod properties;
#[path = "../receiver/mod.rs"]
mod receiver;
#[path = "../sender/mod.rs"]
mod sender;
mod setup;
mod under_load;
