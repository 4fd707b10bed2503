//! Kubernetes discovery, against an API server in memory, recorded answers and, where it is there, a real one.

#![cfg(feature = "kubernetes")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod api_server;
mod churn;
mod config;
mod golden;
mod kubeconfig;
mod labels;
mod lists;
mod memory;
mod real;
mod said;
mod storm;
mod support;
mod views;
mod watching;
