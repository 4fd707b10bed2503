//! Runs [`promferry_fuzz::spool`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::spool);
