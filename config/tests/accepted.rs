//! What is read from configurations that are right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promferry_config::{Config, ConfigError, DiskFiles, LogLevel, NoFiles};
use promferry_discovery::KubernetesRole;
use promferry_model::{EscapingScheme, NameValidation, PromDuration};
use promferry_relabel::Action;
use promferry_remote_write::ProtobufMessage;
use promferry_scrape::{GatewayConfig, LeFormat, ScrapeProtocol};

fn try_read(text: &str) -> Result<Config, ConfigError> {
    let environment = |name: &str| (name == "CLUSTER").then(|| "eu-1".to_owned());
    Config::from_prometheus(Path::new("/etc/prometheus/prometheus.yml"), text, &NoFiles, &environment)
}

fn read(text: &str) -> Config {
    try_read(text).unwrap_or_else(|error| panic!("{error:#}"))
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

const SECOND: PromDuration = PromDuration::from_secs(1);

#[test]
fn nothing_at_all_is_the_default() {
    for text in [
        "",
        "# nothing\n",
        "---\n",
        "global:\n",
        "scrape_configs:\nremote_write:\nscrape_config_files:\n",
        "{}",
    ] {
        let config = read(text);
        assert_eq!(config.global.scrape.scrape_interval, PromDuration::from_secs(60), "{text:?}");
        assert_eq!(config.global.scrape.scrape_timeout, PromDuration::from_secs(10));
        assert_eq!((config.jobs.len(), config.remote_write.len(), config.warnings.len()), (0, 0, 0));
    }
}

#[test]
fn what_a_job_asks_of_a_gateway_is_a_key_of_its_own() {
    let config = read(
        "scrape_configs:\n- job_name: a\n  gateway:\n    max_in_flight: 4\n    requests_per_second: 2.5\n    header_files: \
         [keys, /etc/secrets]\n- job_name: b\n  gateway:\n- job_name: c\n",
    );
    let gateway = &config.jobs[0].scrape.gateway;
    assert_eq!((gateway.max_in_flight, gateway.requests_per_second), (Some(4), 2.5));
    assert_eq!(gateway.header_files, [PathBuf::from("/etc/prometheus/keys"), PathBuf::from("/etc/secrets")]);
    assert_eq!(config.jobs[1].scrape.gateway, GatewayConfig::default());
    assert_eq!(config.jobs[2].scrape.gateway, GatewayConfig::default());
    for (keys, at) in [
        ("{max_in_flight: 0}", "3:28"),
        ("{max_in_flight: many}", "3:28"),
        ("{requests_per_second: -1}", "3:34"),
        ("{header_files: [/a, /]}", "3:32"),
        ("{header_file: /a}", "3:13"),
        ("[]", "3:12"),
    ] {
        let text = format!("scrape_configs:\n- job_name: a\n  gateway: {keys}\n");
        let error = try_read(&text).unwrap_err().to_string();
        assert!(error.contains(at) && error.contains("gateway"), "{keys}: {error}");
    }
}

#[test]
fn bounds_are_written_as_each_job_says() {
    let config = read(
        "scrape_configs:\n- job_name: a\n  le_format: otel\n- job_name: b\n  le_format: verbatim\n- job_name: c\n",
    );
    let formats: Vec<LeFormat> = config.jobs.iter().map(|job| job.scrape.le_format).collect();
    assert_eq!(formats, [LeFormat::Otel, LeFormat::Verbatim, LeFormat::Prometheus3]);
    let error =
        try_read("scrape_configs:\n- job_name: a\n  le_format: prometheus2\n").unwrap_err().to_string();
    assert!(
        error.contains("3:14") && error.contains("prometheus3") && error.contains("le_format"),
        "{error}"
    );
}

#[test]
fn scalars_become_what_is_asked_for() {
    let config = read(
        "
scrape_configs:
  - job_name: 1
    honor_labels: yes
    honor_timestamps: Off
    sample_limit: 1_000
    label_limit: 0x20
    params: {module: [true, 8080, ~]}
    relabel_configs:
      - {source_labels: [a], regex: 8080, target_label: b, replacement: true}
      - {source_labels: [a], regex: , target_label: b, separator: }
    static_configs:
      - {targets: [host:80, 'other:81'], labels: {version: 1.10, canary: no, empty: }}
",
    );
    let job = &config.jobs[0];
    let scrape = &job.scrape;
    assert_eq!((scrape.job_name.as_str(), scrape.honor_labels, scrape.honor_timestamps), ("1", true, false));
    assert_eq!((scrape.sample_limit, scrape.label_limit), (1000, 32));
    assert_eq!(scrape.params["module"], ["true", "8080", ""]);
    let [first, second] = scrape.relabel_configs.as_slice() else { panic!("two rules") };
    assert_eq!((first.regex.as_deref(), first.replacement.as_str()), (Some("8080"), "true"));
    assert_eq!((second.regex.as_deref(), second.separator.as_str()), (Some(""), ""));
    let group = &job.discovery.static_configs[0];
    assert_eq!(group.targets.len(), 2);
    let labels: Vec<_> = group.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["canary=no", "empty=", "version=1.10"]);
}

