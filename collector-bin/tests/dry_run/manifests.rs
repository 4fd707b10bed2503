//! What is planted in published configurations is named.

use std::path::Path;
use std::sync::Arc;

use promferry_bench::port::HeldPort;
use promferry_bench::scripted_target::{Page, ScriptedTarget};
use regex::Regex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::kubernetes::ApiServer;
use crate::program::{DryRun, dry_run};

/// A published configuration and the flag that names it.
struct Manifest {
    name: &'static str,
    flag: &'static str,
    text: &'static str,
    /// Whether everything in it is found in the cluster of the test, so that nothing is wrong before something is
    /// planted. The Helm chart's scrapes the API server and kubelets through it.
    is_whole: bool,
    faults: [Fault; 4],
}

/// What is done to a manifest, and what is then to be said.
struct Fault {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    /// A regular expression; FILE stands for the configuration's name.
    told: &'static str,
}

const ALIKE: &str = "{target_label: instance, replacement: one}";
const SLASH: (&str, &str) = ("/api/v1/remote_write\n", "/api/v1/remote_write/\n");
const SLASH_TOLD: &str =
    r"^FILE:\d+:\d+: AMP answers 403 .* ends with a slash: take it away in .*(url|endpoint)$";

static MANIFESTS: [Manifest; 4] = [
    Manifest {
        name: "awscollector.yml",
        flag: "--config",
        text: include_str!("../data/manifests/awscollector.yml"),
        is_whole: true,
        faults: [
            Fault {
                name: "a rule that drops everything",
                from: "service_annotation_scrape], action: keep",
                to: "service_annotation_scraped], action: keep",
                told: r#"^FILE:\d+: job kubernetes-service-endpoints: no targets: all 2 are dropped by relabel_configs\[0\] \(keep __meta_kubernetes_service_annotation_scraped =~ "true"\)$"#,
            },
            Fault {
                name: "an unreadable secret",
                from: "          kubernetes_sd_configs:",
                to: "          authorization: {credentials_file: /nowhere/token}\n          kubernetes_sd_configs:",
                told: r"^FILE:\d+:\d+: /nowhere/token cannot be read: no such file or directory in receivers.prometheus.config.scrape_configs\[0\].authorization.credentials_file$",
            },
            Fault {
                name: "two targets writing one series",
                from: "action: keep, regex: true}",
                to: "action: keep, regex: true}\n            - ALIKE",
                told: r#"^FILE:\d+: job kubernetes-service-endpoints: 2 targets write the same series, as up\{instance="one", .*: http://127.0.0.1:\d+/metrics and http://127.0.0.1:\d+/metrics; their labels are alike after relabelling$"#,
            },
            Fault { name: "a slash at the end", from: SLASH.0, to: SLASH.1, told: SLASH_TOLD },
        ],
    },
    Manifest {
        name: "helm-chart.yml",
        flag: "--config.file",
        text: include_str!("../data/manifests/helm-chart.yml"),
        is_whole: false,
        faults: [
            Fault {
                name: "a rule that drops everything",
                from: "[__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: true",
                to: "[__meta_kubernetes_pod_annotation_prometheus_io_scrape], action: keep, regex: truely",
                told: r#"^FILE:\d+: job kubernetes-pods: no targets: all 2 are dropped by relabel_configs\[0\] \(keep __meta_kubernetes_pod_annotation_prometheus_io_scrape =~ "truely"\)$"#,
            },
            Fault {
                name: "an unreadable secret",
                from: "  - job_name: kubernetes-pods\n",
                to: "  - job_name: kubernetes-pods\n    basic_auth: {username: a, password_file: /nowhere/password}\n",
                told: r"^FILE:\d+:\d+: /nowhere/password cannot be read: no such file or directory in scrape_configs\[\d\].basic_auth.password_file$",
            },
            Fault {
                name: "two targets writing one series",
                from: "      - {source_labels: [__meta_kubernetes_pod_name], action: replace, target_label: pod}\n",
                to: "      - ALIKE\n",
                told: r#"^FILE:\d+: job kubernetes-pods: 2 targets write the same series, as up\{.*instance="one".*: http://127.0.0.1:\d+/metrics and http://127.0.0.1:\d+/metrics; "#,
            },
            Fault { name: "a slash at the end", from: SLASH.0, to: SLASH.1, told: SLASH_TOLD },
        ],
    },
    Manifest {
        name: "operator.yml",
        flag: "--config.file",
        text: include_str!("../data/manifests/operator.yml"),
        is_whole: true,
        faults: [
            Fault {
                name: "a rule that drops everything",
                from: "regex: (checkout);true",
                to: "regex: (chekout);true",
                told: r#"^FILE:\d+: job serviceMonitor/shop/checkout/0: no targets: all 2 are dropped by relabel_configs\[1\] \(keep __meta_kubernetes_service_label_app;__meta_kubernetes_service_labelpresent_app =~ "\(chekout\);true"\)$"#,
            },
            Fault {
                name: "an unreadable secret",
                from: "  - job_name: podMonitor/shop/worker/0\n",
                to: "  - job_name: podMonitor/shop/worker/0\n    authorization: {credentials_file: /nowhere/token}\n",
                told: r"^FILE:\d+:\d+: /nowhere/token cannot be read: no such file or directory in scrape_configs\[1\].authorization.credentials_file$",
            },
            Fault {
                name: "two targets writing one series",
                from: "      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}\n      - {target_label: job, replacement: shop/worker}\n",
                to: "      - ALIKE\n      - {target_label: job, replacement: shop/worker}\n",
                told: r#"^FILE:\d+: job podMonitor/shop/worker/0: 2 targets write the same series, as up\{.*instance="one".*: http://127.0.0.1:\d+/metrics and http://127.0.0.1:\d+/metrics; "#,
            },
            Fault { name: "a slash at the end", from: SLASH.0, to: SLASH.1, told: SLASH_TOLD },
        ],
    },
    Manifest {
        name: "agent.yml",
        flag: "--config.file",
        text: include_str!("../data/manifests/agent.yml"),
        is_whole: true,
        faults: [
            Fault {
                name: "a rule that drops everything",
                from: "io_scrape], action: keep, regex: \"true\"",
                to: "io_scrape], action: keep, regex: \"yes\"",
                told: r#"^FILE:\d+: job kubernetes-pods: no targets: all 2 are dropped by relabel_configs\[0\] \(keep __meta_kubernetes_pod_annotation_prometheus_io_scrape =~ "yes"\)$"#,
            },
            Fault {
                name: "an unreadable secret",
                from: "  - job_name: files\n",
                to: "  - job_name: files\n    bearer_token_file: /nowhere/token\n",
                told: r"^FILE:\d+:\d+: /nowhere/token cannot be read: no such file or directory in scrape_configs\[0\].bearer_token_file$",
            },
            Fault {
                name: "two targets writing one series",
                from: "      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}\n",
                to: "      - ALIKE\n",
                told: r#"^FILE:\d+: job kubernetes-pods: 2 targets write the same series, as up\{.*instance="one".*: http://127.0.0.1:\d+/metrics and http://127.0.0.1:\d+/metrics; "#,
            },
            Fault { name: "a slash at the end", from: SLASH.0, to: SLASH.1, told: SLASH_TOLD },
        ],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_planted_is_named() {
    let cluster = Arc::new(Cluster::start().await);
    let mut judging = JoinSet::new();
    for manifest in &MANIFESTS {
        judging.spawn(judge(Arc::clone(&cluster), manifest));
    }
    while let Some(judged) = judging.join_next().await {
        judged.unwrap();
    }
}

/// A role that is missing is what most often keeps discovery from finding anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_role_is_named() {
    let cluster = Cluster::start().await;
    let message =
        r#"pods is forbidden: User "system:serviceaccount:monitoring:agent" cannot list resource "pods""#;
    let status = json!({"kind": "Status", "status": "Failure", "message": message, "reason": "Forbidden"});
    cluster.api.refuse("/pods", "403 Forbidden", &status.to_string());
    let agent = &MANIFESTS[3];
    let run = cluster.dry_run(agent, agent.text).await;
    let findings = run.findings();
    let [finding] = findings.as_slice() else { panic!("{run:?}") };
    assert!(finding.contains("job kubernetes-pods: kubernetes discovery ("), "{finding}");
    assert!(
        finding.contains("403") && finding.contains("forbidden") && finding.contains("list"),
        "{finding}"
    );
    assert_eq!(run.status, 1);
}

async fn judge(cluster: Arc<Cluster>, manifest: &'static Manifest) {
    let before = cluster.dry_run(manifest, manifest.text).await;
    if manifest.is_whole {
        assert_eq!((before.status, before.findings()), (0, vec![]), "{}: {before:?}", manifest.name);
    }
    for fault in &manifest.faults {
        let what = format!("{}, {}", manifest.name, fault.name);
        assert_eq!(manifest.text.matches(fault.from).count(), 1, "{what}: what is replaced is there once");
        let text = manifest.text.replace(fault.from, &fault.to.replace("ALIKE", ALIKE));
        let told = Regex::new(&fault.told.replace("FILE", &regex::escape(manifest.name))).unwrap();
        let names_it = |run: &DryRun| run.findings().iter().any(|finding| told.is_match(finding));
        assert!(!names_it(&before), "{what}: {before:?}");
        let run = cluster.dry_run(manifest, &text).await;
        assert!(names_it(&run), "{what}: {told}\n{}\n{}", run.report, run.log);
        assert_eq!(run.status, 1, "{what}");
        // One cause is one finding.
        assert_eq!(run.findings().len(), before.findings().len() + 1, "{what}:\n{}", run.report);
    }
}

/// A cluster of one node: a service `checkout` of two pods, and two pods `worker`, all of which are targets on this
/// machine.
struct Cluster {
    api: ApiServer,
    targets: Vec<ScriptedTarget>,
}

impl Cluster {
    async fn start() -> Self {
        let api = ApiServer::start().await;
        let mut targets = Vec::new();
        let node = json!({"name": "node-1", "labels": {"kubernetes.io/hostname": "node-1"}});
        let address = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
        api.put("nodes", json!({"metadata": node, "status": {"addresses": address}}));
        let mut subsets = Vec::new();
        for name in ["checkout-0", "checkout-1", "worker-0", "worker-1"] {
            let target = ScriptedTarget::start(Page::text("requests_total 1\n")).await.unwrap();
            let port = target.address().port();
            targets.push(target);
            let app = name.split('-').next().unwrap();
            if app == "checkout" {
                let pod = json!({"kind": "Pod", "namespace": "shop", "name": name});
                let ready = json!([{"ip": "127.0.0.1", "nodeName": "node-1", "targetRef": pod}]);
                subsets.push(json!({"addresses": ready, "ports": [{"name": "metrics", "port": port}]}));
            } else {
                api.put("pods", pod(name, app, port));
            }
        }
        let annotations = json!({"scrape": "true"});
        let service = json!({"metadata": metadata("checkout", "checkout", annotations), "spec": {
            "type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"name": "metrics", "port": 80}],
        }});
        api.put("services", service);
        let endpoints = metadata("checkout", "checkout", json!({}));
        api.put("endpoints", json!({"metadata": endpoints, "subsets": subsets}));
        Self { api, targets }
    }

    /// Runs the program on this text, which then speaks of this cluster.
    async fn dry_run(&self, manifest: &'static Manifest, text: &str) -> DryRun {
        let folder = tempfile::tempdir().unwrap();
        let mut text = text.replace("/var/run/secrets/kubernetes.io/serviceaccount", "serviceaccount");
        // Of a pod's own service account there is nothing here.
        let server = format!("api_server: '{}'", self.api.url);
        text = text.replace("[{role: ", &format!("[{{{server}, role: "));
        let role = Regex::new(r"(?m)^(\s+)- role: (\w+)$").unwrap();
        text = role.replace_all(&text, format!("$1- role: $2\n$1  {server}")).into_owned();
        // The chart scrapes the pages of the program itself.
        let own = HeldPort::any().unwrap();
        text = text.replace("localhost:9090", &format!("localhost:{}", own.address().port()));
        prepare(folder.path(), &self.targets[0].address().to_string());
        std::fs::write(folder.path().join(manifest.name), text).unwrap();
        let flags = [
            format!("{}={}", manifest.flag, manifest.name),
            format!("--web.listen-address={}", own.address()),
        ];
        let run = tokio::task::spawn_blocking(move || dry_run(folder.path(), &[&flags[0], &flags[1]]));
        let run = run.await.unwrap();
        assert!(!run.report.contains("localhost") || run.report.contains("own pages"), "{}", run.report);
        run
    }
}

/// What the manifests have mounted.
fn prepare(folder: &Path, target: &str) {
    let [account, files] = ["serviceaccount", "targets"].map(|name| folder.join(name));
    std::fs::create_dir(&account).unwrap();
    let authority = rcgen::generate_simple_self_signed(["kubernetes.default.svc".to_owned()]).unwrap();
    std::fs::write(account.join("ca.crt"), authority.cert.pem()).unwrap();
    std::fs::write(account.join("token"), "of-a-service-account").unwrap();
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("a.json"), json!([{"targets": [target]}]).to_string()).unwrap();
}

fn metadata(name: &str, app: &str, annotations: Value) -> Value {
    json!({"namespace": "shop", "name": name, "uid": name, "labels": {"app": app}, "annotations": annotations})
}

fn pod(name: &str, app: &str, port: u16) -> Value {
    let annotations = json!({"prometheus.io/scrape": "true", "prometheus.io/port": port.to_string()});
    json!({
        "metadata": metadata(name, app, annotations),
        "spec": {"nodeName": "node-1", "containers": [
            {"name": app, "image": "app", "ports": [{"name": "metrics", "containerPort": port, "protocol": "TCP"}]},
        ]},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "hostIP": "127.0.0.1", "conditions": [
            {"type": "Ready", "status": "True"},
        ]},
    })
}
