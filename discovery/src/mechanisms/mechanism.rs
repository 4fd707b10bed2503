use std::fmt;
use std::time::Duration;

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
        mechanisms
    }

    pub(crate) fn build(&self, options: &DiscoveryOptions) -> Result<Box<dyn Discover>, Error> {
        let _ = options;
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
            Self::Http(ref config) => super::http::without_password(config.url.expose()),
            #[cfg(feature = "dns")]
            Self::Dns(ref config) => config.names.join(", "),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.subject())
    }
}

/// The pause before what failed is begun anew: 1 s, 2 s, 4 s, … up to a minute.
pub(crate) fn restart_pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(6)).min(Duration::from_secs(60))
}
