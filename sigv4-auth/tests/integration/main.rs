//! Signing, verifying and getting credentials through the public API, over loopback.

mod cache;
mod fake_sts;
mod front;
mod stack;
mod sts;
mod vectors;
