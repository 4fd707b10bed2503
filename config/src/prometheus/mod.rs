//! Prometheus' own dialect: `prometheus.yml` as Prometheus 3.16 reads it (config/config.go).

mod global;
mod job;
mod remote_write;
mod runtime;
pub(crate) mod sigv4;
mod targets;
mod variables;

use std::collections::BTreeMap;
use std::path::Path;

use promferry_scrape::{GlobalConfig, LeFormat, ScrapeProtocol};

use crate::lints::unreadable_files;
use crate::source::Source;
use crate::yaml::{Document, Mapping, Node, NodeError, parse};
use crate::{Config, ConfigError, ConfigWarning, Dialect, Env, ErrorKind, Files, Job};

/// Keys at the top that decide nothing about what is scraped, named or sent, and why nothing is to be done
/// about them.
const WITHOUT_EFFECT: [(&str, &str); 6] = [
    ("alerting", "no rules are evaluated here, so there are no alerts"),
    ("otlp", "nothing is received here"),
    ("remote_read", "nothing is queried here"),
    ("rule_files", "no rules are evaluated here"),
    ("storage", "nothing is stored here but what waits to be sent"),
    ("tracing", "no traces are sent"),
];

const KEYS: [&str; 5] = ["global", "runtime", "scrape_configs", "scrape_config_files", "remote_write"];

/// What is read of a configuration while it is read.
pub(crate) struct Reader<'a> {
    files: &'a dyn Files,
    env: &'a dyn Env,
    pub(crate) config: Config,
    /// Where each job's name was first used.
    job_names: BTreeMap<String, String>,
    /// The keys that lead to the configuration, where it is part of a larger one.
    within: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(files: &'a dyn Files, env: &'a dyn Env, dialect: Dialect) -> Self {
        let config = Config { dialect, ..Config::default() };
        Self { files, env, config, job_names: BTreeMap::new(), within: Vec::new() }
    }
}

pub(crate) fn read(path: &Path, text: &str, files: &dyn Files, env: &dyn Env) -> Result<Config, ConfigError> {
    let (source, document) = open(path, text)?;
    read_opened(path, &source, document, files, env)
}

/// Reads what [`open`] gave.
pub(crate) fn read_opened(
    path: &Path,
    source: &Source,
    document: Document,
    files: &dyn Files,
    env: &dyn Env,
) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(files, env, Dialect::Prometheus);
    let Some(root) = document.root else {
        reader.config.global.scrape.apply_defaults();
        return Ok(reader.config);
    };
    if let Some(second) = document.second {
        let error = NodeError::unsupported("only the first of several YAML documents is read").at(second);
        reader.config.warnings.push(ConfigWarning::new(error, source));
    }
    let base = path.parent().unwrap_or_else(|| Path::new(""));
    reader.read_part(&root, base, &[], source)?;
    Ok(reader.config)
}

/// An entry of `scrape_config_files`.
struct Pattern {
    text: String,
    error: NodeError,
}

