//! One module a mechanism. A new one is a configuration, an implementation of [`Discover`](crate::Discover), a feature
//! and an entry in [`Mechanism`](mechanism::Mechanism).

#[cfg(feature = "dns")]
pub(crate) mod dns;
#[cfg(feature = "file")]
pub(crate) mod file;
#[cfg(feature = "http")]
pub(crate) mod http;
#[cfg(any(feature = "http", feature = "kubernetes"))]
mod http_config;
#[cfg(any(feature = "http", feature = "kubernetes"))]
mod json;
#[cfg(feature = "kubernetes")]
pub(crate) mod kubernetes;
#[cfg(any(feature = "file", feature = "http"))]
mod list;
pub(crate) mod mechanism;
#[cfg(any(feature = "http", feature = "dns"))]
mod refresh;
#[cfg(feature = "static")]
pub(crate) mod static_targets;
#[cfg(any(feature = "http", feature = "kubernetes"))]
mod url;
