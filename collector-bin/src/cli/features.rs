//! What `--enable-feature` may name: the features of Prometheus 3.16, and those of earlier versions.

/// What is enabled of what is off by default, and what there is to say of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `st-storage`: start timestamps are read and sent.
    pub start_timestamps: bool,
    /// `extra-scrape-metrics`: `extra_scrape_metrics` is true where the configuration does not say it.
    pub extra_scrape_metrics: bool,
    /// A sentence for each feature that a user might count on in vain.
    pub warnings: Vec<String>,
}

impl Features {
    /// What these names enable.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut features = Self::default();
        for name in names {
            match name {
                "" => {}
                "st-storage" => features.start_timestamps = true,
                "extra-scrape-metrics" => features.extra_scrape_metrics = true,
                name if SILENT.contains(&name) => {}
                name => {
                    let reason = WARNED.iter().find(|(warned, _)| *warned == name);
                    features.warnings.push(match reason {
                        Some((_, reason)) => format!("--enable-feature={name} has no effect: {reason}"),
                        None => format!(
                            "--enable-feature={name} is no feature that Prometheus 3.16 or Promferry knows"
                        ),
                    });
                }
            }
        }
        features
    }
}

/// Features without which nothing is other than with them: they are always on here, or are about what an agent does
/// not do.
pub const SILENT: &[&str] = &[
    "agent",
    "auto-gomaxprocs",
    "auto-gomemlimit",
    "auto-reload-config",
    "concurrent-rule-eval",
    "delayed-compaction",
    "delayed-name-removal",
    "exemplar-storage",
    "expand-external-labels",
    "fast-startup",
    "histograms-st-encoding",
    "memory-snapshot-on-shutdown",
    "metadata-wal-records",
    "new-service-discovery-manager",
    "no-default-scrape-port",
    "old-ui",
    "ooo-native-histograms",
    "otlp-deltatocumulative",
    "otlp-native-delta-ingestion",
    "promql-at-modifier",
    "promql-binop-fill-modifiers",
    "promql-delayed-name-removal",
    "promql-duration-expr",
    "promql-experimental-functions",
    "promql-extended-range-selectors",
    "promql-negative-offset",
    "promql-per-step-stats",
    "promql-unquoted-utf8-names",
    "query-cost",
    "search-api",
    "use-start-timestamps",
    "use-uncached-io",
    "utf8-names",
    "xor2-encoding",
    "zstd-scrape",
];

/// Features whose lack shows in what is stored, each with what is to be known.
pub const WARNED: &[(&str, &str)] = &[
    (
        "created-timestamp-zero-ingestion",
        "no zero is written at the start of a counter; st-storage sends start timestamps",
    ),
    ("native-histograms", "scrape_native_histograms in the configuration reads them, as in Prometheus 3.16"),
    ("openmetrics2", "OpenMetrics 2.0 is not asked for"),
    ("otlp-write-receiver", "nothing is received here"),
    ("remote-write-receiver", "nothing is received here"),
    ("st-synthesis", "start timestamps that a target does not tell are not made up"),
    ("type-and-unit-labels", "series get no labels __type__ and __unit__"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_honoured_silent_or_warned_of() {
        let features = Features::named(["st-storage", "agent", "", "type-and-unit-labels", "storage-st"]);
        assert!(features.start_timestamps && !features.extra_scrape_metrics);
        let expected = [
            "--enable-feature=type-and-unit-labels has no effect: series get no labels __type__ and __unit__",
            "--enable-feature=storage-st is no feature that Prometheus 3.16 or Promferry knows",
        ];
        assert_eq!(features.warnings, expected);
        assert!(Features::named(["extra-scrape-metrics"]).extra_scrape_metrics);
        assert_eq!(Features::named(SILENT.iter().copied()), Features::default());
    }
}
