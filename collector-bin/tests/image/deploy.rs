//! `deploy/fargate.yaml` and the policies of `docs/fargate.md`: as a cluster takes them, and as a pod of them runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use promferry_aws_stand_in::{Cloud, KubernetesApi, Policy, Sts, Workspaces};
use promferry_bench::farm::Farm;
use promferry_collector::cli::{self, Command};
use promferry_config::{Config, NoFiles};
use promferry_model::{Labels, LabelsBuilder, NameValidation};
use promferry_relabel::RelabelRules;
use serde_json::{Value, json};

use crate::collector::{is_full_tier, output};
use crate::container::Container;
use crate::layout::Layout;
use crate::network::in_own_network;

const MANIFEST: &str = include_str!("../../../deploy/fargate.yaml");
const PAGE: &str = include_str!("../../../docs/fargate.md");

const REGION: &str = "eu-west-1";
const ACCOUNT: &str = "111122223333";
const WORKSPACE: &str = "ws-00000000-0000-0000-0000-000000000000";
/// The issuer of the page's trust policy.
const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const HOUR: Duration = Duration::from_secs(3600);

fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The manifest's object of this kind.
fn object(kind: &str) -> Value {
    objects(MANIFEST).into_iter().find(|object| object["kind"] == kind).unwrap()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// What stands between the page's fences of this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    let parts = PAGE.split(fence.as_str()).skip(1);
    parts.map(|part| part.split("\n```\n").next().unwrap()).collect()
}

#[test]
fn the_manifest_fits_the_smallest_size_and_its_configuration_is_valid() {
    let pod = object("Deployment")["spec"]["template"]["spec"].clone();
    let mut mebibytes = 0;
    let mut millicores = 0;
    for container in pod["containers"].as_array().unwrap() {
        let resources = &container["resources"];
        assert_eq!(resources["requests"], resources["limits"], "Fargate runs nothing else");
        let number = |name: &str, unit: &str| -> u32 {
            let text = resources["requests"][name].as_str().unwrap();
            text.strip_suffix(unit).unwrap().parse().unwrap()
        };
        mebibytes += number("memory", "Mi");
        millicores += number("cpu", "m");
    }
    assert!(mebibytes + 256 <= 512 && millicores <= 250, "{mebibytes} MiB, {millicores} m");
    // A longer stop than Kubernetes allows would be cut off.
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > promferry_collector::run::SHUTDOWN_LIMIT.as_secs(), "{grace} s");

    let arguments = strings(&pod["containers"][0]["args"]);
    let cli = cli::parse(["promferry".to_owned()].into_iter().chain(arguments)).unwrap();
    let Some(Command::Run(args)) = cli.command else { panic!("{:?}", cli.command) };
    assert_eq!(args.warnings(), [""; 0]);

    let folder = tempfile::tempdir().unwrap();
    for (name, text) in object("ConfigMap")["data"].as_object().unwrap() {
        let file = folder.path().join(name);
        std::fs::write(&file, text.as_str().unwrap()).unwrap();
        let (code, answer, said) = output(&["check", "config", &file.display().to_string()]);
        assert_eq!((code, said.as_str()), (0, ""), "{answer}");
        assert!(answer.ends_with("valid, 1 jobs, 1 remote_write endpoints\n"), "{answer}");
    }
}

