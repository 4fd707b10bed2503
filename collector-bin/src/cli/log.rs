//! How messages are logged.

use clap::ValueEnum;

/// Prometheus' log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
}

impl From<promferry_config::LogLevel> for LogLevel {
    fn from(level: promferry_config::LogLevel) -> Self {
        match level {
            promferry_config::LogLevel::Debug => Self::Debug,
            promferry_config::LogLevel::Info => Self::Info,
            promferry_config::LogLevel::Warn => Self::Warn,
            promferry_config::LogLevel::Error => Self::Error,
        }
    }
}

/// Prometheus' log formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line a message, for people.
    Logfmt,
    /// One JSON object a message.
    Json,
}