#[test]
fn jobs_inherit_from_global() {
    let config = read(
        "
global:
  scrape_interval: 5s
  evaluation_interval: 30s
  sample_limit: 1500
  body_size_limit: 15MB
  keep_dropped_targets: 7
  metric_name_validation_scheme: legacy
  scrape_protocols: [OpenMetricsText1.0.0]
  external_labels: {cluster: $CLUSTER, price: 5$$, region: '${NOT_SET}'}
scrape_configs:
  - job_name: inherits
  - job_name: own
    scrape_interval: 1m
    scrape_timeout: 59s
    sample_limit: 9
    metric_name_validation_scheme: utf8
    scrape_protocols: [PrometheusProto, PrometheusText0.0.4]
  - job_name: native
    scrape_native_histograms: true
",
    );
    let [inherits, own, native] = config.jobs.as_slice() else { panic!("three jobs") };
    let scrape = &inherits.scrape;
    // The default timeout of 10 s is cut to the interval.
    assert_eq!(
        (scrape.scrape_interval, scrape.scrape_timeout.as_millis()),
        (PromDuration::from_secs(5), 5000)
    );
    assert_eq!((scrape.sample_limit, scrape.keep_dropped_targets), (1500, 7));
    assert_eq!(scrape.name_validation(), NameValidation::Legacy);
    assert_eq!(scrape.escaping(), EscapingScheme::Underscores);
    assert_eq!(scrape.scrape_protocols.as_deref(), Some(&[ScrapeProtocol::OpenMetricsText1_0_0][..]));
    assert_eq!(own.scrape.scrape_timeout, PromDuration::from_secs(59));
    assert_eq!((own.scrape.sample_limit, own.scrape.escaping()), (9, EscapingScheme::AllowUtf8));
    assert_eq!(own.scrape.scrape_protocols.as_ref().map(Vec::len), Some(2));
    // A list in global wins over the one that native histograms would choose.
    assert_eq!(native.scrape.scrape_protocols.as_ref().map(Vec::len), Some(1));
    assert_eq!(config.global.external_labels.to_string(), r#"{cluster="eu-1", price="5$"}"#);
    let told = warnings(&config);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("NOT_SET is not set or empty in global.external_labels.region"), "{told:?}");
}

#[test]
fn what_has_no_effect_is_said_once() {
    let config = read(
        "
global: {query_log_file: q.log, scrape_failure_log_file: fail.log}
rule_files: [first.rules, 'my/*.rules']
alerting: {alertmanagers: [{static_configs: [{targets: ['a:9093']}]}]}
storage: {tsdb: {out_of_order_time_window: 30m}}
tracing: {endpoint: 'localhost:4317'}
runtime: {gogc: 42}
otlp: {promote_resource_attributes: [k8s.cluster.name]}
remote_read: [{url: 'http://r/'}]
scrape_configs:
  - {job_name: a}
  - {job_name: b, scrape_failure_log_file: fail.log}
",
    );
    let told = warnings(&config);
    let expected = [
        "2:10: query_log_file has no effect: no rules or queries are evaluated here in global",
        "2:33: scrape_failure_log_file is ignored: failed scrapes are reported in the log in global",
        "7:11: gogc has no effect: there is no garbage collector in runtime",
        "4:1: alerting has no effect: no rules are evaluated here, so there are no alerts",
        "8:1: otlp has no effect: nothing is received here",
        "9:1: remote_read has no effect: nothing is queried here",
        "3:1: rule_files has no effect: no rules are evaluated here",
        "5:1: storage has no effect: nothing is stored here but what waits to be sent",
        "6:1: tracing has no effect: no traces are sent",
    ];
    let expected = expected.map(|text| format!("/etc/prometheus/prometheus.yml:{text}"));
    assert_eq!(told[..9], expected);
    assert_eq!(told.len(), 10);
    assert!(told[9].contains("12:19: scrape_failure_log_file is ignored"), "{}", told[9]);
}

