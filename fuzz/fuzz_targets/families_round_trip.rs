//! Runs [`promferry_fuzz::families_round_trip`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::families_round_trip);
