//! Runs [`promferry_fuzz::openmetrics2`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::openmetrics2);
