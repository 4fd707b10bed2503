//! `dns_sd_configs`: targets that the DNS knows.

use std::fmt;
use std::future::Future;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ServerOrderingStrategy};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use promferry_model::{Labels, PromDuration, TargetGroup, label};
use serde::{Deserialize, Deserializer};
use tokio::task::JoinSet;

use super::refresh;
use crate::config::{ConfigError, null_is_default, validate_interval};
use crate::{Discover, Error, Updates};

/// One of the `dns_sd_configs`: names whose records are targets.
///
/// Follows `discovery/dns/dns.go` of Prometheus 3.16.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DnsSdConfig {
    /// The names to look up.
    #[serde(default, deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// The time between two lookups. 30 s by default.
    #[serde(default = "default_interval", deserialize_with = "interval_or_default")]
    pub refresh_interval: PromDuration,
    /// The kind of record: `SRV` (the default), `A`, `AAAA`, `MX` or `NS`, in any case.
    #[serde(default = "default_type", deserialize_with = "null_is_default", rename = "type")]
    pub record_type: String,
    /// The targets' port; required for all kinds but SRV, whose records have one.
    #[serde(default, deserialize_with = "null_is_default")]
    pub port: u16,
}

impl DnsSdConfig {
    /// The SRV records of these names.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
            refresh_interval: default_interval(),
            record_type: default_type(),
            port: 0,
        }
    }

    /// # Errors
    /// No name, an unknown kind, a missing port, an interval of zero, or a name that is none.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.names.is_empty() {
            return Err(ConfigError::new(&["names"], "at least one name is needed"));
        }
        let kind = self.kind().ok_or_else(|| {
            let message = format!("{:?} is none of SRV, A, AAAA, MX and NS", self.record_type);
            ConfigError::new(&["type"], message)
        })?;
        if kind != RecordType::SRV && self.port == 0 {
            let message = format!("a port is needed for the type {kind}: only SRV records have one");
            return Err(ConfigError::new(&["port"], message));
        }
        for (index, name) in self.names.iter().enumerate() {
            if parse_name(name).is_none() {
                let message = format!("{name:?} is not a name that the DNS can have");
                return Err(ConfigError::new(&["names", &index.to_string()], message));
            }
        }
        validate_interval(self.refresh_interval)?;
        Ok(())
    }

    fn kind(&self) -> Option<RecordType> {
        Some(match self.record_type.to_ascii_uppercase().as_str() {
            "SRV" => RecordType::SRV,
            "A" => RecordType::A,
            "AAAA" => RecordType::AAAA,
            "MX" => RecordType::MX,
            "NS" => RecordType::NS,
            _ => return None,
        })
    }
}

/// Without a value it would be zero in Go, on which Prometheus ends with a panic.
fn interval_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PromDuration, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_interval))
}

fn default_interval() -> PromDuration {
    PromDuration::from_secs(30)
}

fn default_type() -> String {
    "SRV".to_owned()
}

/// Where lookups go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsServers {
    /// The file that names the servers, the search list and `ndots` (resolv.conf(5)); read again when it changes.
    pub resolv_conf: PathBuf,
    /// The servers' port, over UDP and TCP.
    pub port: u16,
}

impl Default for DnsServers {
    fn default() -> Self {
        Self { resolv_conf: PathBuf::from("/etc/resolv.conf"), port: 53 }
    }
}

/// The mechanism.
#[derive(Debug)]
pub(crate) struct DnsDiscovery {
    names: Vec<String>,
    kind: RecordType,
    port: u16,
    interval: Duration,
    resolver: ResolverSource,
}

impl DnsDiscovery {
    pub(crate) fn new(config: &DnsSdConfig, servers: &DnsServers) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self {
            names: config.names.clone(),
            kind: config.kind().unwrap_or(RecordType::SRV),
            port: config.port,
            interval: config.refresh_interval.as_std(),
            resolver: ResolverSource { servers: servers.clone(), built: Mutex::new(None) },
        })
    }

    /// Looks up all names at once. The group of a name whose lookup fails stays as it is.
    async fn refresh(&self, updates: &Updates) -> Result<(), String> {
        let resolver = self.resolver.get()?;
        let mut lookups = JoinSet::new();
        for name in self.names.clone() {
            let (resolver, kind, port) = (resolver.clone(), self.kind, self.port);
            lookups.spawn(async move {
                let found = lookup(&resolver, &name, kind).await;
                found
                    .map(|records| group(&name, &records, port))
                    .map_err(|reason| format!("{name}: {reason}"))
            });
        }
        let (mut groups, mut failures) = (Vec::new(), Vec::new());
        while let Some(finished) = lookups.join_next().await {
            match finished {
                Ok(Ok(group)) => groups.push(group),
                Ok(Err(reason)) => failures.push(reason),
                Err(error) => failures.push(error.to_string()),
            }
        }
        updates.counts().change(|counts| {
            counts.dns_lookups_total += (groups.len() + failures.len()) as u64;
            counts.dns_lookup_failures_total += failures.len() as u64;
        });
        // A name that nobody could tell anything about says nothing, not even that there is nothing.
        if !groups.is_empty() {
            updates.change(groups, Vec::new());
        }
        failures.sort_unstable();
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }
}

