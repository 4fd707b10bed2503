//! The program as a pod runs it that writes to Amazon Managed Prometheus: credentials from STS by a service account's
//! token, roles assumed, requests signed, in a cloud of our own that refuses as AWS does. Whatever fails there, and
//! however long, nothing that was scraped is lost, what is wrong is said, and no secret is shown.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on fails")]

#[path = "../fixture/collector.rs"]
#[allow(dead_code, reason = "each test program uses its part of the fixture")]
mod collector;
mod secrets;
