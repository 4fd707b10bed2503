//! What is read from configurations of the OpenTelemetry Collector that are right. Files in data/otel are written in
//! our own words after published ones, which each of them names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use promferry_config::{Config, ConfigError, Dialect, Files, HealthCheck, LogLevel, NoFiles, Sources};
use promferry_discovery::KubernetesRole;
use promferry_model::{Labels, PromDuration};
use promferry_relabel::{Action, RelabelConfig};
use promferry_remote_write::ProtobufMessage;
use promferry_scrape::{LeFormat, ScrapeProtocol};

const AMP: &str = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write";

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "AWS_REGION" => "eu-west-1",
        "AWS_PROMETHEUS_ENDPOINT" => AMP,
        "AWS_PROMETHEUS_SCRAPING_ENDPOINT" => "127.0.0.1:9404",
        "CLUSTER" => "blue",
        "LIMIT" => "0x10",
        "CLASS" => "[abc]",
        "TARGETS" => "[a:80, 'b:80']",
        "AOT_CONFIG_CONTENT" => "{receivers: {prometheus: {config: {scrape_configs: [{job_name: of_env}]}}}}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn try_read(text: &str) -> Result<Config, ConfigError> {
    Config::from_opentelemetry(Path::new("collector.yaml"), text, &NoFiles, &environment)
}