impl Discover for DnsDiscovery {
    fn run(self: Box<Self>, updates: Updates) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let (this, updates) = (&self, &updates);
            refresh::run(this.interval, || async move {
                match this.refresh(updates).await {
                    Ok(()) => {
                        updates.succeeded();
                        true
                    }
                    Err(reason) => {
                        updates.failed(&reason);
                        false
                    }
                }
            })
            .await;
        })
    }
}

struct ResolverSource {
    servers: DnsServers,
    built: Mutex<Option<(Vec<u8>, Arc<Search>)>>,
}

/// A resolver and the order in which names are completed.
struct Search {
    resolver: TokioResolver,
    suffixes: Vec<Name>,
    ndots: usize,
}

impl ResolverSource {
    fn get(&self) -> Result<Arc<Search>, String> {
        let path = self.servers.resolv_conf.display();
        let content = std::fs::read(&self.servers.resolv_conf)
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, search)) = &*built
            && *from == content
        {
            return Ok(search.clone());
        }
        let search = Search::new(&content, self.servers.port)
            .map_err(|error| format!("cannot use {path}: {error}"))?;
        let search = Arc::new(search);
        *built = Some((content, search.clone()));
        Ok(search)
    }
}

impl fmt::Debug for ResolverSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.servers.fmt(f)
    }
}

impl Search {
    fn new(resolv_conf: &[u8], port: u16) -> Result<Self, NetError> {
        let (mut config, mut options) = parse_resolv_conf(resolv_conf)?;
        let suffixes = config.search.clone();
        let ndots = options.ndots;
        for server in &mut config.name_servers {
            // "No such name" by one server is an answer; Prometheus asks no other one then.
            server.trust_negative_responses = true;
            for connection in &mut server.connections {
                connection.port = port;
            }
        }
        // Names are completed here, in Prometheus' order, and answers are as fresh as the refresh interval says.
        config.domain = None;
        config.search = Vec::new();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.num_concurrent_reqs = 1;
        options.edns0 = true;
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()?;
        Ok(Self { resolver, suffixes, ndots })
    }

    /// The names that stand for `name`, in order: it is tried as it is first if it has `ndots` dots, else last.
    fn candidates(&self, name: &str) -> Vec<Name> {
        let Some(mut as_is) = parse_name(name) else {
            return Vec::new();
        };
        if as_is.is_fqdn() {
            return vec![as_is];
        }
        let is_first = name.matches('.').count() >= self.ndots;
        let completed = self.suffixes.iter().filter_map(|suffix| as_is.clone().append_domain(suffix).ok());
        let mut candidates: Vec<_> = completed.collect();
        as_is.set_fqdn(true);
        candidates.insert(if is_first { 0 } else { candidates.len() }, as_is);
        candidates
    }
}

/// Names of the DNS may hold anything; `_http._tcp` does.
fn parse_name(name: &str) -> Option<Name> {
    if name.is_empty() {
        return None;
    }
    if name.is_ascii() { Name::from_ascii(name).ok() } else { Name::from_str(name).ok() }
}

/// The records of the first candidate that exists. None if the servers agree that none does; an error if one of them
/// could not say.
async fn lookup(search: &Search, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
    let mut doubt = None;
    for candidate in search.candidates(name) {
        match search.resolver.lookup(candidate.clone(), kind).await {
            Ok(found) => return Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NoError =>
            {
                return Ok(Vec::new());
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if none.response_code == ResponseCode::NXDomain => {}
            Err(error) => {
                doubt = Some(format!("no server gave an answer for {candidate}: {}", plain(&error)))
            }
        }
    }
    doubt.map_or(Ok(Vec::new()), Err)
}

fn plain(error: &NetError) -> String {
    match error {
        NetError::Timeout => "none answered in time".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the answer was {code}"),
        NetError::Dns(DnsError::NoRecordsFound(none)) => format!("the answer was {}", none.response_code),
        other => other.to_string(),
    }
}

fn group(name: &str, records: &[RData], port: u16) -> TargetGroup {
    let mut targets = Vec::with_capacity(records.len());
    let trimmed = |host: &Name| host.to_ascii().trim_end_matches('.').to_owned();
    let common = |host: &str, port: u16| {
        let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
        vec![label("__address__", format!("{host}:{port}")), label("__meta_dns_name", name)]
    };
    for record in records {
        let labels = match record {
            RData::A(address) => common(&address.to_string(), port),
            // As Go writes addresses.
            RData::AAAA(address) => match address.to_ipv4_mapped() {
                Some(address) => common(&address.to_string(), port),
                None => common(&address.to_string(), port),
            },
            RData::SRV(srv) => {
                let mut labels = common(&trimmed(&srv.target), srv.port);
                labels.push(label("__meta_dns_srv_record_target", srv.target.to_ascii()));
                labels.push(label("__meta_dns_srv_record_port", srv.port.to_string()));
                labels
            }
            RData::MX(mx) => {
                let mut labels = common(&trimmed(&mx.exchange), port);
                labels.push(label("__meta_dns_mx_record_target", mx.exchange.to_ascii()));
                labels
            }
            RData::NS(ns) => {
                let mut labels = common(&trimmed(&ns.0), port);
                labels.push(label("__meta_dns_ns_record_target", ns.0.to_ascii()));
                labels
            }
            // The CNAMEs on the way to the records.
            _ => continue,
        };
        targets.push(labels.into_iter().map(|label| (label.name, label.value)).collect());
    }
    TargetGroup { source: name.into(), labels: Labels::default(), targets }
}
