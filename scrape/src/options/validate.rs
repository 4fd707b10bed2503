//! What belongs together in a job's options and what does not.

use promferry_model::{EscapingScheme, NameValidation, PromDuration};

use promferry_relabel::RelabelRules;

use super::{ConfigError, GlobalConfig, ScrapeConfig, ScrapeProtocol};

impl ScrapeConfig {
    /// Checks what Prometheus checks when it loads a job, and refuses by name what would change the data and
    /// is not supported here. Call it after [`apply_defaults`](Self::apply_defaults).
    ///
    /// # Errors
    /// The first rule that is broken, with the path of keys that leads to it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.job_name.is_empty() {
            return Err(ConfigError::new(["job_name"], "job_name is empty"));
        }
        validate_intervals(self.scrape_interval, self.scrape_timeout)?;
        if let Some(protocols) = &self.scrape_protocols {
            validate_protocols(protocols)?;
        }
        if self.name_validation() == NameValidation::Legacy
            && self.metric_name_escaping_scheme == Some(EscapingScheme::AllowUtf8)
        {
            return Err(ConfigError::new(
                ["metric_name_escaping_scheme"],
                "utf8 metric names requested but metric_name_validation_scheme is not utf8",
            ));
        }
        let factor = self.native_histogram_min_bucket_factor;
        if factor.is_nan() || factor < 0.0 {
            return Err(ConfigError::new(
                ["native_histogram_min_bucket_factor"],
                format!("{factor} is not a factor that buckets can grow by; use 0 or a number above 1"),
            ));
        }
        let validation = self.name_validation();
        for (key, rules) in [
            ("relabel_configs", &self.relabel_configs),
            ("metric_relabel_configs", &self.metric_relabel_configs),
        ] {
            RelabelRules::compile(rules, validation).map_err(|error| ConfigError::from(error).within(key))?;
        }
        self.gateway.validate().map_err(|error| error.within("gateway"))?;
        Ok(self.http.validate()?)
    }

    /// The keys that are set, accepted and without effect, each with the reason.
    pub fn warnings(&self) -> Vec<ConfigError> {
        if self.scrape_failure_log_file.as_os_str().is_empty() {
            return Vec::new();
        }
        vec![ConfigError::new(
            ["scrape_failure_log_file"],
            "is ignored: failed scrapes are reported in the log and on /api/v1/targets",
        )]
    }
}

impl GlobalConfig {
    /// Checks what Prometheus checks when it loads `global`.
    ///
    /// # Errors
    /// The first rule that is broken, with the path of keys that leads to it.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut filled = self.clone();
        filled.apply_defaults();
        validate_intervals(filled.scrape_interval, filled.scrape_timeout)?;
        if let Some(protocols) = &self.scrape_protocols {
            validate_protocols(protocols)?;
        }
        Ok(())
    }
}

fn validate_intervals(interval: PromDuration, timeout: PromDuration) -> Result<(), ConfigError> {
    if timeout > interval {
        return Err(ConfigError::new(
            ["scrape_timeout"],
            format!("scrape timeout {timeout} is greater than the scrape interval {interval}"),
        ));
    }
    Ok(())
}

fn validate_protocols(protocols: &[ScrapeProtocol]) -> Result<(), ConfigError> {
    if protocols.is_empty() {
        return Err(ConfigError::new(["scrape_protocols"], "scrape_protocols cannot be empty"));
    }
    for (at, protocol) in protocols.iter().enumerate() {
        if protocols[..at].contains(protocol) {
            let path = ["scrape_protocols".to_owned(), at.to_string()];
            return Err(ConfigError::new(path, format!("{protocol} is listed twice")));
        }
    }
    Ok(())
}