fn read(text: &str) -> Config {
    try_read(text).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The lines below a job, an exporter, and the rest, around what every configuration has.
fn collector(job: &str, exporter: &str) -> String {
    format!(
        "
receivers:
  prometheus:
    config:
      scrape_configs:
        - job_name: api
{job}
exporters:
  prometheusremotewrite:
    endpoint: http://127.0.0.1:9/write
{exporter}
service:
  pipelines:
    metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}
"
    )
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_receivers_jobs_and_the_exporters_endpoint_are_there() {
    let config = read(&collector("          static_configs: [{targets: [a:80]}]", ""));
    assert_eq!(config.dialect, Dialect::OpenTelemetry);
    let job = &config.jobs[0];
    assert_eq!((config.jobs.len(), job.scrape.job_name.as_str()), (1, "api"));
    assert_eq!(job.discovery.static_configs[0].targets, ["a:80"]);
    // What the receiver does with a page that does not say its format, and the exporter with bounds.
    assert_eq!(job.scrape.fallback_scrape_protocol, Some(ScrapeProtocol::PrometheusText0_0_4));
    assert_eq!(job.scrape.le_format, LeFormat::Otel);
    let endpoint = &config.remote_write[0];
    assert_eq!(endpoint.write.url, "http://127.0.0.1:9/write");
    assert_eq!((endpoint.write.send_exemplars, endpoint.write.send_native_histograms), (true, true));
    assert!(!endpoint.write.metadata_config.send && !endpoint.http.enable_http2);
    assert!(endpoint.http.proxy_from_environment && endpoint.sigv4.is_none());
    assert_eq!(config.health_check, None);
    assert!(config.warnings.is_empty(), "{:?}", warnings(&config));
    assert!(config.differences.iter().any(|text| text.contains("target_info")), "{:?}", config.differences);
}

#[test]
fn jobs_may_speak_of_gateways() {
    let config = read(&collector(
        "          gateway: {max_in_flight: 4}\n          relabel_configs: [{source_labels: [app], target_label: __host__, \
         replacement: $$1.apps.example}]",
        "",
    ));
    let job = &config.jobs[0].scrape;
    assert_eq!(job.gateway.max_in_flight, Some(4));
    assert_eq!(job.relabel_configs[0].replacement, "$1.apps.example");
}

#[test]
fn a_jobs_own_choice_wins() {
    let config = read(&collector(
        "          le_format: verbatim\n          fallback_scrape_protocol: OpenMetricsText1.0.0",
        "",
    ));
    assert_eq!(config.jobs[0].scrape.le_format, LeFormat::Verbatim);
    assert_eq!(config.jobs[0].scrape.fallback_scrape_protocol, Some(ScrapeProtocol::OpenMetricsText1_0_0));
}

#[test]
fn groups_of_a_regex_are_written_in_each_way() {
    let rules = "          relabel_configs:
            - {source_labels: [a], target_label: b, replacement: $1}
            - {source_labels: [a], target_label: b, replacement: $$1}
            - {source_labels: [a], target_label: b, replacement: '$${1}:$$2'}
            - {source_labels: [a], target_label: b, replacement: '${1}'}
            - {source_labels: [a], target_label: b, replacement: $$$$1, regex: '${env:CLASS}$'}
            - {source_labels: [a], target_label: b, regex: '${env:CLASS}'}";
    let config = read(&collector(rules, ""));
    let rules = &config.jobs[0].scrape.relabel_configs;
    let written: Vec<&str> = rules.iter().map(|rule| rule.replacement.as_str()).collect();
    assert_eq!(written, ["$1", "$1", "${1}:$2", "${1}", "$$1", "$1"]);
    assert_eq!(rules[4].regex.as_deref(), Some("[abc]$"));
    assert_eq!(rules[5].regex.as_deref(), Some("[abc]"));
    assert_eq!(
        warnings(&config),
        [
            "collector.yaml:11:66: ${1} is taken as a group of a regex; the OpenTelemetry Collector wants $${1} there in \
          receivers.prometheus.config.scrape_configs[0].relabel_configs[3].replacement"
        ]
    );
}

#[test]
fn variables_become_what_is_asked_for() {
    let config = read(&collector(
        "          sample_limit: ${env:LIMIT}
          honor_labels: ${env:UNSET:-true}
          static_configs: [{targets: '${env:TARGETS}', labels: {cluster: 'of-${env:CLUSTER}', none: '${UNSET}'}}]",
        "    timeout: ${env:UNSET:-7s}",
    ));
    let job = &config.jobs[0];
    assert_eq!((job.scrape.sample_limit, job.scrape.honor_labels), (16, true));
    let group = &job.discovery.static_configs[0];
    assert_eq!(group.targets, ["a:80", "b:80"]);
    assert_eq!(group.labels.get("cluster").map(|value| value.as_str()), Some("of-blue"));
    assert_eq!(config.remote_write[0].write.remote_timeout, PromDuration::from_secs(7));
    assert_eq!(
        warnings(&config),
        ["collector.yaml:9:101: the environment variable UNSET is not set in \
          receivers.prometheus.config.scrape_configs[0].static_configs[0].labels.none"]
    );
}

/// Each key of the exporter: what it says, and what becomes of it.
#[test]
fn every_key_of_the_exporter() {
    let write = |lines: &str| {
        let lines: Vec<String> = lines.lines().map(|line| format!("    {line}")).collect();
        let mut config = read(&collector("", &lines.join("\n")));
        (config.remote_write.remove(0), config)
    };
    let noted = |lines: &str, key: &str| {
        let (_, config) = write(lines);
        let expected = format!("collector.yaml:11:5: {key} has no effect: ");
        assert!(
            warnings(&config).len() == 1 && warnings(&config)[0].starts_with(&expected),
            "{key}: {:?}",
            warnings(&config)
        );
    };
    for (key, value) in [
        ("remote_write_queue", "{enabled: true, queue_size: 100, num_consumers: 5}"),
        ("sending_queue", "{enabled: true}"),
        ("retry_on_failure", "{enabled: true, max_elapsed_time: 0}"),
        ("wal", "{directory: /var/lib/wal}"),
        ("max_batch_size_bytes", "3000000"),
        ("include_metadata_keys", "[X-Tenant]"),
        ("keep_classic_histograms", "true"),
        ("export_created_metric", "{enabled: true}"),
        ("compression", "snappy"),
        ("compression_params", "{level: 1}"),
        ("read_buffer_size", "0"),
        ("write_buffer_size", "524288"),
        ("max_idle_conns", "100"),
        ("max_idle_conns_per_host", "5"),
        ("max_conns_per_host", "5"),
        ("idle_conn_timeout", "90s"),
        ("disable_keep_alives", "true"),
        ("http2_read_idle_timeout", "1s"),
        ("http2_ping_timeout", "1s"),
        ("force_attempt_http2", "true"),
        ("cookies", "{enabled: true}"),
    ] {
        noted(&format!("{key}: {value}"), key);
        // A key without a value says nothing.
        let (_, config) = write(&format!("{key}:"));
        assert!(config.warnings.is_empty(), "{key}: {:?}", warnings(&config));
    }

    let (endpoint, config) = write(
        "timeout: 1m30s
max_batch_request_parallelism: 4
send_metadata: true
protobuf_message: io.prometheus.write.v2.Request
headers: {X-Scope-OrgID: team-a}
proxy_url: http://proxy:3128
tls: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem, server_name_override: amp, min_version: '1.3'}
external_labels: {cluster: blue}
add_metric_suffixes: false
disable_scope_info: true
target_info: {enabled: false}
middlewares: []
resource_constant_labels: {included: []}
convert_explicit_histograms_to_nhcb: false",
    );
    assert!(config.warnings.is_empty(), "{:?}", warnings(&config));
    let write_config = &endpoint.write;
    assert_eq!(write_config.remote_timeout, PromDuration::from_secs(90));
    assert_eq!(write_config.queue_config.max_shards, 4);
    assert_eq!(write_config.protobuf_message, ProtobufMessage::V2);
    assert!(write_config.metadata_config.send);
    assert_eq!(write_config.headers, BTreeMap::from([("X-Scope-OrgID".to_owned(), "team-a".to_owned())]));
    assert_eq!(endpoint.http.proxy_url.expose(), "http://proxy:3128");
    assert!(!endpoint.http.proxy_from_environment);
    let tls = &endpoint.http.tls_config;
    assert_eq!((tls.ca_file.as_path(), tls.server_name.as_str()), (Path::new("ca.pem"), "amp"));
    assert_eq!(config.global.external_labels, Labels::from_pairs([("cluster", "blue")]));
    assert_eq!(config.differences.len(), 2, "{:?}", config.differences);

    let (endpoint, _) = write("headers: [{name: X-A, value: b}]");
    assert_eq!(endpoint.write.headers, BTreeMap::from([("X-A".to_owned(), "b".to_owned())]));
    let (endpoint, config) = write("timeout: 0s");
    assert_eq!(endpoint.write.remote_timeout, PromDuration::from_secs(30));
    assert_eq!(config.warnings.len(), 1);
    let (_, config) = write("resource_to_telemetry_conversion: {enabled: true}");
    assert!(config.differences.iter().any(|text| text.contains("service_name")), "{:?}", config.differences);
    let (_, config) = write("translation_strategy: UnderscoreEscapingWithoutSuffixes");
    assert!(!config.differences.iter().any(|text| text.contains("_total")), "{:?}", config.differences);
    let (_, config) = write("external_labels: {cluster.name: blue}");
    assert_eq!(config.global.external_labels, Labels::from_pairs([("cluster_name", "blue")]));
    assert!(warnings(&config)[0].contains("is sent as cluster_name"), "{:?}", warnings(&config));
    let (endpoint, _) = write("namespace: shop");
    let rule = &endpoint.write.write_relabel_configs[0];
    assert_eq!((rule.target_label.as_str(), rule.replacement.as_str()), ("__name__", "shop_${1}"));
}

