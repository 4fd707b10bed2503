//! Runs [`promferry_fuzz::fragment`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::fragment);
