//! Runs [`promferry_fuzz::wire`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::wire);
