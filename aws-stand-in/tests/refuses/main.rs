//! Each check is seen to refuse once, in AWS' words; the same call with that one thing right passes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, one that skips says so"
)]

mod faults;
mod kubernetes;
mod moto;
mod raw;
mod sts;
mod web_identities;
mod workspaces;
mod world;
