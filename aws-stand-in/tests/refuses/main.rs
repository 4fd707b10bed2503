//! Each check is seen to refuse once, in AWS' words; the same call with that one thing right passes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and skip aloud")]

mod faults;
mod raw;
mod sts;
mod workspaces;
mod world;
