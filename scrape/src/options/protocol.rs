use std::fmt;

use serde::Deserialize;

/// An exposition format as `scrape_protocols` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[non_exhaustive]
pub enum ScrapeProtocol {
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    PrometheusProto,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    /// OpenMetrics 1.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
    /// OpenMetrics 2.0; known by name, and refused by [`ScrapeConfig::validate`](crate::ScrapeConfig::validate).
    #[serde(rename = "OpenMetricsText2.0.0")]
    OpenMetricsText2_0_0,
    /// Prometheus' text format, version 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    /// Prometheus' text format, version 1.0.0: names may be quoted UTF-8.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
}

impl ScrapeProtocol {
    /// What Prometheus asks for by default, with protobuf first where native histograms are wanted, since no
    /// text format carries them.
    pub const fn defaults(native_histograms: bool) -> &'static [Self] {
        const PROTO_FIRST: &[ScrapeProtocol] = &[
            ScrapeProtocol::PrometheusProto,
            ScrapeProtocol::OpenMetricsText1_0_0,
            ScrapeProtocol::OpenMetricsText0_0_1,
            ScrapeProtocol::PrometheusText1_0_0,
            ScrapeProtocol::PrometheusText0_0_4,
        ];
        if native_histograms { PROTO_FIRST } else { PROTO_FIRST.split_at(1).1 }
    }

    /// The name that configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::OpenMetricsText2_0_0 => "OpenMetricsText2.0.0",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
        }
    }
}

impl fmt::Display for ScrapeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
