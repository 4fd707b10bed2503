//! Prometheus relabelling: rules as they are written in a configuration, compiled once, applied to labels.
//!
//! What it is: [`RelabelConfig`] reads a rule of `relabel_configs`, `metric_relabel_configs` or
//! `write_relabel_configs`; [`RelabelRules`] compiles a list of them and applies it with the meaning of
//! Prometheus 3.16 (model/relabel/relabel.go), Go's regular expressions and templates included.
//!
//! What it is not: it does no I/O and knows neither targets nor samples.
//!
//! ```
//! use promferry_model::{Labels, LabelsBuilder, NameValidation};
//! use promferry_relabel::{Action, RelabelConfig, RelabelRules};
//!
//! let rules = RelabelRules::compile(
//!     &[
//!         RelabelConfig {
//!             source_labels: vec!["__address__".into(), "__meta_port".into()],
//!             regex: Some(r"([^:]+)(?::\d+)?;(\d+)".into()),
//!             target_label: "__address__".into(),
//!             replacement: "$1:$2".into(),
//!             ..RelabelConfig::default()
//!         },
//!         RelabelConfig {
//!             source_labels: vec!["app".into()],
//!             regex: Some("api|web".into()),
//!             action: Action::Keep,
//!             ..RelabelConfig::default()
//!         },
//!     ],
//!     NameValidation::Utf8,
//! )?;
//!
//! let target = Labels::from_pairs([("__address__", "10.0.0.7:80"), ("__meta_port", "9090"), ("app", "api")]);
//! let mut labels = LabelsBuilder::from(&target);
//! assert!(rules.apply(&mut labels));
//! assert_eq!(labels.get("__address__"), "10.0.0.7:9090");
//! # Ok::<(), promferry_relabel::ConfigError>(())
//! ```
//!
//! # Go's regular expressions
//!
//! Expressions are read by a parser of Go's syntax and translated for the `regex` crate, which means other
//! things by some of the same texts: `\d \w \s \b` are ASCII, `.` matches a line feed unless `(?-s)` says
//! otherwise, `[a&&b]` and `{foo}` are literal, what Go refuses is refused. What most rules use (literals,
//! alternations of literals, a literal before or behind `.*` or `.+`) is matched without a regular expression.
//!
//! Two things differ on purpose. Expressions nested deeper than 250 groups (Go: 1,000), or larger than 10 MiB
//! when compiled, are refused. Where `labelmap` gives several labels one name, the last by label name wins;
//! in Prometheus that depends on the order in which labels were set.

mod case;
mod config;
mod explain;
mod go_regex;
mod go_unicode;
mod pattern;
mod rules;
mod template;

pub use config::{Action, ConfigError, RelabelConfig};
pub use explain::{Change, Explanation, Step};
pub use rules::{Relabel, RelabelRules};
