//! Scrape loops with a positional series cache, limits, staleness and report series

mod options;
mod schedule;
mod stages;
mod target;

pub use options::{ByteSize, ByteSizeError, ConfigError, GlobalConfig, ScrapeConfig, ScrapeProtocol};
pub use schedule::Schedule;
pub use stages::{LabelLimits, TargetLabels, ValidNames};
pub use target::{Target, TargetError, discovered_labels};
