//! Each crate alone in a small program
