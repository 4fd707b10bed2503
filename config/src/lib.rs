//! Reads a collector's configuration into typed options, with errors that say where.
//!
//! What it is: [`Config`] is made of the option types of the crates that do the work, checked, with defaults
//! applied and relative paths resolved. [`Config::from_prometheus`] reads Prometheus' own dialect as
//! Prometheus 3.16 does: strict about unknown keys, lenient about scalars (`regex: 8080`, `honor_labels: yes`),
//! with anchors, merge keys and `scrape_config_files`. Every error is one [`ConfigError`] with file, line,
//! column, the keys that lead there, and what was probably meant. [`Config::from_opentelemetry`] reads the
//! OpenTelemetry Collector's dialect, as ADOT's users write it, into the same types. [`WebConfig`] is the file that
//! tells how pages are served: certificates, passwords, headers.
//!
//! What it is not: it starts nothing, and does no I/O of its own: included files come through [`Files`],
//! environment variables through [`Env`]. Of files that hold secrets or certificates it only asks whether they can be
//! read; those that hold targets are not opened.
//!
//! ```
//! use promferry_config::{Config, NoFiles};
//!
//! let text = "
//! scrape_configs:
//!   - job_name: api
//!     scrape_intervall: 5s
//! ";
//! let environment = |name: &str| std::env::var(name).ok();
//! let error = Config::from_prometheus("prometheus.yml".as_ref(), text, &NoFiles, &environment).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "prometheus.yml:4:5: unknown key \"scrape_intervall\" in scrape_configs[0] (did you mean \"scrape_interval\"?)"
//! );
//! ```
//!
//! # What of Prometheus' configuration is honoured
//!
//! `global`, `scrape_configs`, `scrape_config_files` and `remote_write`. Another key that would change what is
//! scraped, named or sent is refused by name; one that cannot (`rule_files`, `alerting`, `storage`, …) is
//! accepted with one [`ConfigWarning`].

mod config;
mod error;
mod lints;
mod named_file;
mod otel;
mod places;
mod prometheus;
mod source;
mod surroundings;
mod web;
mod yaml;

use std::path::{Path, PathBuf};

pub use config::{Config, Dialect, Endpoint, Global, HealthCheck, Job, LogLevel};
pub use error::{ConfigError, ConfigWarning, ErrorKind, Position};
pub use named_file::{FileKind, NamedFile};
pub use places::{Place, Places};
pub use surroundings::{DiskFiles, Env, Files, NoFiles};
pub use web::{ClientAuth, Curve, Pem, RateLimit, SubjectAltName, TlsServerConfig, WebConfig};

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// The file that `--config.file` names. Should it be the collector's, it is read as that, with a warning.
    Prometheus(PathBuf),
    /// What the collector's flags name.
    OpenTelemetry {
        /// Each `--config`: a path, `file:PATH`, `env:NAME` or `yaml:TEXT`. A later one adds to those before it, and
        /// replaces what they have at the same keys.
        uris: Vec<String>,
        /// Each `--set`: `KEY.KEY=VALUE`.
        sets: Vec<String>,
    },
}

impl Config {
    /// Reads what the command line names.
    ///
    /// # Errors
    /// The first thing that is wrong, as a [`ConfigError`]; a file that cannot be read too.
    pub fn load(sources: &Sources, files: &dyn Files, env: &dyn Env) -> Result<Self, ConfigError> {
        match sources {
            Sources::Prometheus(path) => Self::load_prometheus(path, files, env),
            Sources::OpenTelemetry { uris, sets } => otel::load(uris, sets, files, env),
        }
    }

    /// Reads the text of an OpenTelemetry Collector's configuration. `path` is what errors call the file; relative
    /// paths in it start from the working directory, as the collector's do.
    ///
    /// # Errors
    /// The first thing that is wrong, as a [`ConfigError`].
    pub fn from_opentelemetry(
        path: &Path,
        text: &str,
        files: &dyn Files,
        env: &dyn Env,
    ) -> Result<Self, ConfigError> {
        otel::read(path, text, files, env)
    }

    /// Reads the text of a `prometheus.yml`. `path` is what errors call the file; relative paths in it are
    /// resolved against the folder it names.
    ///
    /// # Errors
    /// The first thing that is wrong, as a [`ConfigError`].
    pub fn from_prometheus(
        path: &Path,
        text: &str,
        files: &dyn Files,
        env: &dyn Env,
    ) -> Result<Self, ConfigError> {
        prometheus::read(path, text, files, env)
    }

    /// Reads the `prometheus.yml` at `path`. Should it be the collector's configuration, it is read as that, with a
    /// warning.
    ///
    /// # Errors
    /// As [`from_prometheus`](Self::from_prometheus), and when the file cannot be read.
    pub fn load_prometheus(path: &Path, files: &dyn Files, env: &dyn Env) -> Result<Self, ConfigError> {
        let text = files.read(path);
        let text = text.map_err(|error| ConfigError::unreadable(&path.display().to_string(), &error))?;
        let (source, document) = prometheus::open(path, &text)?;
        match &document.root {
            Some(root) if otel::is_collector(root) => {
                let message = "this is the OpenTelemetry Collector's configuration and read as such; --config is the flag for it";
                let warning = yaml::NodeError::unsupported(message).at(root.at);
                let warning = ConfigWarning::new(warning, &source);
                let mut config = otel::read_opened(&source, document, files, env)?;
                config.warnings.insert(0, warning);
                Ok(config)
            }
            _ => prometheus::read_opened(path, &source, document, files, env),
        }
    }
}