#[test]
fn the_log_level_of_the_file() {
    let level = |runtime: &str| read(&format!("runtime: {runtime}\nscrape_configs: []\n")).log_level;
    assert_eq!(level("{}"), None);
    assert_eq!(level("{log_level: debug}"), Some(LogLevel::Debug));
    assert_eq!(level("{log_level: WARN}"), Some(LogLevel::Warn));
    let refused = |runtime: &str| try_read(&format!("runtime: {runtime}\n")).unwrap_err().to_string();
    for (runtime, said) in [
        ("{log_level: wran}", "1:22: unknown log level \"wran\": there are debug, info, warn and error"),
        ("{log_levl: warn}", "1:11: unknown key \"log_levl\""),
        ("{gogc: much}", "1:17: "),
    ] {
        assert!(refused(runtime).contains(said), "{}", refused(runtime));
    }
}

#[test]
fn endpoints() {
    let config = read(
        "
remote_write:
  - url: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write
    name: amp
    sigv4: {region: eu-west-1, role_arn: 'arn:aws:iam::123456789012:role/remote-write'}
    protobuf_message: auto
    queue_config: {max_samples_per_send: 1000, max_shards: 200, capacity: 2500, batch_send_deadline: 500ms}
    active_series_limit: 2000000
    samples_per_second_limit: 70000
    lasting_limits: {probe_interval: 2m, max_parked_age: 30m}
    write_relabel_configs:
      - {source_labels: [__name__], regex: 'go_.*', action: drop}
  - url: http://localhost:9090/api/v1/write
    protobuf_message: io.prometheus.write.v2.Request
    protobuf_fallback: false
    send_exemplars: true
    send_native_histograms: true
    remote_timeout: 5s
    metadata_config: {send: false}
    headers: {X-Scope-OrgID: tenant}
    basic_auth: {username: u, password_file: secrets/p}
    enable_http2: true
    failed_request_logging: true
",
    );
    let [amp, local] = config.remote_write.as_slice() else { panic!("two endpoints") };
    assert_eq!(amp.write.name, "amp");
    assert_eq!(amp.sigv4.as_ref().and_then(|sigv4| sigv4.region.as_deref()), Some("eu-west-1"));
    assert_eq!(amp.write.queue_config.batch_send_deadline, PromDuration::from_millis(500));
    assert_eq!(amp.write.write_relabel_configs[0].action, Action::Drop);
    assert_eq!((amp.write.active_series_limit, amp.write.samples_per_second_limit), (2_000_000, 70_000));
    let of = |limits: &promferry_remote_write::LastingLimitsConfig| {
        [limits.probe_interval, limits.max_parked_age, limits.hold_out].map(|of| of.as_std().as_secs() / 60)
    };
    assert_eq!((of(&amp.write.lasting_limits), of(&local.write.lasting_limits)), ([2, 30, 10], [1, 55, 10]));
    let minutes = |n: u64| Some(std::time::Duration::from_secs(60 * n));
    assert_eq!((amp.write.sample_age_limit(), local.write.sample_age_limit()), (minutes(55), None));
    // Off unless set, for remote write alone.
    assert_eq!((amp.http.enable_http2, local.http.enable_http2), (false, true));
    assert_eq!(amp.write.protobuf_message, ProtobufMessage::Auto);
    assert_eq!(local.write.protobuf_message, ProtobufMessage::V2);
    assert!(amp.write.protobuf_fallback && !local.write.protobuf_fallback);
    assert_eq!(local.write.remote_timeout, PromDuration::from_secs(5));
    assert!(
        local.write.send_exemplars && local.write.send_native_histograms && !local.write.metadata_config.send
    );
    let password_file = local.http.basic_auth.as_ref().map(|basic| basic.password_file.clone());
    assert_eq!(password_file, Some(PathBuf::from("/etc/prometheus/secrets/p")));
}

