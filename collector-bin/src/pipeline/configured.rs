//! The jobs and endpoints of a configuration, made ready; and what differs from one configuration to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use promferry_config::Config;
use promferry_discovery::DiscoveryConfigs;
use promferry_http_client::HttpOptions;
use promferry_model::Labels;
use promferry_remote_write::{Endpoint, EndpointChange};
use promferry_scrape::Job;
use promferry_sigv4_auth::Environment;

use super::endpoint::endpoint;
use super::{StartError, Transports};
use crate::signing::Signing;

/// What jobs and endpoints are made ready with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) http: HttpOptions,
    pub(super) extra_scrape_metrics: bool,
    pub(super) environment: Environment,
    pub(super) transports: Option<Transports>,
}

impl Means {
    fn endpoint(
        &self,
        config: &promferry_config::Endpoint,
    ) -> Result<(Endpoint, Option<Signing>), StartError> {
        let (mut endpoint, signing) = endpoint(config, &self.http, &self.environment)?;
        if let Some(Transports(of)) = &self.transports {
            let transport = of(&endpoint.config.key());
            endpoint = Endpoint { transport, explain_denial: None, describe_body: None, ..endpoint };
        }
        Ok((endpoint, signing))
    }
}

/// What a configuration asks for, made ready.
#[derive(Default)]
pub(super) struct Configured {
    pub(super) external_labels: Labels,
    pub(super) jobs: Vec<ReadyJob>,
    pub(super) endpoints: Vec<ReadyEndpoint>,
}

/// A job with where its targets come from.
pub(super) struct ReadyJob {
    pub(super) job: Job,
    pub(super) discovery: DiscoveryConfigs,
}

/// An endpoint with as whom its requests are signed.
pub(super) struct ReadyEndpoint {
    pub(super) config: promferry_config::Endpoint,
    pub(super) signing: Option<Signing>,
}

impl Configured {
    /// Makes ready what `config` asks for; with it, what is to become of each endpoint. What `before` has of it stays
    /// as it is: a file that can't be read any more is no reason to refuse what did not change, and connections live
    /// on.
    pub(super) fn new(
        config: &Config,
        before: &Self,
        means: &Means,
    ) -> Result<(Self, Vec<EndpointChange>), StartError> {
        let jobs = config.jobs.iter().map(|job| {
            let mut scrape = job.scrape.clone();
            scrape.extra_scrape_metrics.get_or_insert(means.extra_scrape_metrics);
            let known = before.jobs.iter().find(|known| *known.job.config() == scrape);
            let ready = match known {
                Some(known) => known.job.clone(),
                None => Job::new(scrape, Vec::new(), means.http.clone())?,
            };
            Ok::<_, StartError>(ReadyJob { job: ready, discovery: job.discovery.clone() })
        });
        let jobs = jobs.collect::<Result<_, _>>()?;
        let (mut endpoints, mut changes) = (Vec::new(), Vec::new());
        for config in &config.remote_write {
            let (change, signing) =
                match before.endpoints.iter().find(|known| travels_alike(&known.config, config)) {
                    Some(known) => {
                        (EndpointChange::SameTransport(config.write.clone()), known.signing.clone())
                    }
                    None => {
                        let (endpoint, signing) = means.endpoint(config)?;
                        (EndpointChange::Anew(endpoint), signing)
                    }
                };
            endpoints.push(ReadyEndpoint { config: config.clone(), signing });
            changes.push(change);
        }
        let external_labels = config.global.external_labels.clone();
        Ok((Self { external_labels, jobs, endpoints }, changes))
    }

    pub(super) fn jobs(&self) -> Vec<Job> {
        self.jobs.iter().map(|ready| ready.job.clone()).collect()
    }

    /// By the jobs' names.
    pub(super) fn discovery(&self) -> impl Iterator<Item = (&str, DiscoveryConfigs)> {
        self.jobs.iter().map(|ready| (ready.name(), ready.discovery.clone()))
    }

    pub(super) fn signing(&self) -> Vec<Signing> {
        self.endpoints.iter().filter_map(|ready| ready.signing.clone()).collect()
    }

    pub(super) fn differences(&self, before: &Self) -> Reloaded {
        Reloaded {
            jobs: Differences::between(
                &before.jobs,
                &self.jobs,
                |ready| ready.name().to_owned(),
                |a, b| a.job.config() == b.job.config() && a.discovery == b.discovery,
            ),
            endpoints: Differences::between(
                &before.endpoints,
                &self.endpoints,
                |ready| ready.config.write.key(),
                |a, b| a.config == b.config,
            ),
            external_labels: self.external_labels != before.external_labels,
        }
    }
}

impl ReadyJob {
    fn name(&self) -> &str {
        &self.job.config().job_name
    }
}

/// Whether requests of one endpoint may go the way of the other's. Signing depends on the URL, and waits for
/// credentials less than an attempt may take.
fn travels_alike(a: &promferry_config::Endpoint, b: &promferry_config::Endpoint) -> bool {
    let signed_alike = a.write.url == b.write.url && a.write.remote_timeout == b.write.remote_timeout;
    a.write.key() == b.write.key()
        && a.http == b.http
        && a.sigv4 == b.sigv4
        && (a.sigv4.is_none() || signed_alike)
}

/// What a new configuration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Jobs, by their names.
    pub jobs: Differences,
    /// Endpoints, by their names, else their URLs.
    pub endpoints: Differences,
    /// Whether `global.external_labels` are others than before.
    pub external_labels: bool,
}

