//! Everything of Promferry that decodes what others wrote, as functions that take arbitrary bytes and panic where a
//! law is broken.
//!
//! `cargo fuzz run --sanitizer none TARGET` (cargo-fuzz on stable Rust) runs one for as long as one likes;
//! `cargo test` replays each one's seeds in `corpus/` and a fixed number of mutations of them, and without
//! cargo-fuzz `cargo run --bin TARGET -- FILE…` replays files.

mod config;
mod exposition;
mod input;
mod refusal;
mod relabel;
mod remote_write;
mod spool;

pub use config::{config, otel_config};
pub use exposition::{
    exposition_round_trip, families_round_trip, known_page, openmetrics, openmetrics_strict, openmetrics2,
    protobuf, text,
};
pub use input::replay;
pub use refusal::refusal;
pub use relabel::relabel;
pub use remote_write::{fragment, wire};
pub use spool::spool;

/// The `main` of a fuzz target: libFuzzer's under cargo-fuzz, else one that replays the files it is given.
#[macro_export]
macro_rules! fuzz_target {
    ($target:path) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| $target(data));

        #[cfg(not(fuzzing))]
        fn main() -> std::io::Result<()> {
            $crate::replay($target, std::env::args_os().skip(1))
        }
    };
}
