//! Encoding as a receiver sees it.
#![expect(clippy::unwrap_used, reason = "what is missing in a test ends the test")]

mod duplicates;
mod generate;
mod laws;
mod requests;
mod round_trip;
mod series;
mod snappy;
mod support;