#[test]
fn a_pods_annotations_say_whether_and_where_it_is_scraped() {
    let map = object("ConfigMap");
    let text = map["data"]["prometheus.yml"].as_str().unwrap();
    let no_environment = |_: &str| None;
    let config =
        Config::from_prometheus(Path::new("prometheus.yml"), text, &NoFiles, &no_environment).unwrap();
    let rules = &config.jobs[0].scrape.relabel_configs;
    let rules = RelabelRules::compile(rules, NameValidation::Utf8).unwrap();
    let annotation = |name: &str| format!("__meta_kubernetes_pod_annotation_prometheus_io_{name}");
    let ip = "__meta_kubernetes_pod_ip".to_owned();
    let to_be_scraped = (annotation("scrape"), "true".to_owned());
    let of = |ip_value: &str, port: &str| {
        vec![to_be_scraped.clone(), (ip.clone(), ip_value.to_owned()), (annotation("port"), port.to_owned())]
    };
    for (mut labels, expected) in [
        (of("10.0.3.7", "9102"), Some("http 10.0.3.7:9102 /metrics")),
        (of("2001:db8::7", "9102"), Some("http [2001:db8::7]:9102 /metrics")),
        // The container's port holds where the annotation is none.
        (of("10.0.3.7", ""), Some("http 10.0.3.7:80 /metrics")),
        (of("10.0.3.7", "metrics"), Some("http 10.0.3.7:80 /metrics")),
        (
            [of("10.0.3.7", "9102"), vec![(annotation("path"), "/stats".to_owned())]].concat(),
            Some("http 10.0.3.7:9102 /stats"),
        ),
        (
            [of("10.0.3.7", "9102"), vec![(annotation("scheme"), "https".to_owned())]].concat(),
            Some("https 10.0.3.7:9102 /metrics"),
        ),
        (
            [
                of("10.0.3.7", "9102"),
                vec![("__meta_kubernetes_pod_phase".to_owned(), "Succeeded".to_owned())],
            ]
            .concat(),
            None,
        ),
        (
            [
                of("10.0.3.7", "9102"),
                vec![("__meta_kubernetes_pod_container_init".to_owned(), "true".to_owned())],
            ]
            .concat(),
            None,
        ),
        (of("10.0.3.7", "9102")[1..].to_vec(), None),
    ] {
        let defaults =
            [("__scheme__", "http"), ("__address__", "10.0.3.7:80"), ("__metrics_path__", "/metrics")];
        labels.extend(defaults.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut target = LabelsBuilder::from(&Labels::from_pairs(labels.clone()));
        let is_kept = rules.apply(&mut target);
        let url = ["__scheme__", "__address__", "__metrics_path__"].map(|name| target.get(name)).join(" ");
        assert_eq!(is_kept.then_some(url.as_str()), expected, "{labels:?}");
    }
}

#[test]
fn the_pages_command_puts_the_users_values_in_the_place_of_every_example() {
    let (_, command) = PAGE.split_once("\nsed -e ").unwrap();
    let (command, _) = command.split_once(" | kubectl apply -f -\n").unwrap();
    let values =
        [("ACCOUNT", "999988887777"), ("REGION", "ap-south-2"), ("CLUSTER", "orders"), ("WORKSPACE", "ws-1")];
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("sed -e {command}")])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .envs(values)
        .output()
        .unwrap();
    let manifest = String::from_utf8(output.stdout).unwrap();
    for example in [ACCOUNT, REGION, WORKSPACE, "example-cluster"] {
        assert!(MANIFEST.contains(example) && !manifest.contains(example), "{example}: {manifest}");
    }
    assert_eq!(objects(&manifest).len(), objects(MANIFEST).len());
}

