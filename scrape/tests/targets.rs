//! Targets as discovery and relabelling make them; cases after Prometheus 3.16 `scrape/target_test.go` and
//! `scrape/manager_test.go`, in our own words.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::time::Duration;

use promferry_model::{Labels, TargetGroup};
use promferry_scrape::{Target, TargetError, discovered_labels};
use serde_json::{Value, json};
use support::{config, job};

type Pairs = &'static [(&'static str, &'static str)];

fn populated(keys: Value, own: Pairs, group: Pairs) -> Result<Option<Target>, TargetError> {
    let job = job(keys);
    let own = Labels::from_pairs(own.iter().copied());
    let group = Labels::from_pairs(group.iter().copied());
    let discovered = discovered_labels(job.config(), &own, &group);
    Target::populate(job.config(), &discovered, |labels| job.target_rules().apply(labels))
}

fn target(keys: Value, own: Pairs, group: Pairs) -> Target {
    populated(keys, own, group).unwrap().unwrap()
}

#[test]
fn discovered_labels_are_filled_from_group_and_job() {
    let config = config(json!({
        "job_name": "job", "scheme": "https", "metrics_path": "/m", "scrape_interval": "1s", "scrape_timeout": "500ms",
        "params": {"module": ["http", "second"], "empty": []},
    }));
    let own = Labels::from_pairs([("__address__", "1.2.3.4:1000"), ("a", "own"), ("__scheme__", "http")]);
    let group = Labels::from_pairs([("a", "group"), ("b", "group"), ("__metrics_path__", "/g")]);
    assert_eq!(
        discovered_labels(&config, &own, &group).to_string(),
        "{__address__=\"1.2.3.4:1000\", __always_scrape_classic_histograms__=\"false\", \
         __convert_classic_histograms_to_nhcb__=\"false\", __metrics_path__=\"/g\", __param_module=\"http\", \
         __scheme__=\"http\", __scrape_interval__=\"1s\", __scrape_native_histograms__=\"false\", \
         __scrape_timeout__=\"500ms\", a=\"own\", b=\"group\", job=\"job\"}"
    );
}

