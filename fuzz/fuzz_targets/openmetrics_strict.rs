//! Runs [`promferry_fuzz::openmetrics_strict`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::openmetrics_strict);