#[test]
fn the_manifest_is_taken_by_a_real_cluster_and_its_pod_delivers() {
    in_own_network("deploy::the_manifest_is_taken_by_a_real_cluster_and_its_pod_delivers", async |image| {
        let Some(api) = KubernetesApi::start(&peers(), ISSUER).await else {
            assert!(!is_full_tier(), "scripts/peers did not provide kube-apiserver and etcd");
            eprintln!(
                "SKIPPED the_manifest…: no kube-apiserver and etcd, run scripts/peers kube-apiserver etcd"
            );
            return;
        };
        for page in blocks("yaml") {
            take(&api, &objects(page), true).await;
        }
        take(&api, &objects(MANIFEST), true).await;
        take(&api, &objects(MANIFEST), false).await;

        // Two pods to be scraped, one that is not annotated, one that has ended.
        let farm = Farm::start(4, 20).await.unwrap();
        let ports: Vec<_> = farm.addresses().iter().map(|address| address.port().to_string()).collect();
        for (name, scraped, phase, port) in [
            ("one", "true", "Running", &ports[0]),
            ("two", "true", "Running", &ports[1]),
            ("quiet", "false", "Running", &ports[2]),
            ("over", "true", "Succeeded", &ports[3]),
        ] {
            add_pod(
                &api,
                name,
                &json!({ "prometheus.io/scrape": scraped, "prometheus.io/port": port }),
                phase,
            )
            .await;
        }

        // AWS' side, by the page.
        let [trust, permissions] = blocks("json").try_into().unwrap();
        let policy = |text| Policy::parse(text).unwrap();
        let cloud = Cloud::memory();
        let account = object("ServiceAccount");
        let role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].as_str().unwrap();
        cloud.add_provider(ACCOUNT, &api.issuer().await, &["sts.amazonaws.com"]).await;
        cloud.add_role(role, policy(trust), Some(policy(permissions)), HOUR).await;
        let sts = Sts::start(&cloud).await;
        let workspaces = Workspaces::start(&cloud, REGION).await;
        workspaces.add(ACCOUNT, WORKSPACE, None).await;

        let pod = object("Deployment")["spec"]["template"]["spec"].clone();
        let kubelet = Kubelet::of(&api, &sts, &workspaces).await;
        let mut container = kubelet.container(&image, &pod).start();

        let probes = &pod["containers"][0];
        container
            .until("it is ready", async || {
                container.page(probes["readinessProbe"]["httpGet"]["path"].as_str().unwrap()).await.is_some()
            })
            .await;
        assert!(container.page(probes["livenessProbe"]["httpGet"]["path"].as_str().unwrap()).await.is_some());
        let wanted: Vec<_> = farm.addresses()[..2].iter().map(ToString::to_string).collect();
        let arrived = || -> Vec<String> {
            let received = workspaces.received(WORKSPACE);
            received
                .instances
                .into_iter()
                .filter(|(_, one)| one.scrapes.len() > 2)
                .map(|(name, _)| name)
                .collect()
        };
        container
            .until("samples of both pods", async || wanted.iter().all(|name| arrived().contains(name)))
            .await;

        // As the page looks at it, in the same pod.
        let whoami = PAGE.split("exec deployment/promferry -- ").nth(1).unwrap().lines().next().unwrap();
        let command: Vec<_> = whoami.split_whitespace().collect();
        let mut whoami = kubelet.container(&image, &pod).command(&command).start();
        assert_eq!(whoami.exit_code().await, 0, "{}", whoami.log());
        for said in [
            "arn:aws:sts::111122223333:assumed-role/promferry/",
            "sub system:serviceaccount:promferry:promferry",
        ] {
            assert!(whoami.log().contains(said), "{said}: {}", whoami.log());
        }

        assert_eq!(container.terminate().await, 0, "{}", container.log());
        let log = container.log();
        let mut expected = wanted.clone();
        expected.sort_unstable();
        assert_eq!(arrived(), expected, "{log}");
        let requests = workspaces.requests();
        assert!(
            requests.iter().all(|request| request.status.is_some_and(|status| status.is_success())),
            "{requests:?}"
        );
        for line in log.lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "{line}");
        }
    });
}