#[test]
fn public_labels_and_instance() {
    let table: [(Value, Pairs, &str); 6] = [
        (json!({}), &[("__address__", "h:1")], r#"{instance="h:1", job="test"}"#),
        (json!({}), &[("__address__", "h")], r#"{instance="h", job="test"}"#),
        (json!({}), &[("__address__", "h:1"), ("instance", "mine")], r#"{instance="mine", job="test"}"#),
        (
            json!({}),
            &[("__address__", "h:1"), ("job", "own"), ("__meta_x", "y"), ("__tmp", "z")],
            r#"{instance="h:1", job="own"}"#,
        ),
        (
            json!({"relabel_configs": [{"source_labels": ["__meta_pod"], "target_label": "pod"},
                                       {"source_labels": ["__meta_ip"], "target_label": "__address__", "replacement": "$1:9100"}]}),
            &[("__address__", "h:1"), ("__meta_pod", "api-0"), ("__meta_ip", "10.0.0.1")],
            r#"{instance="10.0.0.1:9100", job="test", pod="api-0"}"#,
        ),
        (
            json!({"relabel_configs": [{"target_label": "job", "replacement": ""}]}),
            &[("__address__", "h:1")],
            r#"{instance="h:1"}"#,
        ),
    ];
    for (keys, own, expected) in table {
        assert_eq!(target(keys, own, &[]).public_labels().to_string(), expected);
    }
    let kept = target(json!({}), &[("__address__", "h:1"), ("__meta_x", "y"), ("__tmp", "z")], &[]);
    assert_eq!((kept.labels().get("__tmp"), kept.labels().get("__meta_x")), ("z", ""));
}

#[test]
fn urls() {
    let table: [(Value, Pairs, &str); 8] = [
        (json!({}), &[("__address__", "h:1")], "http://h:1/metrics"),
        (json!({"scheme": "https", "metrics_path": ""}), &[("__address__", "h")], "https://h"),
        (json!({"metrics_path": "m"}), &[("__address__", "h")], "http://h/m"),
        (json!({"metrics_path": "/a b?c=d%"}), &[("__address__", "h")], "http://h/a%20b%3Fc=d%25"),
        (
            json!({"params": {"b": ["2", "3"], "a": ["x y&z"]}}),
            &[("__address__", "h")],
            "http://h/metrics?a=x+y%26z&b=2&b=3",
        ),
        (
            json!({"params": {"b": ["2", "3"]}}),
            &[("__address__", "h"), ("__param_b", "1")],
            "http://h/metrics?b=1&b=3",
        ),
        (
            json!({}),
            &[("__address__", "h"), ("__param_target", "http://x/?q=1")],
            "http://h/metrics?target=http%3A%2F%2Fx%2F%3Fq%3D1",
        ),
        (
            json!({}),
            &[("__address__", "[::1]:80"), ("__scheme__", "https"), ("__metrics_path__", "/p")],
            "https://[::1]:80/p",
        ),
    ];
    for (keys, own, expected) in table {
        assert_eq!(target(keys, own, &[]).url(), expected);
    }
}

#[test]
fn what_cannot_be_scraped_is_said() {
    let table: [(Pairs, &str); 12] = [
        (&[("a", "b")], "no address: __address__ is empty after relabelling"),
        (
            &[("__address__", "http://h/p?token=secret")],
            "\"http://h/p\" is not a valid hostname: scheme and path belong to scheme and metrics_path",
        ),
        (
            &[("__address__", "h/p")],
            "\"h/p\" is not a valid hostname: scheme and path belong to scheme and metrics_path",
        ),
        (
            &[("__address__", "h"), ("__scrape_interval__", "often")],
            "error parsing __scrape_interval__: not a valid duration string: \"often\" (write it like 30s, 5m or 1h30m)",
        ),
        (
            &[("__address__", "h"), ("__scrape_timeout__", "-1s")],
            "error parsing __scrape_timeout__: not a valid duration string: \"-1s\" (write it like 30s, 5m or 1h30m)",
        ),
        (&[("__address__", "h"), ("__scrape_interval__", "0s")], "__scrape_interval__ cannot be 0"),
        (&[("__address__", "h"), ("__scrape_timeout__", "0s")], "__scrape_timeout__ cannot be 0"),
        (
            &[("__address__", "h"), ("__scrape_interval__", "1s"), ("__scrape_timeout__", "2s")],
            "scrape timeout cannot be greater than scrape interval (\"2s\" > \"1s\")",
        ),
        (
            &[("__address__", "h"), ("__scrape_native_histograms__", "yes")],
            "error parsing __scrape_native_histograms__: \"yes\" is neither true nor false",
        ),
        (
            &[("__address__", "h"), ("__always_scrape_classic_histograms__", "tRUE")],
            "error parsing __always_scrape_classic_histograms__: \"tRUE\" is neither true nor false",
        ),
        (
            &[("__address__", "h"), ("__convert_classic_histograms_to_nhcb__", "on")],
            "error parsing __convert_classic_histograms_to_nhcb__: \"on\" is neither true nor false",
        ),
        (&[("__address__", "h"), ("__unix_socket__", "/run/x")], "__unix_socket__ is not supported"),
    ];
    for (own, expected) in table {
        assert_eq!(populated(json!({}), own, &[]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn labels_decide_interval_timeout_and_histograms() {
    let own: Pairs = &[
        ("__address__", "h"),
        ("__scrape_interval__", "1h30m"),
        ("__scrape_timeout__", "250ms"),
        ("__scrape_native_histograms__", "1"),
        ("__always_scrape_classic_histograms__", "t"),
        ("__convert_classic_histograms_to_nhcb__", "T"),
    ];
    let target = target(json!({}), own, &[]);
    assert_eq!(target.scrape_interval(), Duration::from_secs(5400));
    assert_eq!(target.scrape_timeout(), Duration::from_millis(250));
    assert!(target.native_histograms() && target.always_classic_histograms());
    assert!(target.converts_classic_histograms());
}

#[test]
fn a_job_tells_active_dropped_and_wrong_targets_apart() {
    let job = job(json!({
        "keep_dropped_targets": 1,
        "relabel_configs": [
            {"source_labels": ["__address__"], "regex": "drop.*", "action": "drop"},
            {"regex": "same", "action": "labeldrop"},
            {"source_labels": ["__address__", "env"], "regex": "away.*", "action": "drop"},
            {"source_labels": ["env"], "target_label": "environment", "action": "dropequal"},
        ],
    }));
    let labels = |address: &str, same: &str| Labels::from_pairs([("__address__", address), ("same", same)]);
    let found = job.targets(&[TargetGroup {
        source: "file:0".into(),
        labels: Labels::from_pairs([("env", "test")]),
        targets: vec![
            labels("a:1", "1"),
            labels("a:1", "2"),
            labels("b:1", ""),
            labels("drop-1", ""),
            labels("drop-2", ""),
            labels("away", ""),
            labels("", ""),
        ],
    }]);
    let active: Vec<&str> = found.active.iter().map(Target::url).collect();
    assert_eq!(active, ["http://a:1/metrics", "http://b:1/metrics"], "one identity is scraped once");
    assert_eq!((found.dropped.len(), found.dropped_count), (1, 3));
    // Counted whatever keep_dropped_targets says, and nobody is forgotten.
    let by: Vec<_> = found.dropped_by.iter().map(|by| (by.to_string(), by.targets)).collect();
    let expected = [
        ("relabel_configs[0] (drop __address__ =~ \"drop.*\")".to_owned(), 2),
        ("relabel_configs[2] (drop __address__;env =~ \"away.*\")".to_owned(), 1),
    ];
    assert_eq!(by, expected);
    assert_eq!((found.discovered, found.duplicates), (7, 1));
    let accounted =
        found.active.len() as u64 + found.dropped_count + found.duplicates + found.errors.len() as u64;
    assert_eq!(found.discovered, accounted);
    assert_eq!((found.dropped[0].get("__address__"), found.dropped[0].get("env")), ("drop-1", "test"));
    assert_eq!((found.errors.len(), found.errors[0].0.as_str()), (1, "file:0"));
    assert_eq!(found.errors[0].2, TargetError::NoAddress);
}

#[test]
fn any_label_makes_another_identity() {
    let identity = |own: Pairs| target(json!({}), own, &[]).identity();
    let plain = identity(&[("__address__", "h:1")]);
    assert_eq!(plain, identity(&[("__address__", "h:1"), ("__meta_x", "ignored")]));
    for other in [
        &[("__address__", "h:2")] as Pairs,
        &[("__address__", "h:1"), ("a", "b")],
        &[("__address__", "h:1"), ("__tmp", "b")],
        &[("__address__", "h:1"), ("__scrape_interval__", "2m")],
    ] {
        assert_ne!(plain, identity(other));
    }
}
