use std::collections::BTreeMap;
use std::fmt;

use crate::Position;
use crate::source::Source;
use crate::yaml::Node;

/// Where the parts of a configuration stand in its files, for messages about what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    jobs: BTreeMap<String, JobPlaces>,
    endpoints: Vec<Place>,
}

/// A place in one of the files. Displayed as `prometheus.yml:12`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Where in the file.
    pub position: Position,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct JobPlaces {
    job: Place,
    /// Of each rule of `relabel_configs`.
    rules: Vec<Place>,
}

impl Places {
    /// The entry of `scrape_configs` of this job.
    pub fn job(&self, job: &str) -> Option<&Place> {
        self.jobs.get(job).map(|places| &places.job)
    }

    /// The rule at this position, from 0, in the job's `relabel_configs`.
    pub fn target_rule(&self, job: &str, rule: usize) -> Option<&Place> {
        self.jobs.get(job)?.rules.get(rule)
    }

    /// The entry of `remote_write` at this position of [`Config::remote_write`](crate::Config::remote_write).
    pub fn endpoint(&self, index: usize) -> Option<&Place> {
        self.endpoints.get(index)
    }

    pub(crate) fn add_job(&mut self, name: &str, node: &Node, source: &Source) {
        let rules = node.mapping().ok().and_then(|job| job.get("relabel_configs"));
        let rules = rules.and_then(|rules| rules.value.list().ok()).unwrap_or_default();
        let places = JobPlaces {
            job: Place::of(node, source),
            rules: rules.iter().map(|rule| Place::of(rule, source)).collect(),
        };
        self.jobs.insert(name.to_owned(), places);
    }

    pub(crate) fn add_endpoint(&mut self, node: &Node, source: &Source) {
        self.endpoints.push(Place::of(node, source));
    }
}

impl Place {
    fn of(node: &Node, source: &Source) -> Self {
        let position = Position { line: node.at.line, column: node.at.column };
        Self { file: source.name(Some(node.at)).to_owned(), position }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position.line)
    }
}
