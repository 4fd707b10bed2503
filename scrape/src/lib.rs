//! Scrape loops with a positional series cache, limits, staleness and report series

mod options;

pub use options::{ByteSize, ByteSizeError, ConfigError, GlobalConfig, ScrapeConfig, ScrapeProtocol};
