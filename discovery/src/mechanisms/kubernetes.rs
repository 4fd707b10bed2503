//! `kubernetes_sd_configs`: targets that a Kubernetes API server knows.

mod config;
mod selector;

pub use self::config::{
    KubernetesMetadata, KubernetesNamespaces, KubernetesRole, KubernetesSdConfig, KubernetesSelector,
};

use crate::{Discover, DiscoveryOptions, Error};

pub(crate) fn build(
    config: &KubernetesSdConfig,
    _options: &DiscoveryOptions,
) -> Result<Box<dyn Discover>, Error> {
    config.validate()?;
    let reason = "API servers are not asked yet".to_owned();
    Err(Error::Construct { mechanism: "kubernetes", reason })
}
