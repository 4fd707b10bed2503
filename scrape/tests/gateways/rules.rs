//! What rules, and the keys of a job's `gateway`, may say.

use super::*;

#[test]
fn discovery_cannot_set_hosts_or_headers() {
    let of = |rules: serde_json::Value, labels: &[(&str, &str)]| {
        let own: Vec<_> = [("__address__", "gateway:80")].iter().chain(labels).copied().collect();
        let mut group = group("gateway:80", &[]);
        group.targets = vec![Labels::from_pairs(own)];
        let mut found = job(json!({"relabel_configs": rules})).targets(&[group]);
        let target = found.active.pop().expect("a target");
        let headers = target.headers().map(|headers| {
            headers.iter().map(|header| header.name().to_string()).collect::<Vec<_>>().join(" ")
        });
        let host = target.host().map(ToString::to_string);
        (host.unwrap_or_default(), headers.unwrap_or_default())
    };
    let brought = [("__host__", "evil"), ("__header_x_key", "file:/etc/shadow"), ("__meta_host", "good")];
    assert_eq!(of(json!([]), &brought), (String::new(), String::new()));
    let named = json!([{"source_labels": ["__meta_host"], "target_label": "__host__"}]);
    assert_eq!(of(named, &brought), ("good".to_owned(), String::new()));
    // Rules do not even see them.
    let copied = json!([{"source_labels": ["__host__"], "regex": "(.+)", "target_label": "__host__"}]);
    assert_eq!(of(copied, &brought), (String::new(), String::new()));

    // Names that are made up from what discovery brings.
    let labels = [("__meta_annotation___header_x_key", "theirs"), ("__meta_annotation___host__", "evil")];
    let map = json!({"action": "labelmap", "regex": "__meta_annotation_(.+)"});
    assert_eq!(of(json!([map]), &labels), (String::new(), String::new()));
    let replace =
        json!({"source_labels": ["__meta_name"], "target_label": "__header_$1", "replacement": "theirs"});
    assert_eq!(of(json!([replace]), &[("__meta_name", "x")]), (String::new(), String::new()));
    // What a rule has set stays as it is.
    let own = json!({"target_label": "__header_x_key", "replacement": "ours"});
    let host = json!({"target_label": "__host__", "replacement": "good"});
    let rules = json!([own, host, map]);
    assert_eq!(of(rules, &labels), ("good".to_owned(), "x-key".to_owned()));
}

#[test]
fn a_pattern_does_not_make_a_label_of_a_headers_value() {
    let rules = json!([
        {"target_label": "__header_x_key", "replacement": "ours"},
        {"target_label": "__host__", "replacement": "good"},
        {"action": "labelmap", "regex": "__(.+)"},
        {"action": "labelmap", "regex": "(__header_.+)", "replacement": "copy_$1"},
    ]);
    let found = job(json!({"relabel_configs": rules})).targets(&[group("gateway:80", &[])]);
    let target = &found.active[0];
    assert!(target.headers().is_some_and(|headers| headers.len() == 1) && target.host().is_some());
    let labels = target.public_labels().to_string();
    assert!(!labels.contains("ours") && !labels.contains("good"), "{labels}");
}

