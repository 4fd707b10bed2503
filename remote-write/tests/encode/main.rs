//! Encoding as a receiver sees it.

mod go_snappy;
mod requests;
mod round_trip;
mod series;
mod support;
