//! What a user is told about a configuration of the OpenTelemetry Collector that cannot be used. Texts are pinned:
//! they are the product.

use promferry_config::{Config, ConfigError, ErrorKind, NoFiles};

fn refuse(text: &str) -> ConfigError {
    let environment = |_: &str| None;
    match Config::from_opentelemetry("collector.yaml".as_ref(), text, &NoFiles, &environment) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error,
    }
}

/// What is right, with something in place of each part.
struct Collector {
    receiver: &'static str,
    exporter: &'static str,
    extensions: &'static str,
    pipelines: &'static str,
    rest: &'static str,
}

const RIGHT: Collector = Collector {
    receiver: "{config: {scrape_configs: [{job_name: a}]}}",
    exporter: "{endpoint: 'http://a/'}",
    extensions: "{}",
    pipelines: "metrics: {receivers: [prometheus], exporters: [prometheusremotewrite]}",
    rest: "",
};

impl Collector {
    /// Line 1 is the receiver, 2 the exporter, 3 the extensions, 5 the extensions that run, 7 the pipelines.
    fn text(&self) -> String {
        format!(
            "receivers: {{otlp: , prometheus: {}}}\nexporters: {{awsemf: , prometheusremotewrite: {}}}\nextensions: \
             {}\nservice:\n  extensions: [sigv4auth, basicauth]\n  pipelines:\n    {}\n{}",
            self.receiver,
            self.exporter,
            if self.extensions == "{}" {
                "{sigv4auth: {service: aps, region: eu-west-1}, basicauth: }"
            } else {
                self.extensions
            },
            self.pipelines,
            self.rest
        )
    }
}

fn receiver(receiver: &'static str) -> String {
    Collector { receiver, ..RIGHT }.text()
}

fn exporter(exporter: &'static str) -> String {
    Collector { exporter, ..RIGHT }.text()
}

fn pipelines(pipelines: &'static str) -> String {
    Collector { pipelines, ..RIGHT }.text()
}

