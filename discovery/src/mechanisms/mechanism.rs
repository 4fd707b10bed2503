use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::counts::Counts;
use crate::{Discover, DiscoveryConfigs, DiscoveryOptions, Error};

/// One configured mechanism. Those that are equal are run once, for all jobs that ask for them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mechanism {
    #[cfg(feature = "static")]
    Static(Vec<crate::StaticConfig>),
    #[cfg(feature = "file")]
    File(crate::FileSdConfig),
    #[cfg(feature = "http")]
    Http(Box<crate::HttpSdConfig>),
    #[cfg(feature = "dns")]
    Dns(crate::DnsSdConfig),
    #[cfg(feature = "kubernetes")]
    Kubernetes(Box<crate::KubernetesSdConfig>),
    Custom(CustomMechanism),
}

/// A mechanism of the embedding program's own, to run beside those of this crate.
///
/// It is the same mechanism as another one only if it is a clone of it.
///
/// ```
/// use promferry_discovery::{CustomMechanism, Discover, Discovery, DiscoveryConfigs, DiscoveryOptions, Updates};
/// use promferry_model::{Labels, TargetGroup};
/// # use std::{future::Future, pin::Pin};
///
/// struct Myself;
///
/// impl Discover for Myself {
///     fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
///         let targets = vec![Labels::from_pairs([("__address__", "localhost:9090")])];
///         updates.replace(vec![TargetGroup { source: "myself".into(), targets, ..TargetGroup::default() }]);
///         updates.succeeded();
///         Box::pin(std::future::ready(()))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut configs = DiscoveryConfigs::default();
/// configs.custom.push(CustomMechanism::new("myself", "this process", || Box::new(Myself)));
/// let (discovery, mut changes) = Discovery::new(DiscoveryOptions::default());
/// discovery.apply([("collector".into(), configs)]);
/// assert_eq!(changes.next().await[0].source, "myself");
/// # });
/// ```
#[derive(Clone)]
pub struct CustomMechanism {
    name: &'static str,
    subject: String,
    build: Arc<dyn Fn() -> Box<dyn Discover> + Send + Sync>,
}

impl CustomMechanism {
    /// A mechanism called `name` that looks at `subject` (both for a reader) and is made by `build`, again after a panic.
    pub fn new(
        name: &'static str,
        subject: impl Into<String>,
        build: impl Fn() -> Box<dyn Discover> + Send + Sync + 'static,
    ) -> Self {
        Self { name, subject: subject.into(), build: Arc::new(build) }
    }
}

impl PartialEq for CustomMechanism {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.build, &other.build)
    }
}

impl fmt::Debug for CustomMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomMechanism")
            .field("name", &self.name)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// What mechanisms of one [`Discovery`](crate::Discovery) share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) counts: Arc<Counts>,
    #[cfg(feature = "kubernetes")]
    pub(crate) clusters: super::kubernetes::cluster::Clusters,
}

impl Mechanism {
    /// The mechanisms that a job asks for. All its static configurations are one.
    pub(crate) fn of(configs: DiscoveryConfigs) -> Vec<Self> {
        let mut mechanisms = Vec::new();
        #[cfg(feature = "static")]
        if !configs.static_configs.is_empty() {
            mechanisms.push(Self::Static(configs.static_configs));
        }
        #[cfg(feature = "file")]
        mechanisms.extend(configs.file_sd_configs.into_iter().map(Self::File));
        #[cfg(feature = "http")]
        mechanisms.extend(configs.http_sd_configs.into_iter().map(|config| Self::Http(Box::new(config))));
        #[cfg(feature = "dns")]
        mechanisms.extend(configs.dns_sd_configs.into_iter().map(Self::Dns));
        #[cfg(feature = "kubernetes")]
        mechanisms.extend(
            configs.kubernetes_sd_configs.into_iter().map(|config| Self::Kubernetes(Box::new(config))),
        );
        mechanisms.extend(configs.custom.into_iter().map(Self::Custom));
        mechanisms
    }

    pub(crate) fn build(
        &self,
        options: &DiscoveryOptions,
        shared: &Shared,
    ) -> Result<Box<dyn Discover>, Error> {
        // Unused where no feature is on.
        let _ = (options, shared);
        match *self {
            #[cfg(feature = "static")]
            Self::Static(ref configs) => Ok(Box::new(super::static_targets::StaticTargets(configs.clone()))),
            #[cfg(feature = "file")]
            Self::File(ref config) => {
                Ok(Box::new(super::file::FileDiscovery::new(config, options.file_poll_interval)?))
            }
            #[cfg(feature = "http")]
            Self::Http(ref config) => Ok(Box::new(super::http::HttpDiscovery::new(config, &options.http)?)),
            #[cfg(feature = "dns")]
            Self::Dns(ref config) => Ok(Box::new(super::dns::DnsDiscovery::new(config, &options.dns)?)),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(ref config) => {
                Ok(Box::new(super::kubernetes::KubernetesDiscovery::new(config, options, shared)?))
            }
            Self::Custom(ref custom) => Ok((custom.build)()),
        }
    }

    /// Prometheus' name of the mechanism, as in the label `mechanism` of its metrics.
    pub(crate) fn name(&self) -> &'static str {
        match *self {
            #[cfg(feature = "static")]
            Self::Static(_) => "static",
            #[cfg(feature = "file")]
            Self::File(_) => "file",
            #[cfg(feature = "http")]
            Self::Http(_) => "http",
            #[cfg(feature = "dns")]
            Self::Dns(_) => "dns",
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(_) => "kubernetes",
            Self::Custom(ref custom) => custom.name,
        }
    }

    /// What tells it from others of its kind, for a reader.
    pub(crate) fn subject(&self) -> String {
        match *self {
            #[cfg(feature = "static")]
            Self::Static(_) => String::new(),
            #[cfg(feature = "file")]
            Self::File(ref config) => {
                let files: Vec<_> = config.files.iter().map(|path| path.display().to_string()).collect();
                files.join(", ")
            }
            #[cfg(feature = "http")]
            Self::Http(ref config) => super::url::without_secrets(config.url.expose()),
            #[cfg(feature = "dns")]
            Self::Dns(ref config) => config.names.join(", "),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(ref config) => config.subject(),
            Self::Custom(ref custom) => custom.subject.clone(),
        }
    }
}

/// The pause before what failed is begun anew: 1 s, 2 s, 4 s, … up to a minute.
pub(crate) fn restart_pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(6)).min(Duration::from_secs(60))
}
