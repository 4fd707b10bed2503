//! The collector and a Prometheus that have the same scrape configs, and what both have discovered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use promferry_bench::http_call;
use promferry_bench::prometheus_server::PrometheusServer;
use serde::Deserialize;
use tempfile::TempDir;

use crate::collector::Collector;

/// Labels that a target was discovered with.
pub(crate) type Labels = BTreeMap<String, String>;

/// Of each job what it discovered, the same target as often as it was.
pub(crate) type Targets = BTreeMap<String, Vec<Labels>>;

/// Both pass on what they discover after a second instead of five. The flag is one that Prometheus does not show.
const FLAGS: &[&str] = &["--scrape.discovery-reload-interval=1s", "--log.level=info"];

/// Both read what there is to discover in their own time, on a machine that may have better things to do.
const LIMIT: Duration = Duration::from_secs(300);

/// Targets that a failure shows of each side.
const SHOWN: usize = 4;

pub(crate) struct Beside {
    jobs: Vec<String>,
    pub(crate) ours: Collector,
    pub(crate) theirs: PrometheusServer,
    _folder: TempDir,
}

impl Beside {
    /// Starts both. Each job is a name and the rest of its scrape config in YAML's block form, indented by two; every
    /// target is dropped, so that nothing is scraped. `wrapped` is what a shell starts the programs with, such as
    /// `env A=b`.
    pub(crate) async fn start(prometheus: &Path, jobs: &[(&str, String)], wrapped: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = "scrape_configs:\n".to_owned();
        for (name, rest) in jobs {
            write!(
                config,
                "- job_name: {name}\n  relabel_configs: [{{source_labels: [__address__], action: drop}}]\n{rest}\n"
            )
            .unwrap();
        }
        let wrapper = folder.path().join("prometheus");
        let script = format!("#!/bin/sh\nexec {wrapped} {} \"$@\"\n", prometheus.display());
        std::fs::write(&wrapper, script).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&wrapper, executable).unwrap();
        let theirs = PrometheusServer::start(&wrapper, &config, FLAGS).await.unwrap();
        let script = format!("exec {wrapped} \"$@\"");
        let ours = Collector::start_with(folder.path(), &config, Some(&script), FLAGS);
        ours.until_ready().await;
        Self {
            jobs: jobs.iter().map(|(name, _)| (*name).to_owned()).collect(),
            ours,
            theirs,
            _folder: folder,
        }
    }

    /// Waits until both have discovered the same and it is what `is_wanted` takes, which says why it does not.
    pub(crate) async fn until_same(&self, what: &str, is_wanted: impl Fn(&Targets) -> Result<(), String>) {
        self.until_same_after(what, is_wanted, async || {}).await;
    }

    /// The same; `prompt` is called after each time in vain.
    pub(crate) async fn until_same_after(
        &self,
        what: &str,
        is_wanted: impl Fn(&Targets) -> Result<(), String>,
        prompt: impl AsyncFn(),
    ) {
        let start = Instant::now();
        loop {
            let (ours, theirs) = (self.ours().await, self.theirs().await);
            let difference = match difference(&ours, &theirs) {
                None => is_wanted(&ours).err(),
                Some(difference) => Some(difference),
            };
            let Some(difference) = difference else {
                let count: usize = ours.values().map(Vec::len).sum();
                eprintln!(
                    "{what}: {count} targets of {} jobs are the same after {:?}",
                    ours.len(),
                    start.elapsed()
                );
                return;
            };
            assert!(
                start.elapsed() < LIMIT,
                "{what}: not the same after {LIMIT:?}\n{difference}\n{}",
                self.ours.log().lines().rev().take(20).collect::<Vec<_>>().join("\n")
            );
            prompt().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub(crate) async fn ours(&self) -> Targets {
        self.read(async |path| self.ours.page(path, "*/*").await.map(|(_, _, body)| body)).await
    }

    pub(crate) async fn theirs(&self) -> Targets {
        let address = self.theirs.address();
        self.read(async |path| http_call::get(address, path).await.ok().map(|body| body.to_vec())).await
    }

    /// By job, so that no answer is large.
    async fn read(&self, get: impl AsyncFn(&str) -> Option<Vec<u8>>) -> Targets {
        let mut targets = Targets::new();
        for job in &self.jobs {
            let path = format!("/api/v1/targets?state=dropped&scrapePool={job}");
            let page = get(&path).await.unwrap_or_else(|| panic!("no answer to {path}"));
            let answer: Answer = serde_json::from_slice(&page).unwrap();
            let mut found: Vec<_> =
                answer.data.dropped_targets.into_iter().map(|target| target.discovered_labels).collect();
            found.sort_unstable();
            targets.insert(job.clone(), found);
        }
        targets
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    dropped_targets: Vec<Dropped>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dropped {
    discovered_labels: Labels,
}

/// Whether these jobs have targets of these addresses, and no others.
pub(crate) fn has<'a>(wanted: &'a [(&'a str, Vec<&'a str>)]) -> impl Fn(&Targets) -> Result<(), String> + 'a {
    move |targets| {
        for (job, wanted) in wanted {
            let found: BTreeSet<_> =
                targets[*job].iter().map(|labels| labels["__address__"].as_str()).collect();
            if found != wanted.iter().copied().collect() {
                return Err(format!("{job} has {found:?}, not {wanted:?}"));
            }
        }
        Ok(())
    }
}

/// What is not the same, job by job: `-` is theirs alone, `+` ours.
fn difference(ours: &Targets, theirs: &Targets) -> Option<String> {
    let mut text = String::new();
    for (job, ours) in ours {
        let theirs = theirs.get(job).map(Vec::as_slice).unwrap_or_default();
        if ours == theirs {
            continue;
        }
        let (only_ours, only_theirs) = (less(ours, theirs), less(theirs, ours));
        writeln!(
            text,
            "{job}: {} of theirs are not ours, {} of ours not theirs; {} are the same",
            only_theirs.len(),
            only_ours.len(),
            ours.len() - only_ours.len()
        )
        .unwrap();
        for labels in only_theirs.iter().take(SHOWN) {
            let alike = only_ours.iter().min_by_key(|other| apart(labels, other).count());
            match alike {
                Some(alike) if apart(labels, alike).count() < labels.len() => {
                    writeln!(text, "  ~ {}", name(labels)).unwrap();
                    for label in apart(labels, alike).take(12) {
                        writeln!(
                            text,
                            "    {label}: theirs {:?}, ours {:?}",
                            labels.get(label),
                            alike.get(label)
                        )
                        .unwrap();
                    }
                }
                _ => writeln!(text, "  - {labels:?}").unwrap(),
            }
        }
        for labels in only_ours.iter().take(SHOWN).filter(|_| only_theirs.is_empty()) {
            writeln!(text, "  + {labels:?}").unwrap();
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The multiset `a` without those of `b`.
fn less<'a>(a: &'a [Labels], b: &[Labels]) -> Vec<&'a Labels> {
    let mut rest: BTreeMap<&Labels, usize> = BTreeMap::new();
    for labels in b {
        *rest.entry(labels).or_default() += 1;
    }
    a.iter()
        .filter(|labels| match rest.get_mut(labels) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        })
        .collect()
}

/// The names of labels that are not the same.
fn apart<'a>(a: &'a Labels, b: &'a Labels) -> impl Iterator<Item = &'a String> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(move |name| a.get(*name) != b.get(*name))
}

/// What tells a reader which object a target is of.
fn name(labels: &Labels) -> String {
    let told = labels.iter().filter(|(name, _)| name.ends_with("_name") && !name.contains("port_name"));
    let told: Vec<_> = told.map(|(_, value)| value.as_str()).collect();
    format!("{} {}", labels.get("__address__").map_or("", |address| address), told.join(" "))
}
