//! Where a job's targets come from: `static_configs` and the `*_sd_configs`.

use std::path::Path;

use promferry_discovery::DiscoveryConfigs;

use super::job::refuse_empty_items;
use crate::yaml::{Entry, Mapping, NodeError};

/// The other mechanisms of Prometheus 3.16 (discovery/*), refused by name.
const UNSUPPORTED: &[&str] = &[
    "aws",
    "azure",
    "consul",
    "digitalocean",
    "docker",
    "dockerswarm",
    "ec2",
    "ecs",
    "elasticache",
    "eureka",
    "gce",
    "hetzner",
    "ionos",
    "kuma",
    "lightsail",
    "linode",
    "marathon",
    "msk",
    "nerve",
    "nomad",
    "oci",
    "openstack",
    "outscale",
    "ovhcloud",
    "puppetdb",
    "rds",
    "scaleway",
    "serverset",
    "stackit",
    "triton",
    "uyuni",
    "vultr",
];

/// Takes the keys of discovery out of a job's mapping.
pub(super) fn split<'a>(mapping: &mut Mapping<'a>) -> Result<Mapping<'a>, NodeError> {
    let unsupported = |entry: &&&Entry| {
        let name = entry.key.strip_suffix("_sd_configs");
        name.is_some_and(|name| UNSUPPORTED.contains(&name))
    };
    if let Some(entry) = mapping.entries().iter().find(unsupported) {
        let supported = DiscoveryConfigs::KEYS.join(", ");
        let message = format!("not supported yet: {}; there are {supported}", entry.key);
        return Err(NodeError::unsupported(message).at(entry.key_at));
    }
    Ok(mapping.split(DiscoveryConfigs::KEYS))
}

/// Reads what [`split`] took. Without relabelling rules to change them, static targets have to be addresses.
pub(super) fn read(
    mapping: &Mapping<'_>,
    base: &Path,
    relabelled: bool,
) -> Result<DiscoveryConfigs, NodeError> {
    refuse_empty_items(mapping, DiscoveryConfigs::KEYS)?;
    let mut configs: DiscoveryConfigs = mapping.read()?;
    configs.validate().map_err(|error| NodeError::at_path(mapping, &error.path, error.message))?;
    if !relabelled {
        for (at, config) in configs.static_configs.iter().enumerate() {
            if let Some(index) = config.targets.iter().position(|address| address.contains('/')) {
                let path =
                    ["static_configs", &at.to_string(), "targets", &index.to_string()].map(str::to_owned);
                let message = format!(
                    "{:?} is not a valid hostname; scheme and path belong to scheme and metrics_path",
                    config.targets[index]
                );
                return Err(NodeError::at_path(mapping, &path, message));
            }
        }
    }
    configs.resolve_paths(base);
    Ok(configs)
}
