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
use std::sync::{Arc, Mutex, PoisonError};

use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::api_server::{ApiServer, own_namespace};
use self::objects::Resource;
use self::source::Collection;
use self::store::Store;
use self::watch::ApiServerSource;
use crate::{Discover, DiscoveryOptions, Error, Updates};

pub use self::api_server::KubernetesOptions;
pub use self::config::{
    KubernetesMetadata, KubernetesNamespaces, KubernetesRole, KubernetesSdConfig, KubernetesSelector,
};
pub use self::source::CollectionStatus;

/// The mechanism.
pub(crate) struct KubernetesDiscovery {
    source: ApiServerSource,
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
        let source = ApiServerSource::new(server, options.kubernetes.clone());
        Ok(Self { source, targets: config.role.resource(), attach: config.attach_metadata, collections })
    }
}

impl Discover for KubernetesDiscovery {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let store = Arc::new(Mutex::new(Store::new(self.targets, self.attach, &self.collections)));
            let news = Arc::new(Notify::new());
            let mut followers = JoinSet::new();
            for (index, collection) in self.collections.iter().enumerate() {
                let status = Arc::new(Mutex::new(CollectionStatus::new(collection)));
                let (store, news, updates) = (store.clone(), news.clone(), updates.clone());
                let apply = move |event| {
                    store.lock().unwrap_or_else(PoisonError::into_inner).apply(index, event, &updates);
                    news.notify_one();
                };
                followers.spawn(self.source.follow(collection.clone(), status, apply));
            }
            loop {
                tokio::select! {
                    () = news.notified() => {
                        store.lock().unwrap_or_else(PoisonError::into_inner).publish(&updates);
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
