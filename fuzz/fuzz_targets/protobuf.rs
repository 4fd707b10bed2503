//! Runs [`promferry_fuzz::protobuf`].
#![cfg_attr(fuzzing, no_main)]

promferry_fuzz::fuzz_target!(promferry_fuzz::protobuf);
