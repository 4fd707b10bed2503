//! `promferry run --dry-run`, as it is run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod program;
mod report;