#[test]
fn the_newer_http_block_is_read() {
    let text = collector("", "").replace(
        "    endpoint: http://127.0.0.1:9/write\n",
        "    http: {endpoint: 'http://127.0.0.1:9/new', timeout: 9s, headers: {X-A: b}, compression: snappy}\n",
    );
    let config = read(&text);
    let write = &config.remote_write[0].write;
    assert_eq!(
        (write.url.as_str(), write.remote_timeout),
        ("http://127.0.0.1:9/new", PromDuration::from_secs(9))
    );
    assert_eq!(write.headers["X-A"], "b");
    assert!(
        warnings(&config)[0].ends_with("in exporters.prometheusremotewrite.http"),
        "{:?}",
        warnings(&config)
    );
}

#[test]
fn every_key_of_the_receiver() {
    let receiver =
        |lines: &str| collector("", "").replace("    config:\n", &format!("    {lines}\n    config:\n"));
    for (key, value) in [
        ("scrape_on_shutdown", "true"),
        ("discovery_reload_on_startup", "true"),
        ("initial_scrape_offset", "5s"),
        ("use_start_time_metric", "true"),
        ("start_time_metric_regex", "'^process_start'"),
        ("use_created_metric", "true"),
        ("preserve_untyped", "true"),
        ("buffer_period", "1s"),
        ("buffer_count", "1"),
        ("report_extra_scrape_metrics", "true"),
        ("api_server", "{enabled: true}"),
    ] {
        let config = read(&receiver(&format!("{key}: {value}")));
        let expected = format!("collector.yaml:4:5: {key} has no effect: ");
        assert!(warnings(&config)[0].starts_with(&expected), "{key}: {:?}", warnings(&config));
        assert_eq!(config.jobs.len(), 1);
    }
    for silent in ["trim_metric_suffixes: false", "api_server: {enabled: false}", "target_allocator:"] {
        assert!(read(&receiver(silent)).warnings.is_empty(), "{silent}");
    }
}

