//! Runs [`promferry_fuzz::known_page`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::known_page);
