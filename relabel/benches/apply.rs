//! What relabelling costs, one series or target at a time: `cargo bench -p promferry-relabel`.

use divan::{Bencher, black_box};
use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::{Action, RelabelConfig, RelabelRules};

fn main() {
    divan::main();
}

fn rule(action: Action, sources: &[&str], regex: &str, target: &str, replacement: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: sources.iter().map(|name| (*name).into()).collect(),
        regex: Some(regex.into()),
        target_label: target.into(),
        replacement: replacement.into(),
        action,
        ..RelabelConfig::default()
    }
}

fn apply(bencher: Bencher<'_, '_>, labels: &Labels, configs: &[RelabelConfig]) {
    let rules = RelabelRules::compile(configs, NameValidation::Utf8).expect("rules of this file");
    let mut builder = LabelsBuilder::new();
    bencher.bench_local(|| {
        builder.reset(labels);
        black_box(rules.apply(&mut builder))
    });
}

fn series() -> Labels {
    Labels::from_pairs([
        ("__name__", "http_request_duration_seconds_bucket"),
        ("instance", "10.0.0.7:8080"),
        ("job", "api"),
        ("le", "0.5"),
        ("method", "GET"),
        ("path", "/api/v1/orders"),
    ])
}

#[divan::bench]
fn copying_the_labels_alone(bencher: Bencher<'_, '_>) {
    apply(bencher, &series(), &[]);
}

#[divan::bench]
fn drop_by_prefixes(bencher: Bencher<'_, '_>) {
    apply(bencher, &series(), &[rule(Action::Drop, &["__name__"], "go_.*|process_.*|promhttp_.*", "", "$1")]);
}

#[divan::bench]
fn drop_by_a_regex(bencher: Bencher<'_, '_>) {
    apply(bencher, &series(), &[rule(Action::Drop, &["__name__"], "go_[a-z]+_total", "", "$1")]);
}

#[divan::bench]
fn keep_of_ten_literals(bencher: Bencher<'_, '_>) {
    let names = "a|b|c|d|e|f|g|h|i|http_request_duration_seconds_bucket";
    apply(bencher, &series(), &[rule(Action::Keep, &["__name__"], names, "", "$1")]);
}

/// What a job that finds pods by their annotations does to each of them.
#[divan::bench]
fn a_pod(bencher: Bencher<'_, '_>) {
    let meta = |name: &str| format!("__meta_kubernetes_{name}");
    let pod = Labels::from_pairs([
        ("__address__".to_owned(), "10.0.0.7:80"),
        ("__metrics_path__".to_owned(), "/metrics"),
        ("__scheme__".to_owned(), "http"),
        (meta("namespace"), "shop"),
        (meta("pod_name"), "orders-6d5f7c9b8-x2x7q"),
        (meta("pod_phase"), "Running"),
        (meta("pod_ip"), "10.0.0.7"),
        (meta("pod_label_app"), "orders"),
        (meta("pod_label_pod_template_hash"), "6d5f7c9b8"),
        (meta("pod_annotation_prometheus_io_scrape"), "true"),
        (meta("pod_annotation_prometheus_io_port"), "9102"),
        (meta("pod_annotation_prometheus_io_path"), "/actuator/prometheus"),
    ]);
    let annotation = |name: &str| meta(&format!("pod_annotation_prometheus_io_{name}"));
    apply(
        bencher,
        &pod,
        &[
            rule(Action::Keep, &[&annotation("scrape")], "true", "", "$1"),
            rule(Action::Replace, &[&annotation("path")], "(.+)", "__metrics_path__", "$1"),
            rule(
                Action::Replace,
                &["__address__", &annotation("port")],
                r"([^:]+)(?::\d+)?;(\d+)",
                "__address__",
                "$1:$2",
            ),
            rule(Action::LabelMap, &[], "__meta_kubernetes_pod_label_(.+)", "", "$1"),
            rule(Action::Replace, &[&meta("namespace")], "(.*)", "namespace", "$1"),
            rule(Action::Replace, &[&meta("pod_name")], "(.*)", "pod", "$1"),
            rule(Action::Drop, &[&meta("pod_phase")], "Pending|Succeeded|Failed|Completed", "", "$1"),
        ],
    );
}
