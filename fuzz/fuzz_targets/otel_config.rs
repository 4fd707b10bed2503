//! Runs [`promferry_fuzz::otel_config`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::otel_config);