impl Reloaded {
    /// Whether nothing differs from what ran before.
    pub fn is_nothing(&self) -> bool {
        !self.external_labels && self.jobs.is_nothing() && self.endpoints.is_nothing()
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "jobs {}; endpoints {}", self.jobs, self.endpoints)?;
        if self.external_labels { f.write_str("; other external labels") } else { Ok(()) }
    }
}

/// What became of things that have names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Differences {
    /// Those that were not there before.
    pub added: Vec<String>,
    /// Those that are configured otherwise than before.
    pub changed: Vec<String>,
    /// Those that are there no more.
    pub removed: Vec<String>,
    /// How many stay as they were.
    pub unchanged: usize,
}

/// Of each kind so many are named.
const NAMED: usize = 10;

impl Differences {
    fn between<T>(
        before: &[T],
        after: &[T],
        name: impl Fn(&T) -> String,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> Self {
        let known: BTreeMap<_, _> = before.iter().map(|one| (name(one), one)).collect();
        let mut differences = Self::default();
        let mut names = BTreeSet::new();
        for now in after {
            let name = name(now);
            match known.get(&name) {
                None => differences.added.push(name.clone()),
                Some(then) if is_same(then, now) => differences.unchanged += 1,
                Some(_) => differences.changed.push(name.clone()),
            }
            names.insert(name);
        }
        differences.removed = before.iter().map(name).filter(|name| !names.contains(name)).collect();
        differences
    }

    /// Whether all stay as they were.
    pub fn is_nothing(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// `+api ~web −old, 38 unchanged`.
impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nothing() {
            return f.write_str("unchanged");
        }
        let mut is_first = true;
        for (sign, names) in [('+', &self.added), ('~', &self.changed), ('−', &self.removed)] {
            for name in names.iter().take(NAMED) {
                let space = if std::mem::take(&mut is_first) { "" } else { " " };
                write!(f, "{space}{sign}{name}")?;
            }
            if let more @ 1.. = names.len().saturating_sub(NAMED) {
                write!(f, " and {sign}{more} more")?;
            }
        }
        if self.unchanged > 0 { write!(f, ", {} unchanged", self.unchanged) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use promferry_config::NoFiles;

    use super::*;

    fn configured(text: &str, before: &Configured) -> Result<Configured, StartError> {
        let config =
            Config::from_prometheus("prometheus.yml".as_ref(), text, &NoFiles, &|_: &str| None).unwrap();
        let environment = Environment::from_pairs::<&str, &str>([]);
        let means = Means {
            http: HttpOptions::default(),
            extra_scrape_metrics: false,
            environment,
            transports: None,
        };
        Ok(Configured::new(&config, before, &means)?.0)
    }

    #[tokio::test]
    async fn what_differs_is_named() {
        let before = "
global: {external_labels: {a: b}}
scrape_configs: [{job_name: old}, {job_name: web}, {job_name: found}, {job_name: same}]
remote_write: [{url: 'http://a/', name: a}, {url: 'http://b/'}]
";
        let before = configured(before, &Configured::default()).unwrap();
        let after = "
global: {external_labels: {a: b}}
scrape_configs:
- {job_name: web, scrape_interval: 5s}
- {job_name: same}
- {job_name: found, static_configs: [{targets: ['a:1']}]}
- {job_name: api}
remote_write: [{url: 'http://c/', name: a}, {url: 'http://b/'}]
";
        let after = configured(after, &before).unwrap();
        assert!(before.differences(&before).is_nothing());
        let reloaded = after.differences(&before);
        assert_eq!(
            reloaded.to_string(),
            "jobs +api ~web ~found −old, 1 unchanged; endpoints ~a, 1 unchanged"
        );
        let labels = configured("global: {external_labels: {a: c}}", &before).unwrap().differences(&before);
        assert_eq!(
            labels.to_string(),
            "jobs −old −web −found −same; endpoints −a −http://b/; other external labels"
        );
        let jobs: Vec<_> = (0..12).map(|n| format!("{{job_name: j{n}}}")).collect();
        let many = configured(&format!("scrape_configs: [{}]", jobs.join(", ")), &Configured::default());
        let many = many.unwrap().differences(&Configured::default());
        assert!(many.to_string().starts_with("jobs +j0 +j1 +j2"), "{many}");
        assert!(many.to_string().ends_with("+j9 and +2 more; endpoints unchanged"), "{many}");
    }

    #[tokio::test]
    async fn a_global_interval_changes_the_jobs_that_have_none_of_their_own() {
        let of = |interval: &str| {
            format!(
                "global: {{scrape_interval: {interval}}}\n\
                 scrape_configs: [{{job_name: a}}, {{job_name: b, scrape_interval: 30s, scrape_timeout: 10s}}]"
            )
        };
        let before = configured(&of("15s"), &Configured::default()).unwrap();
        let reloaded = configured(&of("20s"), &before).unwrap().differences(&before);
        assert_eq!(reloaded.to_string(), "jobs ~a, 1 unchanged; endpoints unchanged");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_stops_only_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        std::fs::write(&ca, certificate.pem()).unwrap();
        let job = |name: &str| format!("{{job_name: {name}, tls_config: {{ca_file: {}}}}}", ca.display());
        let of = |jobs: &str| format!("scrape_configs: [{jobs}, {{job_name: plain}}]");
        let before = configured(&of(&job("a")), &Configured::default()).unwrap();
        std::fs::remove_file(&ca).unwrap();
        assert!(configured(&of(&job("a")), &before).is_ok());
        let error = configured(&of(&job("b")), &before).err().unwrap().to_string();
        assert!(error.contains("job \"b\"") && error.contains("ca.pem"), "{error}");
    }
}
