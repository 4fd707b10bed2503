//! What receivers' texts mean: every row of the table, and what delivery makes of answers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod answers;
mod hostile;
mod page;
mod prometheus;
#[path = "../receiver/mod.rs"]
mod receiver;
mod search;
#[path = "../sender/mod.rs"]
mod sender;
mod size;
mod table;
mod world;
