//! Pods and kubelets through a real API server's proxies, with no more rights than the roles of `examples/rbac` give.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, StatusCode};
use promferry_cluster::Cluster;
use serde_json::{Value, json};

use crate::net::{add_addresses, call, in_own_network, put};
use crate::pages::{Authority, Pages, page};
use crate::recipe::{example, recipe};
use crate::scene::{Receiver, Scene};

/// Where the kubelet mounts a pod's service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// As by default for paths with `/proxy/`.
const CAP: usize = 10;

#[test]
fn pods_that_the_api_server_reaches() {
    const TEST: &str = "api_server::pods_that_the_api_server_reaches";
    in_own_network(TEST, &["ip"], async || {
        let Some(cluster) = Cluster::start(TEST).await else { return };
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let in_pod = InPod::new(&cluster).await;
        cluster.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } })).await;
        let addresses = of_its_own(1..=20);
        add_addresses(&addresses);
        let sockets: Vec<SocketAddr> =
            addresses.iter().map(|address| format!("{address}:8080").parse().unwrap()).collect();
        // Slow enough that all would be under way at once.
        let pages = Pages::start(&sockets, None, Duration::from_millis(200), |at, _| {
            page(format!("page_of{{address=\"{}\"}} 1\n", at.ip()))
        })
        .await;
        for (number, address) in addresses.iter().enumerate() {
            cluster.create("/api/v1/namespaces/shop/pods", &pod(number, address)).await;
        }
        let role = example("rbac/pod-proxy.yaml");
        let without: String = role
            .lines()
            .filter(|line| !line.contains("pods/proxy"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_ne!(without, role);

        let changes = [("kubernetes.default.svc:443", in_pod.server.as_str())];
        let config = recipe("api-server-pods", "3s", &changes, &receiver.url());
        let scene = Scene::start(&receiver, "api-server-pods", &config, &in_pod.environment).await;
        // What is missing is said, one right after the other.
        scene.until_said("needs list, watch on pods").await;
        cluster.apply_yaml(&without).await;
        scene
            .until("each target says which right is missing", async || {
                let targets = scene.collector.text("/api/v1/targets?state=active").await;
                let said = last_errors(&targets);
                said.len() == 20
                    && said.iter().all(|said| said.contains("403") && said.contains("\"pods/proxy\""))
            })
            .await;
        cluster.apply_yaml(&role).await;
        let instances: Vec<String> = (0..20).map(|number| format!("shop/web-{number}")).collect();
        scene.until_up(&instances).await;
        for series in receiver.series("api-server-pods", "page_of").await.keys() {
            let number = addresses.iter().position(|address| *address == series["address"]).unwrap();
            let wanted = [("instance", format!("shop/web-{number}")), ("pod", format!("web-{number}"))];
            for (label, value) in wanted {
                assert_eq!(series[label], value, "{series:?}");
            }
        }
        assert!(pages.most_under_way() <= CAP, "{} at once", pages.most_under_way());

        // The kubelet writes a new token; the old one ends. The API server keeps what it found of one for ten seconds.
        let refused = || scene.collector.metric("promferry_scrapes_failed_total", "reason=\"status\"");
        let before = refused().await;
        in_pod.renew_token(&cluster, "second").await;
        cluster.delete(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/first")).await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let asked = pages.asked().len();
        scene.until("it goes on with the new token", async || pages.asked().len() >= asked + 60).await;
        assert_eq!(refused().await, before, "the old token was sent");
        scene.assert_nothing_refused().await;
        scene.end().await;
    });
}

