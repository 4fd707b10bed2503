//! A job made ready: rules compiled, stages in order, requests prepared.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use http::HeaderValue;
use promferry_exposition::{ParseOptions, accept_header};
use promferry_http_client::{Http, HttpOptions};
use promferry_model::{Labels, LabelsBuilder, Stage, TargetGroup};
use promferry_relabel::RelabelRules;
use smol_str::SmolStr;

use crate::histogram::HistogramLimits;
use crate::target::gateway::apply_rule;
use crate::{
    ConfigError, DroppedBy, LabelLimits, ScrapeConfig, Target, TargetError, TargetLabels, ValidNames,
    discovered_labels,
};

/// A [`ScrapeConfig`] made ready to scrape.
#[derive(Clone)]
pub struct Job {
    pub(crate) config: ScrapeConfig,
    pub(crate) name: SmolStr,
    pub(crate) http: Http,
    pub(crate) accept: HeaderValue,
    pub(crate) histogram_limits: HistogramLimits,
    relabel: RelabelRules,
    stages: Vec<Arc<dyn Stage>>,
    dialect: Vec<Arc<dyn Stage>>,
}

/// What becomes of a discovered target.
pub(crate) enum Judgement {
    Active(Target),
    /// The position of the rule that drops it.
    DroppedBy(usize),
    Invalid(TargetError),
}

/// Why a job cannot be made ready.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A rule of the options is broken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The options of `http_config` cannot be used.
    #[error("job {job:?}: {error}")]
    Http {
        /// The job's name.
        job: String,
        /// What is wrong.
        error: promferry_http_client::Error,
    },
}

impl Job {
    /// Makes `config` ready. Its defaults have been [applied](ScrapeConfig::apply_defaults); it is validated
    /// here. `dialect` are stages that run after metric relabelling and before limits; empty for Prometheus'
    /// own meaning.
    ///
    /// # Errors
    /// [`JobError`] names the key or the file that is wrong.
    pub fn new(
        config: ScrapeConfig,
        dialect: Vec<Arc<dyn Stage>>,
        http: HttpOptions,
    ) -> Result<Self, JobError> {
        config.validate()?;
        let validation = config.name_validation();
        let compile = |name: &str, rules| {
            RelabelRules::compile_named(name, rules, validation)
                .map_err(|error| ConfigError::from(error).within(name))
        };
        let relabel = compile("relabel_configs", &config.relabel_configs)?;
        let metric_relabel = compile("metric_relabel_configs", &config.metric_relabel_configs)?;
        let http = Http::new(&config.http, http)
            .map_err(|error| JobError::Http { job: config.job_name.clone(), error })?;

        let mut stages: Vec<Arc<dyn Stage>> =
            vec![Arc::new(TargetLabels { honor_labels: config.honor_labels })];
        if !metric_relabel.is_empty() {
            stages.push(Arc::new(metric_relabel));
        }
        stages.extend(dialect.iter().cloned());
        stages.push(Arc::new(ValidNames(validation)));
        stages.push(Arc::new(LabelLimits::of(&config)));

        let protocols = config.scrape_protocols.as_deref().unwrap_or_default();
        let accept = HeaderValue::try_from(accept_header(protocols, config.escaping()))
            .unwrap_or(HeaderValue::from_static("*/*"));
        Ok(Self {
            name: SmolStr::from(&config.job_name),
            histogram_limits: HistogramLimits::new(
                config.native_histogram_bucket_limit,
                config.native_histogram_min_bucket_factor,
            ),
            http,
            accept,
            relabel,
            stages,
            dialect,
            config,
        })
    }

    /// The options.
    pub fn config(&self) -> &ScrapeConfig {
        &self.config
    }

    /// The steps that a new series goes through, in order: target labels, metric relabelling, the dialect's,
    /// names and limits. "Explain" reads this list.
    pub fn stages(&self) -> &[Arc<dyn Stage>] {
        &self.stages
    }

    /// The rules that targets go through.
    pub fn target_rules(&self) -> &RelabelRules {
        &self.relabel
    }

    /// The targets that discovery describes, each identity once.
    pub fn targets(&self, groups: &[TargetGroup]) -> DiscoveredTargets {
        let mut found = DiscoveredTargets::default();
        let mut identities = hashbrown::HashSet::new();
        let mut dropped_by = vec![0; self.relabel.rules().len()];
        for group in groups {
            found.discovered += group.targets.len() as u64;
            for own in &group.targets {
                let (discovered, judgement) = self.judge(own, &group.labels);
                match judgement {
                    Judgement::Active(target) => {
                        if identities.insert(target.identity()) {
                            found.active.push(target);
                        } else {
                            found.duplicates += 1;
                        }
                    }
                    Judgement::DroppedBy(rule) => {
                        found.drop_target(&discovered, self.config.keep_dropped_targets);
                        dropped_by[rule] += 1;
                    }
                    Judgement::Invalid(error) => {
                        found.errors.push((group.source.clone(), discovered.to_labels(), error));
                    }
                }
            }
        }
        let dropping = dropped_by.into_iter().zip(&self.config.relabel_configs).enumerate();
        found.dropped_by = dropping
            .filter(|(_, (targets, _))| *targets > 0)
            .map(|(rule, (targets, config))| DroppedBy::new(rule, config, targets))
            .collect();
        found
    }

