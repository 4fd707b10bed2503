//! Kubernetes discovery.

#![cfg(feature = "kubernetes")]

mod api_server;
mod config;
mod golden;
mod support;