/// What the kubelet and EKS give a pod of the manifest.
struct Kubelet {
    environment: Vec<(&'static str, String)>,
    files: Vec<(&'static str, String)>,
    /// The workspace, where the test has it.
    remote_write: String,
}

impl Kubelet {
    async fn of(api: &KubernetesApi, sts: &Sts, workspaces: &Workspaces) -> Self {
        const AWS_TOKEN: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token";
        let account = object("ServiceAccount");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (name, namespace) = (text(&account["metadata"]["name"]), text(&account["metadata"]["namespace"]));
        let role = text(&account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]);
        let token = async |audience: &str| api.token(&namespace, &name, audience, HOUR).await;
        Self {
            environment: vec![
                ("KUBERNETES_SERVICE_HOST", api.address().ip().to_string()),
                ("KUBERNETES_SERVICE_PORT", api.address().port().to_string()),
                ("AWS_ROLE_ARN", role),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", AWS_TOKEN.to_owned()),
                ("AWS_REGION", REGION.to_owned()),
                ("AWS_STS_REGIONAL_ENDPOINTS", "regional".to_owned()),
                // Not theirs: where AWS is.
                ("AWS_ENDPOINT_URL_STS", sts.url()),
            ],
            files: vec![
                ("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", api.certificate()),
                ("/var/run/secrets/kubernetes.io/serviceaccount/token", token(ISSUER).await),
                (AWS_TOKEN, token("sts.amazonaws.com").await),
                ("/var/run/secrets/kubernetes.io/serviceaccount/namespace", namespace),
            ],
            remote_write: workspaces.url(WORKSPACE),
        }
    }

    /// The pod's one container, with its volumes.
    fn container(&self, image: &Layout, pod: &Value) -> Container {
        assert_eq!(pod["serviceAccountName"], object("ServiceAccount")["metadata"]["name"]);
        let [of_pod] = pod["containers"].as_array().unwrap().as_slice() else { panic!("{pod}") };
        let mut container = Container::of(image).arguments(&strings(&of_pod["args"]));
        for (name, value) in &self.environment {
            container = container.environment(name, value);
        }
        for (path, text) in &self.files {
            container = container.file(path, text);
        }
        for mount in of_pod["volumeMounts"].as_array().unwrap() {
            let path = mount["mountPath"].as_str().unwrap();
            let volumes = pod["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            if volume["emptyDir"].is_object() {
                container = container.volume(path);
                continue;
            }
            let map = object("ConfigMap");
            assert_eq!(volume["configMap"]["name"], map["metadata"]["name"]);
            for (name, text) in map["data"].as_object().unwrap() {
                container =
                    container.file(&format!("{path}/{name}"), &self.configuration(text.as_str().unwrap()));
            }
        }
        container
    }

    /// The manifest's configuration with the test's workspace, and as often as a test has time for.
    fn configuration(&self, text: &str) -> String {
        let url = format!(
            "https://aps-workspaces.{REGION}.amazonaws.com/workspaces/{WORKSPACE}/api/v1/remote_write"
        );
        assert!(text.contains(&url) && text.contains("30s"), "{text}");
        text.replace(&url, &self.remote_write).replace("30s", "1s")
    }
}

fn peers() -> PathBuf {
    std::env::var_os("PROMFERRY_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/peers"), PathBuf::from)
}

/// Creates these objects, or only has them judged, with unknown fields refused. A namespace is always created: what is in
/// it is judged only where it is there.
async fn take(api: &KubernetesApi, objects: &[Value], dry_run: bool) {
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        let is_namespace = kind == "Namespace";
        if is_namespace && !dry_run {
            continue;
        }
        let version = object["apiVersion"].as_str().unwrap();
        let prefix = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let is_of_cluster = is_namespace || kind.starts_with("Cluster");
        let folder = if is_of_cluster { String::new() } else { format!("/namespaces/{namespace}") };
        let dry_run = if dry_run && !is_namespace { "&dryRun=All" } else { "" };
        api.create(
            &format!("{prefix}{folder}/{}s?fieldValidation=Strict{dry_run}", kind.to_lowercase()),
            object,
        )
        .await;
    }
}

/// A pod of the namespace `default` that runs at 127.0.0.1, or has ended there.
async fn add_pod(api: &KubernetesApi, name: &str, annotations: &Value, phase: &str) {
    let pod = json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "containers": [{ "name": "main", "image": "none", "ports": [{ "containerPort": 1 }] }] },
        "status": { "phase": phase, "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }] },
    });
    api.create("/api/v1/namespaces/default/pods", &pod).await;
}
