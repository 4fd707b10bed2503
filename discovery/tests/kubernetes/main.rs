//! Kubernetes discovery.

#![cfg(feature = "kubernetes")]

mod config;