impl Reader<'_> {
    /// Reads a configuration that stands below these keys, and what it includes.
    pub(crate) fn read_part(
        &mut self,
        root: &Node,
        base: &Path,
        within: &[&str],
        source: &Source,
    ) -> Result<(), ConfigError> {
        self.within = within.iter().map(ToString::to_string).collect();
        let included = root
            .mapping()
            .and_then(|top| self.main_file(top, base, source))
            .map_err(|error| ConfigError::new(below(&self.within, error), source))?;
        for pattern in included {
            self.include(&base.join(&pattern.text), &pattern, source)?;
        }
        Ok(())
    }

    /// Reads the file itself; what it includes is returned.
    fn main_file(
        &mut self,
        mut top: Mapping<'_>,
        base: &Path,
        source: &Source,
    ) -> Result<Vec<Pattern>, NodeError> {
        if let Some(entry) = top.take("global") {
            let Self { config: Config { warnings, .. }, within, .. } = self;
            let mut warn = |error: NodeError| {
                warnings.push(ConfigWarning::new(below(within, error.in_key("global")), source));
            };
            self.config.global = global::read(&entry.value, base, self.env, &mut warn)
                .map_err(|error| error.in_key("global"))?;
        } else {
            self.config.global.scrape.apply_defaults();
        }
        if let Some(entry) = top.take("runtime").filter(|entry| !entry.value.is_null()) {
            let Self { config: Config { warnings, .. }, within, .. } = self;
            let mut warn = |error: NodeError| {
                warnings.push(ConfigWarning::new(below(within, error.in_key("runtime")), source));
            };
            self.config.log_level =
                runtime::read(&entry.value, &mut warn).map_err(|error| error.in_key("runtime"))?;
        }
        for (key, why) in WITHOUT_EFFECT {
            if let Some(entry) = top.take(key)
                && !entry.value.is_null()
            {
                let error = NodeError::unsupported(format!("{key} has no effect: {why}")).at(entry.key_at);
                self.config.warnings.push(ConfigWarning::new(below(&self.within, error), source));
            }
        }
        let jobs = top.take("scrape_configs");
        let includes = top.take("scrape_config_files");
        let endpoints = top.take("remote_write");
        top.refuse_unknown(KEYS.iter().chain(WITHOUT_EFFECT.iter().map(|(key, _)| key)))?;

        if let Some(entry) = jobs {
            self.jobs(&entry.value, base, source).map_err(|error| error.in_key(&entry.key))?;
        }
        if let Some(entry) = endpoints {
            let Self { config: Config { global, warnings, places, .. }, within, files, .. } = self;
            let mut warn = |error: NodeError| {
                warnings.push(ConfigWarning::new(below(within, error.in_key(&entry.key)), source));
            };
            let endpoints = remote_write::read(&entry.value, base, global, self.env, &mut warn)
                .map_err(|error| error.in_key(&entry.key))?;
            unreadable_files(&entry.value, base, *files, &mut warn);
            for node in entry.value.list().unwrap_or_default() {
                places.add_endpoint(node, source);
            }
            self.config.remote_write = endpoints;
        }
        let Some(includes) = includes else { return Ok(Vec::new()) };
        let mut patterns = Vec::new();
        for (index, node) in
            includes.value.list().map_err(|error| error.in_key(&includes.key))?.iter().enumerate()
        {
            let at = |error: NodeError| error.at(node.at).in_item(index).in_key(&includes.key);
            let text: String = node.read().map_err(at)?;
            // Prometheus 3.16 config/config.go patRulePath: wildcards in the last part only.
            if text.split_once('*').is_some_and(|(_, rest)| rest.contains('/')) {
                return Err(at(NodeError::invalid(format!(
                    "{text:?} has a * before its last /; only file names may have one"
                ))));
            }
            let error = at(NodeError::new(ErrorKind::File, "cannot be listed"));
            patterns.push(Pattern { text, error });
        }
        Ok(patterns)
    }

    fn jobs(&mut self, list: &Node, base: &Path, source: &Source) -> Result<(), NodeError> {
        let global: GlobalConfig = self.config.global.scrape.clone();
        for (index, node) in list.list()?.iter().enumerate() {
            let Self { config: Config { warnings, .. }, within, files, .. } = self;
            let mut warn = |error: NodeError| {
                let error = error.in_item(index).in_key("scrape_configs");
                warnings.push(ConfigWarning::new(below(within, error), source));
            };
            let job = job::read(node, &global, base, &mut warn).map_err(|error| error.in_item(index))?;
            unreadable_files(node, base, *files, &mut warn);
            self.add(job, node, source).map_err(|error| error.in_item(index))?;
        }
        Ok(())
    }

    fn add(&mut self, mut job: Job, node: &Node, source: &Source) -> Result<(), NodeError> {
        let mapping = node.mapping()?;
        if self.config.dialect == Dialect::OpenTelemetry {
            // Bounds leave the collector in this form, and its receiver takes what names no format for text.
            if mapping.get("le_format").is_none() {
                job.scrape.le_format = LeFormat::Otel;
            }
            job.scrape.fallback_scrape_protocol.get_or_insert(ScrapeProtocol::PrometheusText0_0_4);
        }
        let name = &job.scrape.job_name;
        let here = mapping.get("job_name").map_or(node.at, |entry| entry.value.at);
        if let Some(first) = self.job_names.get(name) {
            let message = format!("the job name {name:?} is already used at {first}");
            return Err(NodeError::invalid(message).at(here).in_key("job_name"));
        }
        self.job_names.insert(name.clone(), format!("{}:{}", source.name(Some(here)), here.line));
        self.config.places.add_job(name, node, source);
        self.config.jobs.push(job);
        Ok(())
    }

    fn include(&mut self, path: &Path, pattern: &Pattern, source: &Source) -> Result<(), ConfigError> {
        let paths = self.files.matching(path).map_err(|error| {
            let mut listed = pattern.error.clone();
            listed.message = format!("{:?} cannot be listed: {error}", pattern.text);
            ConfigError::new(below(&self.within, listed), source)
        })?;
        for path in paths {
            let text = self.files.read(&path);
            let text = text.map_err(|error| ConfigError::unreadable(&path.display().to_string(), &error))?;
            let (source, document) = open(&path, &text)?;
            self.config.included_files.push(path.clone());
            let Some(root) = document.root else { continue };
            let base = path.parent().unwrap_or_else(|| Path::new(""));
            self.within.clear();
            self.included_file(&root, base, &source).map_err(|error| ConfigError::new(error, &source))?;
        }
        Ok(())
    }

    fn included_file(&mut self, root: &Node, base: &Path, source: &Source) -> Result<(), NodeError> {
        let mut top = root.mapping()?;
        let jobs = top.take("scrape_configs");
        top.refuse_unknown(&["scrape_configs"])?;
        match jobs {
            None => Ok(()),
            Some(entry) => self.jobs(&entry.value, base, source).map_err(|error| error.in_key(&entry.key)),
        }
    }
}

/// An error of a configuration that stands below these keys.
fn below(within: &[String], error: NodeError) -> NodeError {
    within.iter().rev().fold(error, |error, key| error.in_key(key))
}

/// Parses a file; what is secret in it is known then.
pub(crate) fn open(path: &Path, text: &str) -> Result<(Source, Document), ConfigError> {
    let mut source = Source::new(path.display().to_string(), text);
    let document = parse(source.text()).map_err(|error| ConfigError::new(error, &source))?;
    if let Some(root) = &document.root {
        source.hide_secrets(root);
    }
    Ok((source, document))
}
