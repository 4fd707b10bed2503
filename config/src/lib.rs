//! Reads Prometheus configuration into typed options, with errors that say where
