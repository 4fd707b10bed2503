//! Runs [`promferry_fuzz::refusal`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::refusal);