    /// What becomes of one target of a group with these labels, and its labels before relabelling.
    pub(crate) fn judge(&self, own: &Labels, group: &Labels) -> (LabelsBuilder, Judgement) {
        let discovered = discovered_labels(&self.config, own, group);
        let judgement = caught(|| self.judge_discovered(&discovered));
        (discovered, judgement)
    }

    fn judge_discovered(&self, discovered: &LabelsBuilder) -> Judgement {
        let rules = self.relabel.rules();
        let mut dropping = None;
        let target = Target::populate(&self.config, discovered, |labels| {
            let mut rules = rules.iter().zip(&self.config.relabel_configs);
            dropping = rules.position(|(rule, config)| !apply_rule(config, rule, labels));
            dropping.is_none()
        });
        match target {
            Ok(Some(target)) => Judgement::Active(target),
            Ok(None) => Judgement::DroppedBy(dropping.unwrap_or_default()),
            Err(error) => Judgement::Invalid(error),
        }
    }

    /// Whether series and requests come out as under `other`, so that nothing has to be done anew.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.config == other.config && self.has_dialect_of(other)
    }

    /// Whether lines come to the same series as under `other`: what differs is only how pages are fetched and
    /// how many samples they may have (Prometheus 3.16 `scrape/scrape.go` `reusableCache`).
    pub(crate) fn reads_like(&self, other: &Self) -> bool {
        let reading = |job: &Self| {
            let mut config = job.config.clone();
            config.http = Default::default();
            config.scrape_interval = Default::default();
            config.scrape_timeout = Default::default();
            config.sample_limit = 0;
            config.gateway = Default::default();
            config
        };
        reading(self) == reading(other) && self.has_dialect_of(other)
    }

    fn has_dialect_of(&self, other: &Self) -> bool {
        self.dialect.len() == other.dialect.len()
            && self.dialect.iter().zip(&other.dialect).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    pub(crate) fn parse_options(&self, target: &Target, start_timestamps: bool) -> ParseOptions {
        let mut options = ParseOptions::default();
        options.native_histograms = target.native_histograms();
        options.always_classic_histograms = target.always_classic_histograms();
        options.convert_classic_to_custom_buckets = target.converts_classic_histograms();
        options.parse_start_timestamps = start_timestamps;
        options.le_format = self.config.le_format;
        options
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<&str> = self.stages.iter().map(|stage| stage.name()).collect();
        f.debug_struct("Job").field("name", &self.name).field("stages", &stages).finish_non_exhaustive()
    }
}

/// Should one target's labels make judging it panic, they do so to that target alone.
fn caught(judge: impl FnOnce() -> Judgement) -> Judgement {
    catch_unwind(AssertUnwindSafe(judge)).unwrap_or(Judgement::Invalid(TargetError::Panicked))
}

/// What a job made of discovery's groups.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DiscoveredTargets {
    /// How many discovery describes: those below, `dropped_count` and `duplicates` in all.
    pub discovered: u64,
    /// Targets to scrape.
    pub active: Vec<Target>,
    /// The discovered labels of targets dropped by relabelling, as many as `keep_dropped_targets` says.
    pub dropped: Vec<Labels>,
    /// How many were dropped in all.
    pub dropped_count: u64,
    /// How many of those each rule dropped, in the order of the rules; rules that dropped none are left out.
    pub dropped_by: Vec<DroppedBy>,
    /// How many have the labels and the URL of another after relabelling, and are scraped once with it.
    pub duplicates: u64,
    /// Targets that cannot be scraped: the group's source, the discovered labels, the reason.
    pub errors: Vec<(SmolStr, Labels, TargetError)>,
}

impl DiscoveredTargets {
    fn drop_target(&mut self, discovered: &LabelsBuilder, keep: u64) {
        self.dropped_count += 1;
        if keep == 0 || (self.dropped.len() as u64) < keep {
            self.dropped.push(discovered.to_labels());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_targets() {
        assert!(matches!(caught(|| Judgement::DroppedBy(3)), Judgement::DroppedBy(3)));
        assert!(matches!(caught(|| panic!("planted")), Judgement::Invalid(TargetError::Panicked)));
    }
}
