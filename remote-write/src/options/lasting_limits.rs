use promferry_model::PromDuration;
use serde::Deserialize;

/// What becomes of series that the endpoint does not take: those beyond a limit of active series, which are
/// parked on disk, and those that are refused whatever they hold.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LastingLimitsConfig {
    /// From one probe of parked series to the next (1 minute).
    pub probe_interval: PromDuration,
    /// Parked samples older than this are dropped (55 minutes: AMP takes none older than an hour).
    /// `sample_age_limit` holds for them too.
    pub max_parked_age: PromDuration,
    /// How long a series that was refused for what it is, is held out (10 minutes).
    pub hold_out: PromDuration,
}

impl Default for LastingLimitsConfig {
    fn default() -> Self {
        Self {
            probe_interval: PromDuration::from_secs(60),
            max_parked_age: PromDuration::from_secs(55 * 60),
            hold_out: PromDuration::from_secs(600),
        }
    }
}