#[test]
fn anchors_and_merge_keys() {
    let config = read(
        "
scrape_configs:
  - &base
    job_name: a
    scrape_interval: 5s
    metric_relabel_configs: &rules
      - {source_labels: [__name__], regex: 'go_.*', action: drop}
  - <<: *base
    job_name: b
    scrape_interval: 7s
  - {job_name: c, metric_relabel_configs: *rules}
",
    );
    let intervals: Vec<_> = config.jobs.iter().map(|job| job.scrape.scrape_interval).collect();
    assert_eq!(
        intervals,
        [SECOND.as_millis() * 5, SECOND.as_millis() * 7, 60_000].map(PromDuration::from_millis)
    );
    assert!(config.jobs.iter().all(|job| job.scrape.metric_relabel_configs.len() == 1));
}

#[test]
fn a_second_document_is_warned_of() {
    let config = read("scrape_configs: [{job_name: a}]\n---\nscrape_configs: [{job_name: b}]\n");
    assert_eq!((config.jobs.len(), config.warnings.len()), (1, 1));
}

#[test]
fn included_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let load = || Config::load_prometheus(&folder.path().join("prometheus.yml"), &DiskFiles, &|_: &str| None);
    write(
        "prometheus.yml",
        "global: {scrape_interval: 5s}\nscrape_config_files: [jobs/*.yml, absent.yml]\nscrape_configs: [{job_name: main}]\n",
    );
    write("jobs/b.yml", "scrape_configs: [{job_name: b, authorization: {credentials_file: token}}]\n");
    write("jobs/a.yml", "scrape_configs:\n  - job_name: a\n");
    write("jobs/empty.yml", "");
    let config = load().unwrap();
    let names: Vec<&str> = config.jobs.iter().map(|job| job.scrape.job_name.as_str()).collect();
    assert_eq!(names, ["main", "a", "b"]);
    let included = ["jobs/a.yml", "jobs/b.yml", "jobs/empty.yml"].map(|name| folder.path().join(name));
    assert_eq!(config.included_files, included);
    assert!(config.jobs.iter().all(|job| job.scrape.scrape_interval == PromDuration::from_secs(5)));
    let token = &config.jobs[2].scrape.http.authorization.as_ref().unwrap().credentials_file;
    assert_eq!(token, &folder.path().join("jobs/token"));

    write("jobs/c.yml", "scrape_configs:\n  - job_name: main\n");
    let error = load().unwrap_err();
    assert!(error.file().ends_with("jobs/c.yml"), "{error}");
    assert!(
        error.message().contains("already used at") && error.message().contains("prometheus.yml:3"),
        "{error}"
    );
    write("jobs/c.yml", "global: {}\n");
    assert!(load().unwrap_err().to_string().contains("c.yml:1:1: unknown key \"global\""));
    std::fs::remove_file(folder.path().join("prometheus.yml")).unwrap();
    let error = load().unwrap_err();
    assert!(error.position().is_none() && error.message().contains("cannot be read"), "{error}");
}

#[test]
fn discovery() {
    let config = read(
        "
scrape_configs:
  - job_name: ray-via-head
    http_sd_configs:
      - url: http://ray-head.ray.svc:8265/api/prometheus/sd
        refresh_interval: 30s
        basic_auth: {username: u, password_file: p}
    dns_sd_configs:
      - {names: [first.example, second.example], type: A, port: 9100, refresh_interval: 15s}
      - names: [_metrics._tcp.example]
    file_sd_configs:
      - {files: ['foo/*.slow.json', single/file.yml], refresh_interval: 10m}
    kubernetes_sd_configs:
      - {role: pod, namespaces: {own_namespace: true}, selectors: [{role: pod, label: app=web}], attach_metadata: {node: true}}
      - {role: endpointslice, api_server: 'https://api', tls_config: {ca_file: ca.crt}}
    static_configs:
      - targets: ['https://app/']
    relabel_configs:
      - {source_labels: [__address__], regex: '([^:]+):(\\d+)', replacement: /node/$1/$2/metrics, target_label: __metrics_path__}
",
    );
    let discovery = &config.jobs[0].discovery;
    let http = &discovery.http_sd_configs[0];
    assert_eq!(http.refresh_interval, PromDuration::from_secs(30));
    let password_file = http.http_config.basic_auth.as_ref().map(|basic| basic.password_file.clone());
    assert_eq!(password_file, Some(PathBuf::from("/etc/prometheus/p")));
    assert_eq!(discovery.dns_sd_configs.len(), 2);
    assert_eq!(discovery.dns_sd_configs[0].port, 9100);
    let files: Vec<_> =
        discovery.file_sd_configs[0].files.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(files, ["/etc/prometheus/foo/*.slow.json", "/etc/prometheus/single/file.yml"]);
    assert_eq!(discovery.static_configs[0].targets, ["https://app/"]);
    let [pods, slices] = discovery.kubernetes_sd_configs.as_slice() else { panic!("{discovery:?}") };
    assert_eq!((pods.role, slices.role), (KubernetesRole::Pod, KubernetesRole::EndpointSlice));
    assert!(pods.namespaces.own_namespace && pods.attach_metadata.node);
    assert_eq!(pods.selectors[0].label, "app=web");
    assert_eq!(slices.http_config.tls_config.ca_file, PathBuf::from("/etc/prometheus/ca.crt"));
}