#[test]
fn kubelets_of_fargate_nodes() {
    const TEST: &str = "api_server::kubelets_of_fargate_nodes";
    in_own_network(TEST, &["ip"], async || {
        let Some(cluster) = Cluster::start(TEST).await else { return };
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let in_pod = InPod::new(&cluster).await;
        let addresses = of_its_own(1..=20);
        add_addresses(&addresses);
        let sockets: Vec<SocketAddr> =
            addresses.iter().map(|address| format!("{address}:10250").parse().unwrap()).collect();
        // As a kubelet that nobody has given a certificate: signed by itself, for a name that nobody asks for.
        let identity = Authority::new().identity("kubelet");
        let pages = Pages::start(&sockets, Some(&identity), Duration::from_millis(200), |at, request| {
            let kind = if request.uri().path().ends_with("/cadvisor") { "container" } else { "kubelet" };
            page(format!("{kind}_page_of{{address=\"{}\"}} 1\n", at.ip()))
        })
        .await;
        for (number, address) in addresses.iter().enumerate() {
            cluster.create("/api/v1/nodes", &node(number, address)).await;
        }
        cluster.apply_yaml(&example("rbac/node-proxy.yaml")).await;

        let changes = [("kubernetes.default.svc:443", in_pod.server.as_str())];
        let config = recipe("api-server-nodes", "3s", &changes, &receiver.url());
        // Both jobs have one instance a node: here they are told apart.
        let config = config.replace(
            "{source_labels: [__meta_kubernetes_node_name], target_label: instance}",
            "{source_labels: [job, __meta_kubernetes_node_name], separator: /, target_label: instance}",
        );
        let scene = Scene::start(&receiver, "api-server-nodes", &config, &in_pod.environment).await;
        // The twentieth is no node of Fargate.
        let names: Vec<String> = (0..19).map(|number| format!("fargate-{number}")).collect();
        let instances: Vec<String> =
            names.iter().flat_map(|name| [format!("cadvisor/{name}"), format!("kubelet/{name}")]).collect();
        scene.until_up(&instances).await;
        for (metric, job) in [("container_page_of", "cadvisor"), ("kubelet_page_of", "kubelet")] {
            let found = receiver.series("api-server-nodes", metric).await;
            assert_eq!(found.len(), 19, "{found:?}");
            for series in found.keys() {
                let number = addresses.iter().position(|address| *address == series["address"]).unwrap();
                assert_eq!((&series["instance"], &*series["job"]), (&format!("{job}/fargate-{number}"), job));
            }
        }
        let asked = pages.asked().len();
        scene.until("two rounds more", async || pages.asked().len() >= asked + 76).await;
        assert!(pages.most_under_way() <= CAP, "{} at once", pages.most_under_way());
        scene.assert_nothing_refused().await;
        scene.end().await;
    });
}

/// The namespace and the name of the collector's service account, as the roles have them.
const NAMESPACE: &str = "promferry";

/// What a pod of the collector is given.
struct InPod {
    environment: Vec<(&'static str, String)>,
    /// The API server as recipes call it, with the port that it has here.
    server: String,
}

impl InPod {
    async fn new(cluster: &Cluster) -> Self {
        let address = cluster.address();
        call(&[("kubernetes.default.svc", &address.ip().to_string())]);
        cluster.create("/api/v1/namespaces", &json!({ "metadata": { "name": NAMESPACE } })).await;
        let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        cluster.create(&accounts, &json!({ "metadata": { "name": "promferry" } })).await;
        let in_pod = Self {
            environment: vec![
                ("KUBERNETES_SERVICE_HOST", address.ip().to_string()),
                ("KUBERNETES_SERVICE_PORT", address.port().to_string()),
            ],
            server: format!("kubernetes.default.svc:{}", address.port()),
        };
        put(&format!("{ACCOUNT}/ca.crt"), &std::fs::read_to_string(cluster.certificate()).unwrap());
        put(&format!("{ACCOUNT}/namespace"), NAMESPACE);
        in_pod.renew_token(cluster, "first").await;
        in_pod
    }

    /// A token of the service account that is good for as long as this secret is there.
    async fn renew_token(&self, cluster: &Cluster, secret: &str) {
        let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
        let made = cluster.create(&secrets, &json!({ "metadata": { "name": secret } })).await;
        let bound =
            json!({ "kind": "Secret", "apiVersion": "v1", "name": secret, "uid": made["metadata"]["uid"] });
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "boundObjectRef": bound, "expirationSeconds": 3600 },
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/promferry/token");
        let (status, answer) = cluster.call(Method::POST, &path, Some(&request)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        put(&format!("{ACCOUNT}/token"), answer["status"]["token"].as_str().unwrap());
    }
}

/// Addresses that the API server's proxies take, which are nobody's (RFC 2544).
fn of_its_own(hosts: std::ops::RangeInclusive<u8>) -> Vec<String> {
    hosts.map(|host| format!("198.18.0.{host}")).collect()
}

fn pod(number: usize, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("web-{number}"),
            "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": "8080" },
        },
        "spec": {
            "nodeName": "node-1",
            // Two ports are two targets to discovery, and one to whoever scrapes the annotated one.
            "containers": [{
                "name": "web", "image": "web", "ports": [{ "containerPort": 80 }, { "containerPort": 8080 }],
            }],
        },
        "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] },
    })
}

fn node(number: usize, address: &str) -> Value {
    let compute_type = if number < 19 { "fargate" } else { "ec2" };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": format!("fargate-{number}"),
            "labels": { "eks.amazonaws.com/compute-type": compute_type },
        },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": address }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
        },
    })
}

/// What the targets of a page say.
fn last_errors(targets: &str) -> Vec<String> {
    let targets: Value = serde_json::from_str(targets).unwrap_or_default();
    let targets = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    targets.iter().map(|target| target["lastError"].as_str().unwrap_or_default().to_owned()).collect()
}