#[test]
fn the_receivers_external_labels_replace_and_the_exporters_fill_in() {
    let text = collector("", "    external_labels: {cluster: of-exporter, team: $$a}").replace(
        "      scrape_configs:\n",
        "      global: {external_labels: {cluster: '${env:CLUSTER}', price: 1$$$$}}\n      scrape_configs:\n",
    );
    let config = read(&text);
    let expected = [("cluster", "blue"), ("price", "1$"), ("team", "$a")];
    assert_eq!(config.global.external_labels, Labels::from_pairs(expected));
    let rules = &config.remote_write[0].write.write_relabel_configs;
    let replaced: Vec<_> =
        rules.iter().map(|rule| (rule.target_label.as_str(), rule.replacement.as_str())).collect();
    assert_eq!(replaced, [("cluster", "blue"), ("price", "1$$")]);
    assert!(rules.iter().all(|rule| rule.action == Action::Replace && rule.source_labels.is_empty()));
}

#[test]
fn exporters_with_labels_of_their_own_get_rules() {
    let text = "
receivers: {prometheus: {config: {scrape_configs: [{job_name: a}]}}}
exporters:
  prometheusremotewrite/a: {endpoint: 'http://a/', external_labels: {to: a}}
  prometheus_remote_write/b: {endpoint: 'http://a/', external_labels: {to: b}}
service: {pipelines: {metrics: {receivers: [prometheus], exporters: [prometheusremotewrite/a, prometheus_remote_write/b]}}}
";
    let config = read(text);
    assert!(config.global.external_labels.is_empty());
    let names: Vec<String> = config.remote_write.iter().map(|endpoint| endpoint.write.key()).collect();
    assert_eq!(names, ["prometheusremotewrite/a", "prometheus_remote_write/b"]);
    let rule = RelabelConfig {
        source_labels: vec!["to".into()],
        regex: Some("".into()),
        target_label: "to".into(),
        replacement: "b".into(),
        ..RelabelConfig::default()
    };
    assert_eq!(config.remote_write[1].write.write_relabel_configs, [rule]);
}

#[test]
fn a_path_that_amp_does_not_have_is_warned_of() {
    let host = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1";
    for (path, expected) in [
        ("/api/v1/remote_write", None),
        ("/api/v1/remote_write/", Some("ends with a slash")),
        ("/", Some("another path than")),
    ] {
        let otel = read(&collector("", "").replace("http://127.0.0.1:9/write", &format!("{host}{path}")));
        let prometheus = format!("remote_write:\n  - url: {host}{path}\n");
        let prometheus =
            Config::from_prometheus(Path::new("prometheus.yml"), &prometheus, &NoFiles, &environment)
                .unwrap();
        for (config, at) in [
            (otel, "collector.yaml:10:15: AMP answers 403"),
            (prometheus, "prometheus.yml:2:10: AMP answers 403"),
        ] {
            match expected {
                None => assert!(config.warnings.is_empty(), "{:?}", warnings(&config)),
                Some(expected) => {
                    let said = &warnings(&config)[0];
                    assert!(said.starts_with(at) && said.contains(expected), "{said}");
                }
            }
        }
    }
}