#[test]
fn http_options_stand_among_a_jobs_own() {
    let config = read(
        "
scrape_configs:
  - job_name: connect-content
    scheme: https
    authorization: {type: Key, credentials_file: /etc/secrets/connect-api-key}
    tls_config: {ca_file: ca.pem, insecure_skip_verify: true, min_version: TLS12}
    proxy_url: http://pushprox:8080/
    follow_redirects: false
    http_headers: {X-Target-Shard: {values: [3]}}
    static_configs: [{targets: [guid-1, guid-2]}]
    relabel_configs:
      - {source_labels: [__address__], target_label: content_guid}
      - {source_labels: [__address__], regex: (.+), replacement: /content/$1/metrics, target_label: __metrics_path__}
      - {source_labels: [__address__], target_label: instance}
      - {target_label: __address__, replacement: connect.example.com:443}
",
    );
    let http = &config.jobs[0].scrape.http;
    assert_eq!(http.authorization.as_ref().map(|auth| auth.scheme.as_str()), Some("Key"));
    assert_eq!(http.tls_config.ca_file, PathBuf::from("/etc/prometheus/ca.pem"));
    assert!(http.tls_config.insecure_skip_verify && !http.follow_redirects && http.enable_http2);
    let headers: BTreeMap<_, _> =
        http.http_headers.iter().map(|(name, header)| (name, &header.values)).collect();
    assert_eq!(headers.into_values().next(), Some(&vec!["3".to_owned()]));
}

#[test]
fn recipes_that_people_run() {
    for (name, text) in [
        ("gateways.yml", include_str!("data/gateways.yml")),
        ("agent.yml", include_str!("data/agent.yml")),
        ("compliance.yml", include_str!("data/compliance.yml")),
    ] {
        let config = read(text);
        assert!(!config.jobs.is_empty(), "{name}");
        assert_eq!(warnings(&config), [""; 0], "{name}");
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever the text is, it is read or refused with a place in it.
        #[test]
        fn any_text(text in r"(\PC|[\n :\-\[\]{}&*!|>'#\t]){0,80}") {
            if let Err(error) = try_read(&text) {
                prop_assert!(error.position().is_some(), "{error}");
                let _ = format!("{error:#}");
            }
        }

        /// So is a right configuration with something cut out of it.
        #[test]
        fn a_damaged_configuration(from in 0usize..4000, length in 1usize..200) {
            let text: Vec<char> = include_str!("data/gateways.yml").chars().collect();
            let from = from.min(text.len());
            let to = (from + length).min(text.len());
            let damaged: String = text[..from].iter().chain(&text[to..]).collect();
            if let Err(error) = try_read(&damaged) {
                prop_assert!(error.position().is_some(), "{error}");
                prop_assert!(error.position().unwrap().line <= damaged.lines().count() + 1);
                let _ = format!("{error:#}");
            }
        }
    }
}

