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
        sample_age_limit: Some(zero),
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
    let shown = format!("{config:?}");
    assert!(shown.contains("https://host:9090/a@b?c=xxxxx") && shown.contains("X-Token"), "{shown}");
    for shown in [shown, config.key(), config.shown_url()] {
        assert!(!shown.contains("er2") && !shown.contains("user") && !shown.contains("c=d"), "{shown}");
    }
    for (url, shown) in [
        ("https://token@host/write", "https://host/write"),
        ("https://host/write?token=a&b=&c", "https://host/write?token=xxxxx&b=xxxxx&xxxxx"),
        ("https://host?t=u:p@x/y", "https://host?t=xxxxx"),
        ("https://host/write#frag@ment", "https://host/write"),
        ("user:pass@host:80", "host:80"),
        ("", ""),
    ] {
        assert_eq!(read(json!({"url": url})).shown_url(), shown, "{url}");
    }
}

#[test]
fn an_endpoint_is_known_by_its_name_else_by_its_url() {
    assert_eq!(read(json!({"name": "amp"})).key(), "amp");
    for url in ["http://host:80/a:b@c", "host", "http://[::1]:9090/"] {
        assert_eq!(read(json!({"url": url})).key(), url);
    }
    let key = |url: &str| read(json!({ "url": url })).key();
    assert_ne!(key("http://host/?tenant=a"), key("http://host/?tenant=b"));
    assert_ne!(key("http://a:p@host/"), key("http://b:p@host/"));
    assert_eq!(key("http://a:p@host/"), key("http://a:new@host/"), "a password changes, the endpoint stays");
}

#[test]
fn towards_amp_samples_have_55_minutes_unless_it_is_said_otherwise() {
    let amp = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";
    let minutes = |n: u64| Some(std::time::Duration::from_secs(60 * n));
    for (url, queue, expected) in [
        (amp, json!({}), minutes(55)),
        (amp, json!({"sample_age_limit": "10m"}), minutes(10)),
        (amp, json!({"sample_age_limit": "0s"}), None),
        (amp, json!({"sample_age_limit": null}), None),
        ("https://APS-workspaces-fips.us-gov-west-1.amazonaws.com/workspaces/w", json!({}), minutes(55)),
        ("https://aps-workspaces.eu-west-1.api.aws/workspaces/w", json!({}), minutes(55)),
        ("https://aps-workspaces.cn-north-1.amazonaws.com.cn/workspaces/w", json!({}), minutes(55)),
        ("https://vpce-1.aps-workspaces.eu-west-1.vpce.amazonaws.com:443/w", json!({}), minutes(55)),
        ("https://mimir.example.com/aps-workspaces.amazonaws.com", json!({}), None),
        ("https://aps-workspaces.amazonaws.com.example.com/", json!({}), None),
        ("http://host/write", json!({}), None),
        ("http://host/write", json!({"sample_age_limit": "1h"}), minutes(60)),
    ] {
        let config = read(json!({"url": url, "queue_config": queue}));
        assert_eq!(config.sample_age_limit(), expected, "{url} {queue}");
    }
    assert_eq!(read(json!({"url": amp, "queue_config": null})).sample_age_limit(), None);
}

#[test]
fn limits_to_warn_of_are_whole_numbers() {
    let limits = read(json!({"active_series_limit": 2_000_000, "samples_per_second_limit": 70_000}));
    assert_eq!((limits.active_series_limit, limits.samples_per_second_limit), (2_000_000, 70_000));
    let none = read(json!({"active_series_limit": null, "samples_per_second_limit": 0}));
    assert_eq!((none.active_series_limit, none.samples_per_second_limit), (0, 0));
    for value in [json!(-1), json!(1.5), json!("many")] {
        let keys = json!({"url": "http://host", "active_series_limit": value});
        assert!(serde_json::from_value::<RemoteWriteConfig>(keys).is_err());
    }
}
