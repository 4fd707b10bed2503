//! Reads a collector's configuration into typed options, with errors that say where.
//!
//! What it is: [`Config`] is made of the option types of the crates that do the work, checked, with defaults
//! applied and relative paths resolved. [`Config::from_prometheus`] reads Prometheus' own dialect as
//! Prometheus 3.16 does: strict about unknown keys, lenient about scalars (`regex: 8080`, `honor_labels: yes`),
//! with anchors, merge keys and `scrape_config_files`. Every error is one [`ConfigError`] with file, line,
//! column, the keys that lead there, and what was probably meant. A second dialect, the OpenTelemetry
//! collector's, ends in the same types.
//!
//! What it is not: it starts nothing, and does no I/O of its own: included files come through [`Files`],
//! environment variables through [`Env`]. Files that hold secrets, certificates or targets are not opened.
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
mod prometheus;
mod source;
mod surroundings;
mod yaml;

use std::path::Path;

pub use config::{Config, Endpoint, Global, Job};
pub use error::{ConfigError, ConfigWarning, ErrorKind, Position};
pub use surroundings::{DiskFiles, Env, Files, NoFiles};

impl Config {
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

    /// Reads the `prometheus.yml` at `path`.
    ///
    /// # Errors
    /// As [`from_prometheus`](Self::from_prometheus), and when the file cannot be read.
    pub fn load_prometheus(path: &Path, files: &dyn Files, env: &dyn Env) -> Result<Self, ConfigError> {
        let text = files.read(path);
        let text = text.map_err(|error| ConfigError::unreadable(&path.display().to_string(), &error))?;
        Self::from_prometheus(path, &text, files, env)
    }
}
