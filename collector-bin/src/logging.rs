//! Log messages on standard error.

use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, LogLevel};

/// Sends log messages to standard error, as Prometheus does. Calling it again has no effect.
pub fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    };
    // Libraries speak of their own affairs, and at lower levels of headers: only ours are shown below warn.
    let filter = EnvFilter::new(format!(
        "warn,promferry={level},promferry_collector={level},promferry_model={level},promferry_exposition={level},\
         promferry_relabel={level},promferry_http_client={level},promferry_discovery={level},\
         promferry_scrape={level},promferry_sigv4_auth={level},promferry_remote_write={level},\
         promferry_config={level}"
    ));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Logfmt => builder.with_ansi(false).with_target(false).compact().try_init(),
    };
    // Only a second call fails.
    let _ = started;
}
