use crate::go_float;

/// How the values of `le` and `quantile` are written, which are numbers that stand in labels: each form is
/// another series to whoever stores them. `le_format` of a job.
///
/// | page | `prometheus3` | `verbatim` | `otel` |
/// |---|---|---|---|
/// | `le="1"` | `1.0` | `1` | `1` |
/// | `le="1.0"` | `1.0` | `1.0` | `1` |
/// | `le="1000000"` | `1e+06` | `1000000` | `1000000` |
/// | `le="1e-05"` | `1e-05` | `1e-05` | `0.00001` |
/// | protobuf, 1 | `1.0` | `1.0` | `1` |
///
/// Written anew are the labels of samples below a `TYPE` of `histogram` (`le`) and `summary` (`quantile`); what
/// is no number stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum LeFormat {
    /// As an OpenMetrics float, whatever the page's format (Prometheus 3 `labels.FormatOpenMetricsFloat`).
    #[default]
    Prometheus3,
    /// As the page has it, which is what Prometheus 2 did: `1` and `1.0` are then two series, and which of
    /// them a client library writes can depend on the format it is asked for. Protobuf has numbers instead of
    /// texts; they are written as `prometheus3` does.
    Verbatim,
    /// Shortest and without an exponent, as histograms and summaries leave the OpenTelemetry Collector for
    /// remote write (`pkg/translator/prometheusremotewrite`: Go's `FormatFloat(bound, 'f', -1, 64)`), and so
    /// ADOT.
    Otel,
}

impl LeFormat {
    /// The number of a protobuf page.
    pub(crate) fn number(self, value: f64) -> String {
        match self {
            Self::Prometheus3 | Self::Verbatim => go_float::format_openmetrics(value),
            Self::Otel => go_float::format_decimal(value),
        }
    }

    /// The label value of a text page; `None` leaves it as it is.
    pub(crate) fn text(self, value: &str) -> Option<String> {
        if self == Self::Verbatim {
            return None;
        }
        go_float::parse(value.as_bytes()).ok().map(|value| self.number(value))
    }
}
