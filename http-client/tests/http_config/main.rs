//! Each key of `http_config` against a server that checks it, through both the pooled client and the connection.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod authentication;
mod config;
mod connection;
mod headers;
mod oauth2;
mod origin;
mod proxy;
mod redirect;
mod support;
mod tls;
