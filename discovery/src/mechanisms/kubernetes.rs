//! `kubernetes_sd_configs`: targets that a Kubernetes API server knows.
//!
//! `source` says what objects there are (over HTTP: `watch`), `store` keeps them and knows whose targets change with
//! which of them, `labels` makes target groups of them.

mod api_server;
mod config;
mod kubeconfig;
mod labels;
mod objects;
mod selector;
mod source;
mod store;
mod watch;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use smol_str::SmolStr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::api_server::{ApiServer, own_namespace};
use self::objects::Resource;
use self::source::{Collection, CollectionEvents, ObjectSource};
use self::store::Store;
use self::watch::ApiServerSource;
use crate::{Discover, DiscoveryOptions, Error, Updates};

pub use self::api_server::KubernetesOptions;
pub use self::config::{
    KubernetesMetadata, KubernetesNamespaces, KubernetesRole, KubernetesSdConfig, KubernetesSelector,
};

/// Events that are taken in before groups are built of them.
const BATCH_EVENTS: usize = 1024;

/// The mechanism.
pub(crate) struct KubernetesDiscovery {
    source: Box<dyn ObjectSource>,
    targets: Resource,
    attach: KubernetesMetadata,
    collections: Vec<Collection>,
}

impl KubernetesDiscovery {
    pub(crate) fn new(config: &KubernetesSdConfig, options: &DiscoveryOptions) -> Result<Self, Error> {
        config.validate()?;
        let server = ApiServer::new(config, &options.kubernetes, &options.http)?;
        let mut namespaces: BTreeSet<SmolStr> = config.namespaces.names.iter().cloned().collect();
        if config.namespaces.own_namespace {
            namespaces.insert(own_namespace(&options.kubernetes)?.into());
        }
        // As in client-go, a name that is empty stands for all of them.
        if namespaces.contains("") {
            namespaces.clear();
        }
        let collections = collections(config, &namespaces);
        let source = Box::new(ApiServerSource { server, options: options.kubernetes.clone() });
        Ok(Self { source, targets: config.role.resource(), attach: config.attach_metadata, collections })
    }
}

impl Discover for KubernetesDiscovery {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (sender, mut events) = mpsc::channel(BATCH_EVENTS);
        Box::pin(async move {
            let mut followers = JoinSet::new();
            for (index, collection) in self.collections.iter().enumerate() {
                let events = CollectionEvents::new(index, sender.clone());
                followers.spawn(self.source.follow(collection.clone(), events));
            }
            let mut store = Store::new(self.targets, self.attach, &self.collections);
            let mut batch = Vec::new();
            loop {
                tokio::select! {
                    _ = events.recv_many(&mut batch, BATCH_EVENTS) => {
                        for (index, event) in batch.drain(..) {
                            store.apply(index, event, &updates);
                        }
                        store.publish(&updates);
                    }
                    // None of them returns; one that panics takes this task along, which is begun anew.
                    Some(Err(error)) = followers.join_next() => {
                        if let Ok(panic) = error.try_into_panic() {
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
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
