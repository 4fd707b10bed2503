//! Jobs as configuration writes them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use promferry_model::{EscapingScheme, NameValidation, PromDuration};
use promferry_scrape::{ByteSize, GlobalConfig, ScrapeConfig, ScrapeProtocol};
use serde_json::{Value, json};

fn read(keys: Value) -> Result<ScrapeConfig, serde_json::Error> {
    serde_json::from_value(keys)
}

fn applied(keys: Value, global: Value) -> ScrapeConfig {
    let mut config = read(keys).unwrap();
    config.apply_defaults(&serde_json::from_value(global).unwrap());
    config
}

#[test]
fn defaults_are_those_of_prometheus() {
    let config = applied(json!({"job_name": "a"}), json!({}));
    assert_eq!(config.scrape_interval, PromDuration::from_secs(60));
    assert_eq!(config.scrape_timeout, PromDuration::from_secs(10));
    assert_eq!((config.metrics_path.as_str(), config.scheme.as_str()), ("/metrics", "http"));
    assert!(config.honor_timestamps && config.enable_compression && !config.honor_labels);
    assert_eq!(config.scrape_protocols.as_deref(), Some(&ScrapeProtocol::DEFAULT[..]));
    assert_eq!(config.name_validation(), NameValidation::Utf8);
    assert_eq!(config.escaping(), EscapingScheme::AllowUtf8);
    assert_eq!(config.validate(), Ok(()));
    assert!(config.warnings().is_empty());
}

#[test]
fn null_is_the_zero_value() {
    let keys: serde_json::Map<String, Value> = ScrapeConfig::KEYS
        .iter()
        .map(|key| ((*key).to_owned(), if *key == "job_name" { json!("a") } else { Value::Null }))
        .collect();
    let mut zero = ScrapeConfig::new("a");
    // On by default, and Go's zero value when nothing is said after the colon, as Prometheus 3.16 shows.
    (zero.honor_timestamps, zero.enable_compression, zero.metrics_path) = (false, false, String::new());
    assert_eq!(read(Value::Object(keys)).unwrap(), zero);
    let keys: serde_json::Map<String, Value> =
        GlobalConfig::KEYS.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
    assert_eq!(serde_json::from_value::<GlobalConfig>(Value::Object(keys)).unwrap(), GlobalConfig::default());
}

#[test]
fn keys_are_all_and_no_others() {
    for unknown in ["job", "basic_auth", "static_configs"] {
        let error = read(json!({"job_name": "a", unknown: null})).unwrap_err().to_string();
        assert!(error.contains("unknown field") && error.contains(unknown), "{error}");
    }
}

#[test]
fn globals_are_inherited_where_the_job_says_nothing() {
    let global = json!({
        "scrape_interval": "30s", "scrape_timeout": "20s", "body_size_limit": "10MB", "sample_limit": 1,
        "target_limit": 2, "label_limit": 3, "label_name_length_limit": 4, "label_value_length_limit": 5,
        "keep_dropped_targets": 6, "scrape_native_histograms": true, "extra_scrape_metrics": true,
        "always_scrape_classic_histograms": true,
    });
    let config = applied(json!({"job_name": "a"}), global.clone());
    assert_eq!(
        (config.scrape_interval.to_string(), config.scrape_timeout.to_string()),
        ("30s".into(), "20s".into())
    );
    assert_eq!(config.body_size_limit, ByteSize::from_bytes(10 << 20));
    assert_eq!((config.sample_limit, config.target_limit, config.label_limit), (1, 2, 3));
    assert_eq!((config.label_name_length_limit, config.label_value_length_limit), (4, 5));
    assert_eq!((config.keep_dropped_targets, config.extra_scrape_metrics), (6, Some(true)));
    assert_eq!(config.always_scrape_classic_histograms, Some(true));
    assert_eq!(config.scrape_protocols.as_deref(), Some(&ScrapeProtocol::DEFAULT_PROTOBUF_FIRST[..]));

    let own = applied(
        json!({"job_name": "a", "scrape_interval": "15s", "sample_limit": 9, "scrape_native_histograms": false}),
        global,
    );
    assert_eq!(own.scrape_timeout.to_string(), "15s", "the smaller of the global timeout and the interval");
    assert_eq!((own.sample_limit, own.native_histograms()), (9, false));
    assert_eq!(own.scrape_protocols.as_deref(), Some(&ScrapeProtocol::DEFAULT[..]));
}

