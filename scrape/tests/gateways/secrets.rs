//! What whoever writes labels and pages must not come to see or to choose.

use promferry_scrape::DiscoveredTargets;

use super::*;

fn found(rules: serde_json::Value, labels: &[(&str, &str)]) -> DiscoveredTargets {
    let own: Vec<_> = [("__address__", "gateway:80")].iter().chain(labels).copied().collect();
    let mut group = group("gateway:80", &[]);
    group.targets = vec![Labels::from_pairs(own)];
    job(json!({"gateway": {"header_files": ["/etc/keys"]}, "relabel_configs": rules})).targets(&[group])
}

#[test]
fn only_a_rules_own_text_names_a_file() {
    let error = |rules: serde_json::Value, value: &str| {
        let found = found(rules, &[("__meta_said", value)]);
        found.errors.first().map(|(_, _, error)| error.to_string()).unwrap_or_default()
    };
    let to = |target: &str| json!({"source_labels": ["__meta_said"], "target_label": target});
    let own = json!({"target_label": "__header_x", "replacement": "file:/etc/keys/ours"});
    let composed = json!({"source_labels": ["__meta_said"], "regex": "file:/etc/keys/(.+)", "target_label": "__header_x",
        "replacement": "file:/etc/keys/$1"});
    let mut lower = to("__header_x");
    lower["action"] = json!("lowercase");
    let tail = json!({"source_labels": ["__header_a"], "regex": ".(file:.+)", "target_label": "__header_x"});
    for (rules, value, is_refused) in [
        (json!([to("__header_x")]), "file:/etc/keys/theirs", true),
        (json!([to("__header_x")]), "file:", true),
        (json!([to("__header_x")]), "theirs", false),
        (json!([lower]), "FILE:/etc/keys/theirs", true),
        (json!([to("__header_a"), tail]), "file:/etc/keys/theirs", true),
        (
            json!([to("__other"), {"source_labels": ["__other"], "target_label": "__header_x"}]),
            "file:/etc/keys/a",
            true,
        ),
        // Even where a rule before it named one.
        (json!([own, to("__header_x")]), "file:/etc/keys/theirs", true),
        (json!([to("__header_x"), own]), "file:/etc/keys/theirs", false),
        (
            json!([own, {"source_labels": ["__meta_said"], "regex": "no", "target_label": "__header_x"}]),
            "file:/a",
            false,
        ),
        (json!([composed]), "file:/etc/keys/theirs", false),
    ] {
        let error = error(rules.clone(), value);
        assert_eq!(error.contains("and not by what it finds"), is_refused, "{rules} {value}: {error}");
        assert_eq!(error.is_empty(), !is_refused, "{rules} {value}: {error}");
        assert!(!error.contains("theirs"), "{error}");
    }
}

#[test]
fn no_other_label_is_made_of_a_header() {
    let key = json!({"target_label": "__header_x_key", "replacement": "hush"});
    let host = json!({"target_label": "__host__", "replacement": "good"});
    let copy = |target: &str| json!({"source_labels": ["__header_x_key"], "target_label": target});
    let act = |action: &str| {
        let mut rule = copy("public");
        rule["action"] = json!(action);
        rule["modulus"] = json!(1000);
        rule
    };
    for rule in [
        json!({"action": "labelmap", "regex": "__(.+)"}),
        json!({"action": "labelmap", "regex": "__header_(.+)", "replacement": "public_$1"}),
        json!({"source_labels": ["__header_x_key"], "regex": "(h)(.*)", "target_label": "public_$1", "replacement": "$0"}),
        copy("public"),
        copy("__param_key"),
        copy("__host__"),
        act("lowercase"),
        act("uppercase"),
    ] {
        let mut found = found(json!([key, host, rule]), &[]);
        let target = found.active.pop().expect("a target");
        let shown = format!("{:?} {}", target.labels(), target.url()).to_lowercase();
        assert!(!shown.contains("hush"), "{rule}: {shown}");
        assert_eq!(target.headers().map(|headers| headers.len()), Some(1), "{rule}");
        assert!(rule["target_label"] == "__host__" || target.host().unwrap().as_str() == "good", "{rule}");
    }
    let hash =
        |rules: serde_json::Value| found(rules, &[]).active[0].public_labels().get("public").to_owned();
    assert_eq!(hash(json!([key, act("hashmod")])), hash(json!([act("hashmod")])), "not even a hash of it");
    // The host is no secret, and a header may become another.
    let named = json!({"source_labels": ["__host__"], "target_label": "instance"});
    let found = found(json!([key, host, named, copy("__header_y_key")]), &[]);
    assert_eq!(found.active[0].public_labels().get("instance"), "good");
    assert_eq!(found.active[0].headers().unwrap().len(), 2);
}

