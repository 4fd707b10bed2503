//! The program as it is run, between real targets and real receivers.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

mod answers;
mod collector;
mod comparison;
mod crash;
mod delivery;
mod demo;
mod limits;
