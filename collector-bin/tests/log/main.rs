//! The log as an operator reads it who has nothing else: whether all is well, what is not and why, each once, and no
//! secret.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
#[path = "../aws/iam.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod iam;
mod planted;
mod receiver;
#[path = "../fixture/secrets.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod secrets;
#[path = "../fixture/tls_front.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod tls_front;
mod verdicts;
mod world;
