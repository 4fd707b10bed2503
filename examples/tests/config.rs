//! The configurations in `config/` and `gateways/` load, and say what they are there to show.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use promferry_config::{Config, DiskFiles, Files};
use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::RelabelRules;

/// The disk, where the secrets that pods mount are there.
struct WithSecrets;

impl Files for WithSecrets {
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        DiskFiles.matching(pattern)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        DiskFiles.read(path)
    }
}

fn load_all() -> BTreeMap<String, Config> {
    let folders = ["config", "gateways"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    let mut configs = BTreeMap::new();
    for entry in folders.iter().flat_map(|folder| folder.read_dir().unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        let config = Config::load_prometheus(&path, &WithSecrets, &|_: &str| None)
            .unwrap_or_else(|error| panic!("{error:#}"));
        configs.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), config);
    }
    configs
}

#[test]
fn every_configuration_loads_without_a_warning() {
    let configs = load_all();
    assert_eq!(
        configs.keys().collect::<Vec<_>>(),
        [
            "api-server-nodes",
            "api-server-pods",
            "applications-by-host",
            "blackbox",
            "hub-account",
            "kubernetes-namespace",
            "kubernetes-pods",
            "kubernetes-slices",
            "posit-connect",
            "ray-file-sd",
            "ray-http-sd",
            "ray-pods",
            "ray-via-head",
            "ray-via-heads"
        ]
    );
    for (name, config) in &configs {
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
        assert!(!config.jobs.is_empty() && !config.remote_write.is_empty(), "{name}");
        for endpoint in &config.remote_write {
            assert!(endpoint.sigv4.is_some(), "{name}: AMP takes only signed requests");
        }
    }
}

#[test]
fn targets_behind_a_gateway_keep_an_instance_of_their_own() {
    let configs = load_all();
    for (file, job, address, path, gateway) in [
        ("ray-via-head", 0, "10.0.0.7:8080", "/node/10.0.0.7/8080/metrics", "ray-gateway.ray.svc:80"),
        ("posit-connect", 1, "6f0e", "/content/6f0e/metrics", "connect.example.com:443"),
    ] {
        let rules = &configs[file].jobs[job].scrape.relabel_configs;
        let rules = RelabelRules::compile(rules, NameValidation::Utf8).unwrap();
        let mut labels = LabelsBuilder::from(&Labels::from_pairs([("__address__", address)]));
        assert!(rules.apply(&mut labels));
        assert_eq!(
            (labels.get("instance"), labels.get("__metrics_path__"), labels.get("__address__")),
            (address, path, gateway),
            "{file}"
        );
    }
}

#[test]
fn pods_are_scraped_where_their_annotations_say() {
    let rules = &load_all()["kubernetes-pods"].jobs[0].scrape.relabel_configs;
    let rules = RelabelRules::compile(rules, NameValidation::Utf8).unwrap();
    let annotation = "__meta_kubernetes_pod_annotation_prometheus_io_";
    let pod = |annotations: &[(&str, &str)], phase: &str| {
        let given =
            annotations.iter().map(|(name, value)| (format!("{annotation}{name}"), (*value).to_owned()));
        let own = [
            ("__address__", "10.0.0.1:5432"),
            ("__metrics_path__", "/metrics"),
            ("__scheme__", "http"),
            ("__meta_kubernetes_pod_ip", "10.0.0.1"),
            ("__meta_kubernetes_pod_phase", phase),
            ("__meta_kubernetes_pod_name", "web-1"),
        ];
        let labels = given.chain(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut labels = LabelsBuilder::from(&Labels::from_pairs(labels));
        let url = |labels: &LabelsBuilder| {
            ["__scheme__", "__address__", "__metrics_path__"]
                .map(|name| labels.get(name).to_owned())
                .join(" ")
        };
        rules.apply(&mut labels).then(|| url(&labels))
    };
    let scraped = ("scrape", "true");
    assert_eq!(pod(&[scraped], "Running").as_deref(), Some("http 10.0.0.1:5432 /metrics"));
    let all = [scraped, ("port", "8080"), ("path", "/m"), ("scheme", "https")];
    assert_eq!(pod(&all, "Running").as_deref(), Some("https 10.0.0.1:8080 /m"));
    assert_eq!(pod(&[("scrape", "false")], "Running"), None);
    assert_eq!(pod(&[scraped], "Succeeded"), None);
}
