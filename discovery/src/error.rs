use crate::ConfigError;

/// Why a mechanism cannot be started.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its configuration breaks a rule.
    #[error("invalid configuration: {0}")]
    Config(#[from] ConfigError),
    /// Something that its configuration names cannot be used, such as a certificate.
    #[error("cannot start {mechanism} discovery: {reason}")]
    Construct {
        /// Prometheus' name of the mechanism.
        mechanism: &'static str,
        /// What cannot be used and why.
        reason: String,
    },
}
