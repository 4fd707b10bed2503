//! Service discovery as a stream of target-group changes
