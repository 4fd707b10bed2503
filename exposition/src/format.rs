/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The Prometheus text format, 0.0.4 and 1.0.0: one grammar reads both.
    Text,
    /// OpenMetrics 0.0.1 and 1.0.0.
    OpenMetrics,
    /// OpenMetrics 2.0 as Prometheus 3.16 reads its release candidate: composite values, `st@`, several
    /// exemplars. With the feature `openmetrics2`.
    #[cfg(feature = "openmetrics2")]
    OpenMetrics2,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// Which of the text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Prometheus,
    OpenMetrics,
}

impl From<Dialect> for Format {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Prometheus => Self::Text,
            Dialect::OpenMetrics => Self::OpenMetrics,
        }
    }
}