#[test]
fn a_file_is_named_by_a_rule_and_not_by_what_it_finds() {
    let of = |rules: serde_json::Value, found: &str| {
        let mut group = group("gateway:80", &[]);
        group.targets = vec![Labels::from_pairs([("__address__", "gateway:80"), ("__meta_tenant", found)])];
        let keys = json!({"gateway": {"header_files": ["/etc/secrets"]}, "relabel_configs": rules});
        let found = job(keys).targets(&[group]);
        found.errors.first().map(|(_, _, error)| error.to_string()).unwrap_or_default()
    };
    let theirs = "file:/etc/secrets/other";
    let replace = |replacement: &str| json!({"source_labels": ["__meta_tenant"], "regex": "(.+)", "target_label": "__header_x", "replacement": replacement});
    let lowercase =
        json!({"action": "lowercase", "source_labels": ["__meta_tenant"], "target_label": "__header_x"});
    let ours = json!({"target_label": "__header_x", "replacement": "file:/etc/secrets/ours"});
    for rules in
        [json!([replace("$1")]), json!([replace("${1}")]), json!([lowercase]), json!([ours, replace("$1")])]
    {
        let error = of(rules.clone(), theirs);
        assert!(error.starts_with("__header_x: a file may be named only by a rule"), "{rules}: {error}");
        assert!(!error.contains("other"), "{error}");
        assert_eq!(of(rules, "a-tenant"), "");
    }
    assert_eq!(of(json!([replace("file:/etc/secrets/$1")]), "app"), "");
    // What does not apply leaves what was there.
    let none = json!({"source_labels": ["__meta_none"], "regex": "(.+)", "target_label": "__header_x"});
    assert_eq!(of(json!([ours, none]), theirs), "");
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let error = |label: &str, value: &str, folders: &[&str]| {
        let rules = json!([{"target_label": label, "replacement": value}]);
        let job = job(json!({"gateway": {"header_files": folders}, "relabel_configs": rules}));
        let found = job.targets(&[group("gateway:80", &[])]);
        found.errors.first().map(|(_, _, error)| error.to_string()).unwrap_or_default()
    };
    for (label, value) in [
        ("__host__", "a.example"),
        ("__host__", "a.example:8443"),
        ("__host__", "[::1]:80"),
        ("__header_x_api_key", "abc"),
        ("__header_authorization", "Key abc"),
        ("__header_Cookie", "a=b"),
    ] {
        assert_eq!(error(label, value, &[]), "", "{label}={value}");
    }
    for value in ["a b", "a/b", "user@host", "http://a", "a:http", "a:99999", ":80", &"a".repeat(256)] {
        let error = error("__host__", value, &[]);
        assert!(error.starts_with("__host__: ") && error.contains("is no host"), "{value}: {error}");
    }
    for name in [
        "host",
        "content_length",
        "user_agent",
        "accept",
        "accept_encoding",
        "connection",
        "te",
        "upgrade",
        "transfer_encoding",
        "proxy_authorization",
        "x_prometheus_scrape_timeout_seconds",
    ] {
        let label = format!("__header_{name}");
        let error = error(&label, "hush", &[]);
        assert!(error.starts_with(&label) && error.contains("not allowed"), "{label}: {error}");
    }
    let forbidden = error("__header_x", "a\nhush", &[]);
    assert!(forbidden.contains("line break") && !forbidden.contains("hush"), "{forbidden}");
    for (value, folders, expected) in [
        ("file:/etc/keys/a", [].as_slice(), "gateway.header_files"),
        ("file:/etc/passwd", &["/etc/keys"], "none of the folders"),
        ("file:/etc/keys", &["/etc/keys"], "none of the folders"),
        ("file:/etc/keys-of-others/a", &["/etc/keys"], "none of the folders"),
        ("file:/etc/keys/../passwd", &["/etc/keys"], "\"..\""),
        ("file:keys/a", &["/etc/keys"], "absolute"),
        ("file:", &["/etc/keys"], "absolute"),
    ] {
        let error = error("__header_x", value, folders);
        assert!(error.starts_with("__header_x: ") && error.contains(expected), "{value}: {error}");
    }
    assert_eq!(error("__header_x", "file:/etc/keys/..data/a", &["/etc/keys"]), "");
}

#[test]
fn the_keys_of_a_gateway_are_checked() {
    let refused = |keys: serde_json::Value| {
        let Ok(mut config) =
            serde_json::from_value::<ScrapeConfig>(json!({"job_name": "a", "gateway": keys}))
        else {
            return "not read".to_owned();
        };
        config.apply_defaults(&GlobalConfig::default());
        match Job::new(config, Vec::new(), HttpOptions::default()) {
            Ok(_) => String::new(),
            Err(JobError::Config(error)) => error.to_string(),
            Err(error) => panic!("{error}"),
        }
    };
    for keys in [
        json!({}),
        json!(null),
        json!({"max_in_flight": null, "requests_per_second": null, "header_files": null}),
    ] {
        assert_eq!(refused(keys), "");
    }
    for (keys, expected) in [
        (json!({"max_in_flight": 0}), "gateway.max_in_flight: "),
        (json!({"requests_per_second": -1}), "gateway.requests_per_second: "),
        (json!({"requests_per_second": 1e-300}), "gateway.requests_per_second: "),
        (json!({"header_files": ["/etc/keys", "/"]}), "gateway.header_files.1: "),
        (json!({"header_files": ["/etc/keys/.."]}), "gateway.header_files.0: "),
        (json!({"header_files": [""]}), "gateway.header_files.0: "),
        (json!({"max": 1}), "not read"),
    ] {
        let error = refused(keys.clone());
        assert!(error.starts_with(expected), "{keys}: {error}");
    }
}