#[tokio::test]
async fn a_servers_words_repeat_no_parameter() {
    let said = "token hush/a b is wrong (hush%2Fa+b, job-wide) for target app-1: up=1";
    let gateway = Gateway::start(Duration::ZERO, move |_| {
        Response::builder().status(403).header("content-type", "text/plain").body(said).unwrap()
    })
    .await;
    let keys = json!({
        "scrape_interval": "1s", "scrape_timeout": "1s",
        "params": {"up": ["1"], "key": ["first", "job-wide"]},
        "relabel_configs": [
            {"target_label": "__param_token", "replacement": "hush/a b"},
            {"target_label": "__param_target", "replacement": "app-1"},
        ],
    });
    let (scraper, _) = scraper_of(keys, vec![gateway.group(0..1)]);
    let error = || scraper.status()[0].active[0].last_error.clone();
    wait_for(|| !error().is_empty()).await;
    let expected =
        "server returned HTTP status 403 Forbidden: token … is wrong (…, …) for target app-1: up=1";
    assert_eq!(error(), expected);
    scraper.shutdown().await;
}

#[tokio::test]
async fn no_secret_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "of-the-file").unwrap();
    let says = "of-the-file and of-the-rule and of-the-job and of-the-query are not right\r\nmore";
    let gateway = Gateway::start(Duration::ZERO, move |_| {
        Response::builder().status(401).header("content-type", "text/plain").body(says).unwrap()
    })
    .await;
    let keys = json!({
        "scrape_interval": "1s", "scrape_timeout": "1s",
        "params": {"token": ["of-the-query"]},
        "gateway": {"header_files": [folder.path()]},
        "relabel_configs": [
            {"target_label": "__header_x_file", "replacement": format!("file:{}/key", folder.path().display())},
            {"target_label": "__header_x_rule", "replacement": "of-the-rule"},
        ],
    });
    let mut of_job: ScrapeConfig = config(keys);
    of_job.http = serde_json::from_value(json!({"authorization": {"credentials": "of-the-job"}})).unwrap();
    let of_job = Job::new(of_job, Vec::new(), HttpOptions::default()).unwrap();
    let mut with_label = gateway.group(0..1);
    with_label.labels = Labels::from_pairs([("__header_x_label", "of-the-label")]);
    let found = of_job.targets(&[with_label.clone()]);
    let scraper = Scraper::new(MemorySink::new(), options());
    scraper.apply(vec![of_job.clone()]);
    scraper.update("test", vec![with_label]).unwrap();
    let error = || scraper.status()[0].active[0].last_error.clone();
    wait_for(|| !error().is_empty()).await;
    assert_eq!(
        error(),
        "server returned HTTP status 401 Unauthorized: <secret> and <secret> and <secret> and … are not right"
    );
    let seen = gateway.seen().pop().unwrap();
    assert_eq!((seen.header("x-file"), seen.header("x-rule")), ("of-the-file", "of-the-rule"));
    assert_eq!((seen.header("authorization"), seen.header("x-label")), ("Bearer of-the-job", ""));

    let status = scraper.status();
    let shown = format!("{found:?} {of_job:?} {scraper:?} {status:?} {:?}", scraper.gateways());
    for secret in ["of-the-file", "of-the-rule", "of-the-job", "of-the-label"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("__header_x_label") && shown.contains("<hidden>"), "{shown}");
    scraper.shutdown().await;
}
