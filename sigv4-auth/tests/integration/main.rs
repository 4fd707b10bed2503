//! Signing, verifying and getting credentials through the public API, over loopback.

mod botocore;
mod cache;
mod cache_laws;
mod fake_sts;
mod front;
mod generated;
mod process;
mod properties;
mod skew;
mod stack;
mod sts;
mod vectors;
mod whoami;