#[test]
fn a_role_of_another_account_wants_a_cluster_label() {
    const ROLE: &str = "role_arn: 'arn:aws:iam::210987654321:role/writer'";
    let told = |labels: &str, sigv4: &str, rules: &str, pod_role: Option<&str>| {
        let text = format!(
            "global: {{external_labels: {{{labels}}}}}\nremote_write:\n  - url: \
             https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write\n    \
             sigv4: {{{sigv4}}}\n    write_relabel_configs: [{rules}]\n"
        );
        let environment = |name: &str| pod_role.filter(|_| name == "AWS_ROLE_ARN").map(str::to_owned);
        let config = Config::from_prometheus(Path::new("prometheus.yml"), &text, &NoFiles, &environment);
        let config = config.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(config.warnings.len() <= 1, "{:?}", config.warnings);
        config.warnings.first().map(ToString::to_string)
    };
    assert_eq!(
        told("", ROLE, "", None).as_deref(),
        Some(
            "prometheus.yml:4:23: no external label tells this cluster from others (set \
             global.external_labels.cluster): two clusters with the same pod addresses would write the same series \
             through a role of account 210987654321 in remote_write[0].sigv4.role_arn"
        )
    );
    let dropped = told("cluster: a, replica: r1", ROLE, "{regex: cluster, action: labeldrop}", None).unwrap();
    assert!(
        dropped.contains("write_relabel_configs leave no external label")
            && dropped.contains("(keep cluster)"),
        "{dropped}"
    );
    let other_role = Some("arn:aws:iam::123456789012:role/pod");
    let own_role = Some("arn:aws:iam::210987654321:role/pod");
    let keys = format!("access_key: AK, secret_key: S, {ROLE}");
    let host = "{source_labels: [instance], regex: '(.*):.*', target_label: host}";
    for (is_told, labels, sigv4, rules, pod_role) in [
        (true, "", ROLE, "", other_role),
        // With keys of its own the pod's role says nothing.
        (true, "", &*keys, "", own_role),
        // Replicas of one cluster are told apart, clusters are not.
        (true, "replica: a, __replica__: a, prometheus_replica: a", ROLE, "", None),
        // Targets have these already.
        (true, "job: a, instance: a", ROLE, "", None),
        (true, "cluster: ''", ROLE, "", None),
        (true, "cluster: a", ROLE, "{target_label: cluster, replacement: ''}", None),
        // A label made of the address is as alike as the address.
        (true, "", ROLE, host, None),
        (false, "cluster: a", ROLE, "", other_role),
        (false, "account: a", ROLE, host, None),
        (false, "", ROLE, "{target_label: cluster, replacement: a}", None),
        // What it keeps and drops takes no label away.
        (false, "cluster: a", ROLE, "{source_labels: [__name__], regex: 'http_.*', action: keep}", None),
        (
            false,
            "cluster: a",
            ROLE,
            "{source_labels: [cluster], target_label: k8s_cluster}, {regex: cluster, action: labeldrop}",
            None,
        ),
        (false, "", ROLE, "", own_role),
        (false, "", "region: eu-west-1", "", other_role),
        // A server with STS' API that has no accounts.
        (false, "", "role_arn: 'arn:minio:iam:::role/x'", "", None),
    ] {
        let warning = told(labels, sigv4, rules, pod_role);
        assert_eq!(warning.is_some(), is_told, "{labels} {sigv4} {rules} {pod_role:?}: {warning:?}");
    }
}

#[test]
fn a_chain_of_roles() {
    let read = |labels: &str| {
        let text = format!(
            "
global: {{external_labels: {{{labels}}}}}
remote_write:
  - url: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write
    sigv4:
      roles:
        - role_arn: arn:aws:iam::123456789012:role/metrics
        - {{role_arn: 'arn:aws:iam::210987654321:role/writer', external_id: orders-prod, session_name: pod, sts_region: eu-central-1}}
"
        );
        read(&text)
    };
    let config = read("cluster: a");
    assert_eq!(warnings(&config), Vec::<String>::new());
    let roles = &config.remote_write[0].sigv4.as_ref().unwrap().credentials().roles;
    let roles: Vec<_> =
        roles.iter().map(|role| (role.role_arn.as_str(), role.external_id.as_deref())).collect();
    assert_eq!(
        roles,
        [
            ("arn:aws:iam::123456789012:role/metrics", None),
            ("arn:aws:iam::210987654321:role/writer", Some("orders-prod"))
        ]
    );
    // The last role is the one that writes.
    let told = warnings(&read(""));
    assert!(
        told.len() == 1
            && told[0].contains(":8:22: no external label")
            && told[0].ends_with("a role of account 210987654321 in remote_write[0].sigv4.roles[1].role_arn"),
        "{told:?}"
    );
}
