//! Runs [`promferry_fuzz::config`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::config);
