//! Service discovery as a stream of target-group changes, with Prometheus' mechanisms, labels and rules.
//!
//! A [`Discovery`] runs the mechanisms that jobs configure ([`DiscoveryConfigs`], one a job), each once however many
//! jobs ask for the same. Its [`Changes`] are batches of [`Change`]s: a group of targets that is new, different or gone.
//! What a mechanism has found stays in force while it fails; [`Discovery::status`] says since when and why. A new
//! configuration is applied to the running set: what is wanted still goes on, what takes another's place takes over
//! its groups until it has found its own.
//!
//! It is not the other half of Prometheus' target handling: groups are passed on as found, relabelling and scraping are
//! the consumer's. Each mechanism is a module behind a feature; a program adds its own with [`Discover`].
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "static")] {
//! use promferry_discovery::{Discovery, DiscoveryConfigs, DiscoveryOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let configs: DiscoveryConfigs = serde_saphyr::from_str(
//!     r#"
//! static_configs:
//!   - targets: ["10.0.0.1:9100", "10.0.0.2:9100"]
//!     labels: {env: prod}
//! "#,
//! )?;
//! configs.validate()?;
//!
//! let (discovery, mut changes) = Discovery::new(DiscoveryOptions::default());
//! discovery.apply([("node".into(), configs)]);
//! for change in changes.next().await {
//!     let group = change.group.expect("it has just been found");
//!     assert_eq!((change.job.as_str(), change.source.as_str()), ("node", "0"));
//!     assert_eq!(group.labels.get("env"), "prod");
//!     assert_eq!(group.targets[1].get("__address__"), "10.0.0.2:9100");
//! }
//! assert_eq!(discovery.status()[0].targets, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! # }
//! ```
//!
//! # Features
//!
//! All are on by default: `static`, `file`, `http`, `dns` and `kubernetes`, one a mechanism with what only it depends on.
//! Without any, there are the set and [`CustomMechanism`].
//!
//! `kubernetes` is built on kube and k8s-openapi, and of the latter a program chooses one version. `kubernetes-types`, on
//! by default too, chooses one; a program that uses k8s-openapi for itself, in another version, leaves it off.

mod config;
mod counts;
mod discover;
mod discovery;
mod error;
mod mechanisms;

pub use crate::config::{ConfigError, DiscoveryConfigs, StaticConfig};
pub use crate::counts::{DiscoveryCounts, KubernetesEvents};
pub use crate::discover::{Discover, Updates};
pub use crate::discovery::{
    ApplyError, Change, Changes, Discovery, DiscoveryOptions, MechanismId, MechanismStatus,
};
pub use crate::error::Error;
#[cfg(feature = "dns")]
pub use crate::mechanisms::dns::{DnsSdConfig, DnsServers};
#[cfg(feature = "file")]
pub use crate::mechanisms::file::FileSdConfig;
#[cfg(feature = "http")]
pub use crate::mechanisms::http::HttpSdConfig;
#[cfg(feature = "kubernetes")]
pub use crate::mechanisms::kubernetes::{
    CollectionStatus, KubernetesMetadata, KubernetesNamespaces, KubernetesOptions, KubernetesRole,
    KubernetesSdConfig, KubernetesSelector,
};
pub use crate::mechanisms::mechanism::CustomMechanism;