#[test]
fn escaping_follows_validation_unless_it_is_said() {
    use EscapingScheme::{AllowUtf8, Dots, Underscores};
    for (job, global, escaping) in [
        (json!({}), json!({}), AllowUtf8),
        (json!({}), json!({"metric_name_validation_scheme": "legacy"}), Underscores),
        (json!({"metric_name_validation_scheme": "legacy"}), json!({}), Underscores),
        (
            json!({"metric_name_validation_scheme": "utf8"}),
            json!({"metric_name_validation_scheme": "legacy"}),
            AllowUtf8,
        ),
        (json!({}), json!({"metric_name_escaping_scheme": "dots"}), Dots),
        (json!({"metric_name_validation_scheme": ""}), json!({"metric_name_escaping_scheme": "dots"}), Dots),
        (
            json!({"metric_name_escaping_scheme": "allow-utf-8"}),
            json!({"metric_name_escaping_scheme": "dots"}),
            AllowUtf8,
        ),
    ] {
        let config = applied(job.clone(), global.clone());
        assert_eq!(config.escaping(), escaping, "{job} {global}");
    }
}

#[test]
fn broken_rules_are_named_by_their_keys() {
    for (keys, path, message) in [
        (json!({}), "job_name", "job_name is empty"),
        (
            json!({"job_name": "a", "scrape_interval": "5s", "scrape_timeout": "6s"}),
            "scrape_timeout",
            "greater than the scrape interval",
        ),
        (json!({"job_name": "a", "scrape_protocols": []}), "scrape_protocols", "cannot be empty"),
        (
            json!({"job_name": "a", "scrape_protocols": ["PrometheusProto", "PrometheusProto"]}),
            "scrape_protocols.1",
            "listed twice",
        ),
        (
            json!({"job_name": "a", "metric_name_validation_scheme": "legacy", "metric_name_escaping_scheme": "allow-utf-8"}),
            "metric_name_escaping_scheme",
            "not utf8",
        ),
        (
            json!({"job_name": "a", "native_histogram_min_bucket_factor": -1.0}),
            "native_histogram_min_bucket_factor",
            "not a factor",
        ),
        (
            json!({"job_name": "a", "relabel_configs": [{"action": "hashmod"}]}),
            "relabel_configs.0.modulus",
            "modulus",
        ),
        (
            json!({"job_name": "a", "metric_relabel_configs": [{"regex": "x", "target_label": "y"}, {"regex": "("}]}),
            "metric_relabel_configs.1.regex",
            "(",
        ),
    ] {
        let error = applied(keys.clone(), json!({})).validate().unwrap_err();
        assert_eq!(error.path.join("."), path, "{keys}");
        assert!(error.message.contains(message), "{error}");
    }
    for (keys, message) in [
        (json!({"scrape_interval": "5"}), "not a valid duration"),
        (json!({"body_size_limit": "10mb"}), "unknown unit"),
        (json!({"body_size_limit": 10}), "unknown unit"),
        (json!({"scrape_protocols": ["OpenMetricsText2.0.0"]}), "unknown variant"),
        (json!({"metric_name_escaping_scheme": "utf8"}), "unknown variant"),
        (json!({"metric_name_validation_scheme": "all"}), "unknown variant"),
        (json!({"sample_limit": -1}), "invalid value"),
    ] {
        let error = read(keys).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(read(json!({"body_size_limit": 0})).unwrap().body_size_limit, ByteSize::default());
    let global: GlobalConfig =
        serde_json::from_value(json!({"scrape_interval": "1s", "scrape_timeout": "2s"})).unwrap();
    assert_eq!(global.validate().unwrap_err().path, ["scrape_timeout"]);
    let ignored = applied(json!({"job_name": "a", "scrape_failure_log_file": "f.log"}), json!({}));
    assert_eq!((ignored.validate(), ignored.warnings().len()), (Ok(()), 1));
}

#[test]
fn a_job_converts_classic_histograms_where_it_or_else_global_says_so() {
    let global = json!({"convert_classic_histograms_to_nhcb": true});
    for (job, converts) in [
        (json!({"job_name": "a", "convert_classic_histograms_to_nhcb": false}), false),
        (json!({"job_name": "a"}), true),
    ] {
        let job = applied(job, global.clone());
        assert_eq!((job.validate(), job.convert_classic_histograms_to_nhcb), (Ok(()), Some(converts)));
    }
}

#[test]
fn parameters_are_not_shown() {
    let config = read(json!({"job_name": "a", "params": {"token": ["hunter2", "x"], "module": []}})).unwrap();
    assert_eq!(config.params["token"], ["hunter2", "x"]);
    let shown = format!("{config:?}");
    assert!(shown.contains("\"token\": [<secret>, <secret>]") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn relative_paths_are_below_the_configuration() {
    let mut config = read(json!({"scrape_failure_log_file": "f.log"})).unwrap();
    config.http.bearer_token_file = "token".into();
    config.resolve_paths(std::path::Path::new("/etc/promferry"));
    assert_eq!(config.scrape_failure_log_file.to_str(), Some("/etc/promferry/f.log"));
    assert_eq!(config.http.bearer_token_file.to_str(), Some("/etc/promferry/token"));
}
