//! Endpoints as configuration writes them. What is refused and what a key without a value means was compared
//! with Prometheus 3.16 (`config/config.go`, and what its `/api/v1/status/config` shows).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use promferry_model::PromDuration;
use promferry_remote_write::{QueueConfig, RemoteWriteConfig};
use serde_json::{Value, json};

fn read(mut keys: Value) -> RemoteWriteConfig {
    keys.as_object_mut().unwrap().entry("url").or_insert(json!("http://host/write"));
    serde_json::from_value(keys).unwrap()
}

#[test]
fn keys_without_a_value_are_zero_where_that_can_work() {
    let blank = read(json!({"send_exemplars": null, "send_native_histograms": null, "round_robin_dns": null,
        "headers": null, "name": null, "write_relabel_configs": null, "remote_timeout": null}));
    assert_eq!(blank, read(json!({})));
    assert_eq!(blank.remote_timeout, PromDuration::from_secs(30));
    assert_eq!(blank.validate(), Ok(()));

    let silent = read(json!({"metadata_config": null}));
    assert!(!silent.metadata_config.send);
    assert_eq!(silent.validate(), Ok(()));
    assert!(read(json!({"metadata_config": {}})).metadata_config.send);

    let durations = read(json!({"queue_config": {"batch_send_deadline": null, "min_backoff": null,
        "max_backoff": null, "sample_age_limit": null, "retry_on_http_429": null}}));
    let zero = PromDuration::default();
    let expected = QueueConfig {
        batch_send_deadline: zero,
        min_backoff: zero,
        max_backoff: zero,
        sample_age_limit: zero,
        ..QueueConfig::default()
    };
    assert_eq!(durations.queue_config, expected);
    assert_eq!(durations.validate(), Ok(()));
}

#[test]
fn broken_rules_are_named_by_their_keys() {
    for (keys, path) in [
        (json!({"url": null}), "url"),
        (json!({"remote_timeout": "0s"}), "remote_timeout"),
        (json!({"queue_config": null}), "queue_config.max_shards"),
        (json!({"queue_config": {"max_shards": 0}}), "queue_config.max_shards"),
        (json!({"queue_config": {"min_shards": 0}}), "queue_config.min_shards"),
        (json!({"queue_config": {"min_shards": null}}), "queue_config.min_shards"),
        (json!({"queue_config": {"min_shards": 3, "max_shards": 2}}), "queue_config.min_shards"),
        (json!({"queue_config": {"max_samples_per_send": 0}}), "queue_config.max_samples_per_send"),
        (json!({"queue_config": {"capacity": null}}), "queue_config.capacity"),
        (json!({"queue_config": {"min_backoff": "2s", "max_backoff": "1s"}}), "queue_config.min_backoff"),
        (json!({"queue_config": {"max_backoff": null}}), "queue_config.min_backoff"),
        (json!({"metadata_config": {"max_samples_per_send": null}}), "metadata_config.max_samples_per_send"),
        (json!({"metadata_config": {"send_interval": null}}), "metadata_config.send_interval"),
        (json!({"headers": {"Host": "x"}}), "headers.Host"),
        (json!({"protobuf_message": "auto", "protobuf_fallback": false}), "protobuf_fallback"),
    ] {
        let error = read(keys.clone()).validate().unwrap_err();
        assert_eq!(error.path.join("."), path, "{keys}");
    }
    let none = json!({"metadata_config": {"send": false, "send_interval": null, "max_samples_per_send": 0}});
    assert_eq!(read(none).validate(), Ok(()), "what is not sent has no rules");
}

#[test]
fn secrets_are_not_shown() {
    let config = read(json!({
        "url": "https://user:hun:t@er2@host:9090/a@b?c=d",
        "headers": {"X-Token": "hunter2"},
    }));
    assert_eq!(config.key(), "https://user:xxxxx@host:9090/a@b?c=d");
    let shown = format!("{config:?}");
    assert!(shown.contains("user:xxxxx@host") && shown.contains("X-Token"), "{shown}");
    assert!(!shown.contains("er2"), "{shown}");
}

#[test]
fn an_endpoint_is_known_by_its_name_else_by_its_url() {
    assert_eq!(read(json!({"name": "amp"})).key(), "amp");
    for url in ["http://host:80/a:b@c", "http://user@host/", "host", "http://[::1]:9090/"] {
        assert_eq!(read(json!({"url": url})).key(), url);
    }
}