#[test]
fn each_says_what_is_wrong_and_where() {
    use ErrorKind::{DuplicateKey, Syntax, UnknownKey, Unsupported, Value};
    let cases = [
        (Syntax, "receivers: [\n".to_owned(), ""),
        (DuplicateKey, "service: {}\nservice: {}\n".to_owned(), "2:1: the key \"service\" was already set in line 1"),
        (Value, "- a\n".to_owned(), "1:1: expected a mapping of keys to values, found a list"),
        (Value, "receivers: {}\n".to_owned(), "1:1: service is missing: its pipelines say what runs"),
        (
            UnknownKey,
            Collector { rest: "exportters: {}\n", ..RIGHT }.text(),
            "8:1: unknown key \"exportters\" (did you mean \"exporters\"?)",
        ),
        (
            Unsupported,
            "scrape_configs: []\nservice: {}\n".to_owned(),
            "1:1: scrape_configs belongs to Prometheus' configuration, which --config.file takes; in the collector's it \
             stands below receivers.prometheus.config",
        ),
        (
            Unsupported,
            Collector { rest: "connectors: {forward: }\n", ..RIGHT }.text(),
            "8:14: not supported: connectors; each pipeline stands for itself in connectors",
        ),
        // The receiver.
        (
            UnknownKey,
            receiver("{confg: {}}"),
            "1:34: unknown key \"confg\" in receivers.prometheus (did you mean \"config\"?)",
        ),
        (
            UnknownKey,
            receiver("{config: {scrape_configs: [{job_name: a, scrape_intervall: 5s}]}}"),
            "1:74: unknown key \"scrape_intervall\" in receivers.prometheus.config.scrape_configs[0] (did you mean \
             \"scrape_interval\"?)",
        ),
        (
            Value,
            receiver("{config: {global: {scrape_interval: soon}}}"),
            "1:34: neither scrape_configs nor scrape_config_files: there is nothing to scrape in \
             receivers.prometheus.config",
        ),
        (Value, receiver("{config: }"), "1:34: config is missing: it holds scrape_configs in receivers.prometheus.config"),
        (Value, receiver(""), "1:21: config is missing: it holds scrape_configs in receivers.prometheus.config"),
        (
            Unsupported,
            receiver("{config: {scrape_configs: [{job_name: a}], remote_write: [{url: 'http://a/'}]}}"),
            "1:76: where samples go is for the exporter prometheusremotewrite to say, not for the receiver in \
             receivers.prometheus.config.remote_write",
        ),
        (
            Unsupported,
            receiver("{config: {scrape_configs: [{job_name: a}]}, target_allocator: {endpoint: 'http://ta'}}"),
            "1:77: not supported: a target allocator; write the jobs into config.scrape_configs in \
             receivers.prometheus.target_allocator",
        ),
        (
            Unsupported,
            receiver("{config: {scrape_configs: [{job_name: a}]}, trim_metric_suffixes: true}"),
            "1:77: not supported: names without their suffixes; metric_relabel_configs can rename them in \
             receivers.prometheus.trim_metric_suffixes",
        ),
        (
            Value,
            receiver("{config: {scrape_configs: [{job_name: a, relabel_configs: [{replacement: '${env:a-b}'}]}]}}"),
            "1:106: ${env:a-b}: \"a-b\" is not the name of an environment variable: letters, digits and _, no digit \
             first in receivers.prometheus.config.scrape_configs[0].relabel_configs[0].replacement",
        ),
        // Databricks' sample for ADOT has it, meaning ${env:SPARK_LOCAL_IP}:40000.
        (
            Value,
            receiver("{config: {scrape_configs: [{job_name: a, static_configs: [{targets: ['${env:IP:40000}']}]}]}}"),
            "1:102: ${env:IP:40000}: \"IP:40000\" is not the name of an environment variable: letters, digits and _, no \
             digit first in receivers.prometheus.config.scrape_configs[0].static_configs[0].targets[0]",
        ),
        // The exporter.
        (
            UnknownKey,
            exporter("{endpoint: 'http://a/', endpiont: x}"),
            "2:70: unknown key \"endpiont\" in exporters.prometheusremotewrite (did you mean \"endpoint\"?)",
        ),
        (
            UnknownKey,
            exporter("{http: {endpoint: 'http://a/', headder: x}}"),
            "2:77: unknown key \"headder\" in exporters.prometheusremotewrite.http (did you mean \"headers\"?)",
        ),
        (
            Value,
            exporter("{http: {endpoint: 'http://a/'}, endpoint: 'http://b/'}"),
            "2:78: endpoint stands beside http, which replaces it: write it as http.endpoint in \
             exporters.prometheusremotewrite.endpoint",
        ),
        (
            Value,
            exporter("{timeout: 5s}"),
            "2:23: endpoint is missing: \
             https://aps-workspaces.REGION.amazonaws.com/workspaces/ID/api/v1/remote_write in \
             exporters.prometheusremotewrite.endpoint",
        ),
        (
            Value,
            exporter("{endpoint: <https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write>}"),
            "2:57: the endpoint is still a placeholder: write the workspace's own URL there, without < and > in \
             exporters.prometheusremotewrite.endpoint",
        ),
        (
            Value,
            exporter("{endpoint: AMP_REMOTE_WRITE_URL}"),
            "2:57: the endpoint is no URL; it has to begin with https:// or http:// in \
             exporters.prometheusremotewrite.endpoint",
        ),
        (
            Value,
            exporter("{endpoint: 'http://${env:PROMFERRY_NEVER_SET}/api/v1/write'}"),
            "2:57: the endpoint has no host; where that comes from a variable, it is not set or empty in \
             exporters.prometheusremotewrite.endpoint",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', timeout: 5}"),
            "2:79: \"5\" is no duration (write it like 30s, 500ms or 1m30s) in exporters.prometheusremotewrite.timeout",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', max_batch_request_parallelism: 0}"),
            "2:101: max_batch_request_parallelism has to be at least 1 in \
             exporters.prometheusremotewrite.max_batch_request_parallelism",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', headers: {Content-Type: x}}"),
            "2:94: Content-Type is a reserved header and can't be set here in \
             exporters.prometheusremotewrite.headers.Content-Type",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', protobuf_message: v2}"),
            "",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', external_labels: {cluster: ''}}"),
            "2:88: an external label needs a name and a value in \
             exporters.prometheusremotewrite.external_labels.cluster",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', namespace: my-shop}"),
            "2:81: \"my-shop\" can't begin the name of a metric: letters, digits, _ and :, no digit first in \
             exporters.prometheusremotewrite.namespace",
        ),
        (
            Unsupported,
            exporter("{endpoint: 'http://a/', convert_explicit_histograms_to_nhcb: true}"),
            "2:70: not supported here; write convert_classic_histograms_to_nhcb: true into the receiver's config.global \
             in exporters.prometheusremotewrite.convert_explicit_histograms_to_nhcb",
        ),
        (
            Unsupported,
            exporter("{endpoint: 'http://a/', middlewares: [{id: a}]}"),
            "2:70: not supported: extensions between the exporter and its server in \
             exporters.prometheusremotewrite.middlewares",
        ),
        (
            Value,
            exporter("{endpoint: 'http://a/', tls: {min_version: TLS12}}"),
            "2:89: \"TLS12\" is no version of TLS; there are 1.0, 1.1, 1.2 and 1.3 in \
             exporters.prometheusremotewrite.tls.min_version",
        ),
        (
            Unsupported,
            exporter("{endpoint: 'http://a/', tls: {ca_file: a, include_system_ca_certs_pool: true}}"),
            "2:88: not supported: the system's certificates beside those of ca_file; write them all into one file in \
             exporters.prometheusremotewrite.tls.include_system_ca_certs_pool",
        ),
        (
            UnknownKey,
            exporter("{endpoint: 'http://a/', retry_on_failur: {}}"),
            "2:70: unknown key \"retry_on_failur\" in exporters.prometheusremotewrite (did you mean \
             \"retry_on_failure\"?)",
        ),
        // Signing.
        (
            Value,
            exporter("{endpoint: 'http://a/', auth: {authenticator: sigv4auht}}"),
            "2:92: \"sigv4auht\" is not declared in extensions in exporters.prometheusremotewrite.auth.authenticator \
             (did you mean \"sigv4auth\"?)",
        ),
        (
            Unsupported,
            exporter("{endpoint: 'http://a/', auth: {authenticator: basicauth}}"),
            "2:92: not supported: signing in with basicauth; there is sigv4auth in \
             exporters.prometheusremotewrite.auth.authenticator",
        ),
        (
            UnknownKey,
            Collector {
                exporter: "{endpoint: 'http://a/', auth: {authenticator: sigv4auth}}",
                extensions: "{sigv4auth: {service: aps, regoin: eu-west-1}, basicauth: }",
                ..RIGHT
            }
            .text(),
            "3:40: unknown key \"regoin\" in extensions.sigv4auth (did you mean \"region\"?)",
        ),
        (
            Value,
            Collector {
                exporter: "{endpoint: 'http://a/', auth: {authenticator: sigv4auth}}",
                extensions: "{sigv4auth: {service: aps}, basicauth: }",
                ..RIGHT
            }
            .text(),
            "3:14: cannot tell the AWS region to sign for from the host \"a\": it is no public AWS endpoint's name; set \
             sigv4auth.region and sigv4auth.service (or AWS_REGION in the environment) in extensions.sigv4auth",
        ),
        (
            Value,
            Collector {
                exporter: "{endpoint: 'http://a/', auth: {authenticator: sigv4auth}}",
                extensions: "{sigv4auth: {region: r, assume_role: {arn: role/x}}, basicauth: }",
                ..RIGHT
            }
            .text(),
            "",
        ),
        // The pipelines.
        (
            Value,
            pipelines("metrics: {receivers: [promtheus], exporters: [prometheusremotewrite]}"),
            "7:27: \"promtheus\" is not declared in receivers in service.pipelines.metrics.receivers[0] (did you mean \
             \"prometheus\"?)",
        ),
        (
            Unsupported,
            pipelines("metrics: {receivers: [prometheus, otlp], exporters: [prometheusremotewrite]}"),
            "7:39: not supported: the receiver otlp; there is prometheus, which scrapes in \
             service.pipelines.metrics.receivers[1]",
        ),
        (
            Unsupported,
            pipelines("metrics: {receivers: [prometheus], exporters: [awsemf, prometheusremotewrite]}"),
            "7:52: not supported: the exporter awsemf; there is prometheusremotewrite in \
             service.pipelines.metrics.exporters[0]",
        ),
        (
            Unsupported,
            Collector {
                pipelines: "metrics: {receivers: [prometheus], processors: [batch, filter/a], exporters: [prometheusremotewrite]}",
                rest: "processors: {batch: , filter/a: }\n",
                ..RIGHT
            }
            .text(),
            "7:60: not supported: the processor filter, which changes what is sent; relabel_configs and \
             metric_relabel_configs of the receiver's jobs can rename and drop in \
             service.pipelines.metrics.processors[1]",
        ),
        (
            Unsupported,
            pipelines("traces: {receivers: [otlp], exporters: [awsemf]}"),
            "7:5: not supported: the pipeline traces; there are pipelines of metrics in service.pipelines",
        ),
        (
            Value,
            pipelines("metrics: {receivers: [], exporters: [prometheusremotewrite]}"),
            "7:5: receivers is empty in service.pipelines.metrics.receivers",
        ),
        (
            Value,
            pipelines("metrics: {receivers: [prometheus]}"),
            "7:5: exporters is empty in service.pipelines.metrics.exporters",
        ),
        (
            UnknownKey,
            pipelines("metrics: {receiver: [prometheus], exporters: [prometheusremotewrite]}"),
            "7:15: unknown key \"receiver\" in service.pipelines.metrics (did you mean \"receivers\"?)",
        ),
        (
            Unsupported,
            "receivers:
  prometheus/a: {config: {scrape_configs: [{job_name: a}]}}
  prometheus/b: {config: {scrape_configs: [{job_name: b}]}}
exporters: {prometheusremotewrite/a: {endpoint: 'http://a/'}, prometheusremotewrite/b: {endpoint: 'http://b/'}}
service:
  pipelines:
    metrics/a: {receivers: [prometheus/a], exporters: [prometheusremotewrite/a]}
    metrics/b: {receivers: [prometheus/b], exporters: [prometheusremotewrite/b]}
"
            .to_owned(),
            "8:5: not supported: metrics/b joins other receivers with other exporters than the pipelines before it; run \
             a collector for each in service.pipelines",
        ),
        (
            Value,
            "receivers:
  prometheus/a: {config: {scrape_configs: [{job_name: a}]}}
  prometheus/b: {config: {scrape_configs: [{job_name: a}]}}
exporters: {prometheusremotewrite: {endpoint: 'http://a/'}}
service: {pipelines: {metrics: {receivers: [prometheus/a, prometheus/b], exporters: [prometheusremotewrite]}}}
"
            .to_owned(),
            "3:55: the job name \"a\" is already used at collector.yaml:2 in \
             receivers.prometheus/b.config.scrape_configs[0].job_name",
        ),
        (
            Unsupported,
            "receivers:
  prometheus/a: {config: {global: {external_labels: {a: b}}, scrape_configs: [{job_name: a}]}}
  prometheus/b: {config: {scrape_configs: [{job_name: b}]}}
exporters: {prometheusremotewrite: {endpoint: 'http://a/'}}
service: {pipelines: {metrics: {receivers: [prometheus/a, prometheus/b], exporters: [prometheusremotewrite]}}}
"
            .to_owned(),
            "3:3: not supported: other external_labels than those of prometheus/a; write them into each job's static \
             labels or metric_relabel_configs in receivers.prometheus/b",
        ),
        (
            Value,
            Collector { rest: "  telemetry: {logs: {level: loud}}\n", ..RIGHT }.text(),
            "8:29: \"loud\" is no level; there are debug, info, warn and error in service.telemetry.logs.level",
        ),
    ];
    let mut wrong = Vec::new();
    for (kind, text, expected) in &cases {
        let error = refuse(text);
        let (said, expected) = (error.to_string(), format!("collector.yaml:{expected}"));
        let alike = if expected.ends_with(':') { said.starts_with(&expected) } else { said == expected };
        if !alike || error.kind() != *kind {
            wrong.push(format!("{:?} {said}\nexpected {kind:?} {expected}", error.kind()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn secrets_are_never_shown() {
    for text in [
        exporter("{endpoint: 'http://a/', headers: {Authorization: hunter2}}"),
        exporter("{endpoint: 'http://a/', headers: [hunter2]}"),
        exporter("{endpoint: 'http://a/', headers: [{name: a, valeu: hunter2}]}"),
        exporter("{endpoint: 'http://a/', headders: {Authorization: hunter2}}"),
        exporter("{endpoint: 'https://u:hunter2@a/', timeout: soon}"),
        exporter("{endpoint: 'u:hunter2@a'}"),
        exporter("{endpoint: 'http://a/', proxy_url: [hunter2]}"),
        exporter("{endpoint: 'http://a/', tls: {key_pem: [hunter2]}}"),
        receiver(
            "{config: {scrape_configs: [{job_name: a, basic_auth: {username: u, passwordd: hunter2}}]}}",
        ),
    ] {
        let error = refuse(&text);
        let shown = format!("{error} {error:#} {error:?}");
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    }
}
