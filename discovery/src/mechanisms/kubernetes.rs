//! `kubernetes_sd_configs`: targets that a Kubernetes API server knows.
//!
//! `watch` says what objects there are, by kube's runtime over our `transport`. A `cluster` is what mechanisms that ask
//! the same server share: a `table` of objects, which are kept as `record`s of bytes, and each mechanism's `view` of it,
//! which knows whose targets changed (by `references`) and has `labels` make target groups when they are asked for.

mod answer;
mod api_server;
pub(crate) mod cluster;
mod config;
mod connections;
mod kubeconfig;
mod labels;
mod objects;
mod record;
mod references;
mod refusal;
mod selector;
mod slot_set;
mod source;
mod table;
mod transport;
mod view;
mod watch;
mod watched;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use smol_str::SmolStr;

use self::api_server::own_namespace;
use self::cluster::ClusterGroups;
use self::objects::Resource;
use self::source::Collection;
use crate::mechanisms::mechanism::Shared;
use crate::{Discover, DiscoveryOptions, Error, Updates};

pub use self::api_server::KubernetesOptions;
pub use self::config::{
    KubernetesMetadata, KubernetesNamespaces, KubernetesRole, KubernetesSdConfig, KubernetesSelector,
};
pub use self::source::CollectionStatus;

/// The mechanism.
pub(crate) struct KubernetesDiscovery(Arc<ClusterGroups>);

impl KubernetesDiscovery {
    /// Begins at once, so that a mechanism that takes the place of another finds what both need still followed.
    pub(crate) fn new(
        config: &KubernetesSdConfig,
        options: &DiscoveryOptions,
        shared: &Shared,
    ) -> Result<Self, Error> {
        config.validate()?;
        let cluster = shared.clusters.get(config, options, &shared.counts)?;
        let mut namespaces: BTreeSet<SmolStr> = config.namespaces.names.iter().cloned().collect();
        if config.namespaces.own_namespace {
            namespaces.insert(own_namespace(&options.kubernetes)?.into());
        }
        // As in client-go, a name that is empty stands for all of them.
        if namespaces.contains("") {
            namespaces.clear();
        }
        let collections = collections(config, &namespaces);
        let groups = cluster.groups(config.role.resource(), config.attach_metadata, &collections);
        Ok(Self(Arc::new(groups)))
    }
}

impl Discover for KubernetesDiscovery {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        updates.keeps(self.0.clone());
        Box::pin(async move {
            loop {
                self.0.report().await.send(&updates);
            }
        })
    }
}

/// What has to be followed for a role.
fn collections(config: &KubernetesSdConfig, namespaces: &BTreeSet<SmolStr>) -> Vec<Collection> {
    let attach = config.attach_metadata;
    let everywhere = |resource: Resource| {
        let is_about = |role: KubernetesRole| role.resource() == resource;
        let selector = config.selectors.iter().find(|selector| selector.role.is_some_and(is_about));
        let selector = selector.cloned().unwrap_or_default();
        Collection {
            resource,
            namespace: None,
            label_selector: selector.label,
            field_selector: selector.field,
        }
    };
    let has_pods = matches!(
        config.role,
        KubernetesRole::Pod | KubernetesRole::Endpoints | KubernetesRole::EndpointSlice
    );
    let mut resources = vec![config.role.resource()];
    if has_pods && config.role != KubernetesRole::Pod {
        resources.extend([Resource::Services, Resource::Pods]);
    }
    if has_pods && attach.deployment {
        resources.push(Resource::ReplicaSets);
    }
    if has_pods && attach.cronjob {
        resources.push(Resource::Jobs);
    }
    let mut collections = Vec::new();
    for resource in resources {
        let all = everywhere(resource);
        if namespaces.is_empty() || resource == Resource::Nodes {
            collections.push(all);
            continue;
        }
        let of = |namespace: &SmolStr| Collection { namespace: Some(namespace.clone()), ..all.clone() };
        collections.extend(namespaces.iter().map(of));
    }
    if has_pods && attach.node {
        collections.push(everywhere(Resource::Nodes));
    }
    if attach.namespace && config.role != KubernetesRole::Node {
        collections.push(everywhere(Resource::Namespaces));
    }
    collections
}

impl KubernetesRole {
    fn resource(self) -> Resource {
        match self {
            Self::Node => Resource::Nodes,
            Self::Pod => Resource::Pods,
            Self::Service => Resource::Services,
            Self::Endpoints => Resource::Endpoints,
            Self::EndpointSlice => Resource::EndpointSlices,
            Self::Ingress => Resource::Ingresses,
        }
    }
}

impl Resource {
    /// The role whose targets these objects are; none if they only lend labels.
    fn role(self) -> Option<&'static str> {
        Some(match self {
            Self::Nodes => "node",
            Self::Pods => "pod",
            Self::Services => "service",
            Self::Endpoints => "endpoints",
            Self::EndpointSlices => "endpointslice",
            Self::Ingresses => "ingress",
            Self::Jobs | Self::Namespaces | Self::ReplicaSets => return None,
        })
    }
}
