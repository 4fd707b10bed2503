//! The OpenTelemetry Collector's flags.

use clap::Args;
use promferry_config::Sources;

/// The OpenTelemetry Collector's flags.
#[derive(Clone, Debug, Default, Args)]
pub struct OpenTelemetryArgs {
    /// A configuration of the OpenTelemetry Collector: a path, file:PATH, env:NAME or yaml:TEXT. May be given several
    /// times; a later one adds to those before it, and replaces what they have at the same keys.
    #[arg(long = "config", value_name = "URI")]
    pub configs: Vec<String>,
    /// A value of that configuration, as service.telemetry.logs.level=debug. May be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "configs")]
    pub sets: Vec<String>,
    /// Names of what the collector can switch on and off; nothing of it is here.
    #[arg(long = "feature-gates", value_name = "NAMES", hide = true, allow_hyphen_values = true)]
    pub feature_gates: Vec<String>,
}

impl OpenTelemetryArgs {
    /// What the flags name, if they name anything.
    pub fn sources(&self) -> Option<Sources> {
        let named = !self.configs.is_empty();
        named.then(|| Sources::OpenTelemetry { uris: self.configs.clone(), sets: self.sets.clone() })
    }
}
