//! The spool through its public interface: on simulated disks that crash, fail and rot, and on a real one.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod abandoned;
mod corruption;
mod crash;
mod destroyed;
mod disk_failure;
mod model;
mod outage;
mod page_cache;
mod panics;
mod parked;
mod reading;
mod releases;
mod shell;
mod trouble;
mod world;