#[test]
fn sigv4auth_signs_as_it_says() {
    let signed = |extension: &str, endpoint: &str| {
        let text =
            collector("", "    external_labels: {cluster: a}\n    auth: {authenticator: sigv4auth/amp}")
                .replace("http://127.0.0.1:9/write", endpoint)
                .replace("service:\n", "service:\n  extensions: [sigv4auth/amp]\n");
        let mut config = read(&format!("{text}extensions:\n  sigv4auth/amp:{extension}\n"));
        assert!(config.warnings.is_empty(), "{:?}", warnings(&config));
        config.remote_write.remove(0).sigv4.unwrap()
    };
    // Without a word, the endpoint's host tells both.
    let sigv4 =
        signed("", "https://aps-workspaces.us-east-2.amazonaws.com/workspaces/ws/api/v1/remote_write");
    assert_eq!((sigv4.region.as_deref(), sigv4.service()), (Some("us-east-2"), "aps"));
    assert!(sigv4.credentials().roles.is_empty());
    // The region may be the environment's.
    let sigv4 = signed(" {service: aps}", "http://127.0.0.1:9/write");
    assert_eq!((sigv4.region.as_deref(), sigv4.service()), (Some("eu-west-1"), "aps"));
    let sigv4 = signed(
        " {region: eu-central-1, service: aps, assume_role: {arn: 'arn:aws:iam::123456789012:role/hub', \
         session_name: s-1, sts_region: eu-north-1, external_id: e-1}}",
        "http://127.0.0.1:9/write",
    );
    let role = &sigv4.credentials().roles[0];
    assert_eq!(role.role_arn, "arn:aws:iam::123456789012:role/hub");
    assert_eq!((role.session_name.as_deref(), role.external_id.as_deref()), (Some("s-1"), Some("e-1")));
    assert_eq!(role.sts_region.as_deref(), Some("eu-north-1"));
    sigv4.validate().unwrap();
    let sigv4 = signed(
        " {assume_role: {arn: 'arn:aws:iam::123456789012:role/web', web_identity_token_file: /var/token}}",
        AMP,
    );
    let role = &sigv4.credentials().roles[0];
    assert_eq!(role.web_identity_token_file.as_deref(), Some(Path::new("/var/token")));
    sigv4.validate().unwrap();
}

#[test]
fn what_moves_data_otherwise_is_noted() {
    let text = "
receivers: {prometheus/apps: {config: {scrape_configs: [{job_name: a}]}}, otlp: {protocols: {grpc: }}}
processors: {batch/metrics: {timeout: 60s}, memory_limiter: {check_interval: 1s}, resourcedetection: {detectors: [eks]}}
exporters: {prometheusremotewrite: {endpoint: 'http://a/'}, debug: {verbosity: detailed}, awsxray: }
extensions: {health_check: {endpoint: '127.0.0.1:1', path: /live}, pprof: {endpoint: ':1888'}, zpages: }
service:
  extensions: [pprof, health_check]
  pipelines:
    metrics/apps:
      receivers: [prometheus/apps]
      processors: [batch/metrics, memory_limiter, resourcedetection]
      exporters: [debug, prometheusremotewrite]
  telemetry: {logs: {level: DEBUG, encoding: json}, metrics: {level: none}}
";
    let config = read(text);
    assert_eq!(
        warnings(&config),
        [
            "collector.yaml:5:68: pprof has no effect: there is no Go runtime to look into in extensions",
            "collector.yaml:11:20: batch/metrics has no effect: requests are filled as far as the endpoint takes them in \
             service.pipelines.metrics/apps.processors[0]",
            "collector.yaml:11:35: memory_limiter has no effect: memory is kept within the process' own limit in \
             service.pipelines.metrics/apps.processors[1]",
            "collector.yaml:11:51: resourcedetection has no effect: resource attributes are not sent in \
             service.pipelines.metrics/apps.processors[2]",
            "collector.yaml:12:19: debug has no effect: samples are not written to the log; the status page shows what \
             is scraped and delivered in service.pipelines.metrics/apps.exporters[0]",
            "collector.yaml:2:75: otlp is not used: service names it nowhere in receivers",
            "collector.yaml:4:91: awsxray is not used: service names it nowhere in exporters",
            "collector.yaml:5:96: zpages is not used: service names it nowhere in extensions",
            "collector.yaml:13:53: metrics has no effect: this program's own metrics are at --web.listen-address under \
             /metrics in service.telemetry",
            "collector.yaml:13:36: encoding has no effect: --log.format says how the log is written in \
             service.telemetry.logs",
        ]
    );
    assert_eq!(config.log_level, Some(LogLevel::Debug));
    let health_check = HealthCheck { endpoint: "127.0.0.1:1".to_owned(), path: "/live".to_owned() };
    assert_eq!(config.health_check, Some(health_check));
}

