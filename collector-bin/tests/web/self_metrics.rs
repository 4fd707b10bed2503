//! The collector's own metrics, in whatever format a scraper asks for.

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;
use promferry_exposition::{
    Format, MetricFamily, ParseOptions, ScrapeProtocol, accept_header, protocol_for, read_families, validate,
};
use promferry_model::{EscapingScheme, MetricType};

use crate::collector::{Collector, config, until};

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=";

/// The type of a family that has metrics, named as its series.
fn type_of(families: &[MetricFamily], name: &str) -> Option<MetricType> {
    let is_named = |family: &&MetricFamily| {
        let suffix = if family.suffixed { "_total" } else { "" };
        name.strip_suffix(suffix) == Some(family.name.as_str())
    };
    let family = families.iter().filter(|family| !family.metrics.is_empty()).find(is_named);
    family.map(|family| family.metric_type)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_is_answered_with_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (farm, sink) = (Farm::start(2, 20).await.unwrap(), Sink::start(Judgement::CountOnly).await.unwrap());
    let collector = Collector::start(folder.path(), &config(farm.addresses(), &sink, "500ms"));
    until("samples are delivered", async || collector.text("/").await.contains("is delivered")).await;

    let prometheus = accept_header(&ScrapeProtocol::DEFAULT, EscapingScheme::AllowUtf8);
    let native = accept_header(&ScrapeProtocol::DEFAULT_PROTOBUF_FIRST, EscapingScheme::AllowUtf8);
    for (accept, content_type) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores".to_owned()),
        (
            "text/plain;version=0.0.4",
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores".to_owned(),
        ),
        (
            "text/plain;version=1.0.0;escaping=dots",
            "text/plain; version=1.0.0; charset=utf-8; escaping=dots".to_owned(),
        ),
        (
            "application/openmetrics-text",
            "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores".to_owned(),
        ),
        (
            prometheus.as_str(),
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8".to_owned(),
        ),
        (native.as_str(), format!("{PROTOBUF}underscores")),
    ] {
        let (status, answered, page) = collector.page("/metrics", accept).await.unwrap();
        assert_eq!((status, &answered), (200, &content_type), "{accept}");
        let format = protocol_for(Some(&answered), None).unwrap().format();
        let families = read_families(format, &page, ParseOptions::default()).unwrap();
        assert!(families.iter().filter(|family| !family.metrics.is_empty()).count() > 50, "{accept}");
        for (name, metric_type) in [
            ("promferry_samples_scraped_total", MetricType::Counter),
            ("process_open_fds", MetricType::Gauge),
            ("promferry_build_info", MetricType::Gauge),
            ("prometheus_remote_storage_sent_batch_duration_seconds", MetricType::Histogram),
        ] {
            assert_eq!(type_of(&families, name), Some(metric_type), "{name} for {accept}");
        }
        if format == Format::OpenMetrics {
            let page_text = String::from_utf8_lossy(&page);
            validate(&page).unwrap_or_else(|refusal| panic!("{refusal}\n{page_text}"));
        }
    }
}
