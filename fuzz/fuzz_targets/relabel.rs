//! Runs [`promferry_fuzz::relabel`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::relabel);