struct Disk(BTreeMap<&'static str, String>);

impl Files for Disk {
    fn matching(&self, _pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path.to_str().unwrap_or_default()).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[test]
fn several_files_are_one_configuration() {
    let disk = Disk(BTreeMap::from([
        ("base.yaml", collector("          sample_limit: 10", "    timeout: 5s")),
        (
            "more.yaml",
            "exporters:\n  prometheusremotewrite:\n    timeout: ${file:timeout.txt}\n    headers: {X-A: b}\n"
                .to_owned(),
        ),
        ("timeout.txt", "9s".to_owned()),
        ("wrong.yaml", "exporters:\n  prometheusremotewrite:\n    headerz: {X-A: secret}\n".to_owned()),
    ]));
    let load = |uris: &[&str], sets: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let sources = Sources::OpenTelemetry { uris: owned(uris), sets: owned(sets) };
        Config::load(&sources, &disk, &environment)
    };
    let config = load(
        &["base.yaml", "file:more.yaml"],
        &["exporters.prometheusremotewrite.send_metadata=true", "service.telemetry.logs.level=warn"],
    );
    let config = config.unwrap();
    let write = &config.remote_write[0].write;
    assert_eq!((write.remote_timeout, write.metadata_config.send), (PromDuration::from_secs(9), true));
    assert_eq!((write.url.as_str(), write.headers["X-A"].as_str()), ("http://127.0.0.1:9/write", "b"));
    assert_eq!(config.jobs[0].scrape.sample_limit, 10);
    assert_eq!(config.log_level, Some(LogLevel::Warn));
    let read: Vec<&Path> = config.included_files.iter().map(PathBuf::as_path).collect();
    assert_eq!(read, [Path::new("base.yaml"), Path::new("more.yaml"), Path::new("timeout.txt")]);

    // Lists are not merged: a later one replaces.
    let config = load(&["base.yaml", "env:AOT_CONFIG_CONTENT"], &[]).unwrap();
    assert_eq!(config.jobs[0].scrape.job_name, "of_env");
    let config =
        load(&["base.yaml", "yaml:exporters: {prometheusremotewrite: {endpoint: 'http://b/'}}"], &[])
            .unwrap();
    assert_eq!(config.remote_write[0].write.url, "http://b/");

    // Errors name the file that the place is in.
    let error = load(&["base.yaml", "wrong.yaml"], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wrong.yaml:3:5: unknown key \"headerz\" in exporters.prometheusremotewrite (did you mean \"headers\"?)"
    );
    assert!(error.excerpt().contains("3 |     headerz") && !error.excerpt().contains("secret"), "{error:#}");
    for (uris, sets, expected) in [
        (&["missing.yaml"][..], &[][..], "missing.yaml: cannot be read: entity not found"),
        (&["env:MISSING"], &[], "--config=env:MISSING: the environment variable MISSING is not set"),
        (
            &["s3://bucket.s3.eu-west-1.amazonaws.com/key"],
            &[],
            "--config=s3://bucket.s3.eu-west-1.amazonaws.com/key: not supported yet: a configuration from the network; \
             there are a path, file:, env: and yaml:",
        ),
        (
            &["base.yaml"],
            &["service"],
            "--set service: expected KEY=VALUE, as in service.telemetry.logs.level=debug",
        ),
        (
            &["base.yaml"],
            &["exporters.prometheusremotewrite.timeout=soon"],
            "--set exporters.prometheusremotewrite.timeout:1:1: \"soon\" is no duration (write it like 30s, 500ms or \
             1m30s) in exporters.prometheusremotewrite.timeout",
        ),
    ] {
        assert_eq!(load(uris, sets).unwrap_err().to_string(), expected);
    }
}

#[test]
fn either_flag_takes_a_hint() {
    let disk = Disk(BTreeMap::from([("collector.yaml", collector("", ""))]));
    let sources = Sources::Prometheus(PathBuf::from("collector.yaml"));
    let config = Config::load(&sources, &disk, &environment).unwrap();
    assert_eq!((config.dialect, config.jobs.len()), (Dialect::OpenTelemetry, 1));
    assert_eq!(
        warnings(&config),
        [
            "collector.yaml:2:1: this is the OpenTelemetry Collector's configuration and read as such; --config is the \
          flag for it"
        ]
    );
}

/// Published configurations: each file says after which.
#[test]
fn published_configurations_are_accepted() {
    let read_file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/otel").join(name);
        read(&std::fs::read_to_string(path).unwrap())
    };
    let names = |config: &Config| -> Vec<String> {
        config.jobs.iter().map(|job| job.scrape.job_name.clone()).collect()
    };

    let ecs = read_file("ecs.yaml");
    assert_eq!(names(&ecs), ["application"]);
    assert_eq!(ecs.jobs[0].discovery.static_configs[0].targets, ["127.0.0.1:9404"]);
    assert_eq!(ecs.remote_write[0].write.url, AMP);
    assert!(ecs.remote_write[0].write.is_amp());
    assert_eq!(ecs.remote_write[0].sigv4.as_ref().unwrap().region.as_deref(), Some("eu-west-1"));
    assert_eq!(ecs.health_check, Some(HealthCheck::default()));

    let state = read_file("kube-state-metrics.yaml");
    assert_eq!(names(&state), ["kube-state-metrics"]);
    assert_eq!(state.warnings.len(), 1, "{:?}", warnings(&state));

    let fargate = read_file("fargate.yaml");
    assert_eq!(names(&fargate), ["kubernetes-service-endpoints"]);
    assert_eq!(fargate.jobs[0].discovery.kubernetes_sd_configs[0].role, KubernetesRole::Endpoints);
    assert_eq!(fargate.jobs[0].scrape.relabel_configs[0].regex.as_deref(), Some("true"));
    assert_eq!(fargate.health_check, Some(HealthCheck::default()));
    assert_eq!(fargate.remote_write[0].sigv4.as_ref().unwrap().service(), "aps");

    let operator = read_file("operator.yaml");
    assert_eq!(names(&operator), ["kubernetes-nodes-cadvisor", "kubernetes-pods"]);
    let scrape = &operator.jobs[0].scrape;
    assert_eq!(scrape.relabel_configs[2].replacement, "/api/v1/nodes/$1/proxy/metrics/cadvisor");
    let token = scrape.http.bearer_token_file.clone();
    assert_eq!(token, PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount/token"));
    let pods: Vec<&str> =
        operator.jobs[1].scrape.relabel_configs.iter().map(|rule| rule.replacement.as_str()).collect();
    assert_eq!(pods, ["$1", "$1", "$1", "$1:$2", "__param_$1", "$1", "$1", "$1", "$1"]);
    assert_eq!(operator.global.external_labels, Labels::from_pairs([("cluster", "blue")]));
}
