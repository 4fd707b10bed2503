//! Runs [`promferry_fuzz::exposition_round_trip`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::exposition_round_trip);
