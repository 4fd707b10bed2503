use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promferry_cluster::Cluster;
use promferry_discovery::DiscoveryOptions;
use serde_json::{Value, json};

use crate::support::{Consumer, JOBS, found, of_prometheus, options};

/// Collections in the order in which their objects are created, and the lists in which those were recorded.
const RECORDED: &[(&str, &str)] = &[
    ("/api/v1/namespaces", include_str!("data/namespaces.json")),
    ("/api/v1/nodes", include_str!("data/nodes.json")),
    ("/apis/apps/v1/namespaces/{}/replicasets", include_str!("data/replicasets.json")),
    ("/api/v1/namespaces/{}/pods", include_str!("data/pods.json")),
    ("/api/v1/namespaces/{}/services", include_str!("data/services.json")),
    ("/api/v1/namespaces/{}/endpoints", include_str!("data/endpoints.json")),
    ("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", include_str!("data/endpointslices.json")),
    ("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", include_str!("data/ingresses.json")),
];

/// The rights that the roles need.
const RIGHTS: &[(&str, &[&str])] = &[
    ("", &["nodes", "namespaces", "pods", "services", "endpoints"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("networking.k8s.io", &["ingresses"]),
    ("apps", &["replicasets"]),
    ("batch", &["jobs"]),
];

const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

async fn load(server: &Cluster) {
    for (collection, list) in RECORDED {
        let list: Value = serde_json::from_str(list).unwrap();
        for object in list["items"].as_array().unwrap() {
            let metadata = &object["metadata"];
            let (name, namespace) = (metadata["name"].as_str().unwrap(), metadata["namespace"].as_str());
            // These make themselves.
            if matches!(name, "default" | "kubernetes") || name.starts_with("kube-") {
                continue;
            }
            server.create(&collection.replace("{}", namespace.unwrap_or_default()), object).await;
        }
    }
    let rules: Vec<_> = RIGHTS
        .iter()
        .map(|(group, resources)| json!({ "apiGroups": [group], "resources": resources, "verbs": ["list", "watch"] }))
        .collect();
    let role = json!({ "metadata": { "name": "scraper" }, "rules": rules });
    server.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    server.create(BINDING, &binding()).await;
}

fn binding() -> Value {
    json!({
        "metadata": { "name": "scraper" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "scraper" },
        "subjects": [{ "kind": "ServiceAccount", "name": "scraper", "namespace": "monitoring" }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server() {
    let Some(mut server) = Cluster::start("a_real_server").await else { return };
    load(&server).await;

    // As in a pod: everything that the kubelet provides.
    let account = server.service_account("scraper", "shop");
    let (address, token) = (server.address(), server.token("scraper"));
    let mut options = options();
    options.kubernetes.service_host = Some(address.ip().to_string());
    options.kubernetes.service_port = Some(address.port().to_string());
    options.kubernetes.service_account.clone_from(&account);
    options.kubernetes.page_items = 2;
    let mut jobs: Vec<_> = JOBS.iter().map(|(job, yaml)| (*job, (*yaml).to_owned())).collect();
    jobs.push(("own", "role: pod, namespaces: {own_namespace: true}".to_owned()));
    jobs.push(("url", format!("role: pod, {}", server.sd_config("scraper"))));
    let authority = STANDARD.encode(fs::read(server.certificate()).unwrap());
    let kubeconfig = account.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "c", "cluster": {
            "server": format!("https://{address}"), "certificate-authority-data": authority,
        } }],
        "users": [{ "name": "u", "user": { "token": token } }],
        "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u", "namespace": "shop" } }],
        "current-context": "x",
    });
    fs::write(&kubeconfig, text.to_string()).unwrap();
    jobs.push(("kubeconfig", format!("role: pod, kubeconfig_file: '{}'", kubeconfig.display())));
    let mut consumer = Consumer::run(&jobs, options.clone());
    let is_settled = |consumer: &Consumer| {
        let is_it = |job: &str| consumer.groups.keys().filter(|(of, _)| of == job).count();
        let status = consumer.discovery.status();
        status.iter().all(|status| status.last_success.is_some() && status.groups == is_it(&status.jobs[0]))
    };
    consumer.until("each mechanism has its first result", is_settled).await;
    for (job, _) in JOBS {
        assert_eq!(found(&consumer, job), of_prometheus(job), "{job}");
    }
    for job in ["own", "url", "kubeconfig"] {
        assert_eq!(found(&consumer, job), of_prometheus("pod"), "{job}");
    }

    // A change comes by the watches.
    let pods = "/api/v1/namespaces/shop/pods";
    let has = |label: &'static str| {
        move |consumer: &Consumer| {
            let labels = consumer.labels("endpointslice/shop/web-abc12", "__meta_kubernetes_pod_label_");
            labels.iter().any(|labels| labels.contains(label))
        }
    };
    server.patch(&format!("{pods}/web-1"), &json!({ "metadata": { "labels": { "tier": "front" } } })).await;
    consumer.until("the new label", has("tier=front")).await;

    // What happens while the server is away is found when it is back.
    server.stop().await;
    consumer.until("failures", |consumer| consumer.discovery.status().iter().all(|s| s.is_failing)).await;
    assert!(has("tier=front")(&consumer), "what was found stays");
    server.restart().await;
    server.delete(&format!("{pods}/web-2")).await;
    server.patch(&format!("{pods}/web-1"), &json!({ "metadata": { "labels": { "tier": "back" } } })).await;
    consumer.until("what changed", has("tier=back")).await;
    let is_gone = |consumer: &Consumer| !consumer.sources().contains(&"pod/shop/web-2");
    consumer.until("the pod is gone", is_gone).await;
    consumer.until("recovery", |consumer| !consumer.discovery.status().iter().any(|s| s.is_failing)).await;
    drop(consumer);

    many_collections(&server, &options).await;

    // Who may nothing is told what would be needed.
    let nobody = server.sd_config("nobody");
    let jobs = [("job", format!("role: endpointslice, namespaces: {{names: [shop]}}, {nobody}"))];
    let mut consumer = Consumer::run(&jobs, options.clone());
    consumer.until("a failure", |consumer| consumer.status().failures_total > 5).await;
    let said = consumer.failure().unwrap();
    assert!(said.contains("in namespace shop: 403 Forbidden: a Role needs list, watch on "), "{said}");
    assert!(said.contains("User \"nobody\" cannot watch resource"), "{said}");
    drop(consumer);
    let unknown = nobody.replace(&server.token("nobody"), "a-token-of-nobody");
    let jobs = [("job", format!("role: pod, {unknown}"))];
    let mut consumer = Consumer::run(&jobs, options.clone());
    consumer.until("a failure", |consumer| consumer.failure().is_some()).await;
    let said = consumer.failure().unwrap();
    assert!(
        said.starts_with("watch pods: 401 Unauthorized: the API server does not take the credentials"),
        "{said}"
    );
    assert!(!said.contains("a-token-of-nobody"), "{said}");
    drop(consumer);

    // A selector that the server cannot apply.
    let jobs = [("job", "role: pod, selectors: [{role: pod, field: 'spec.unknown=x'}]".to_owned())];
    let mut consumer = Consumer::run(&jobs, options.clone());
    consumer.until("a failure", |consumer| consumer.failure().is_some()).await;
    let said = consumer.failure().unwrap();
    assert!(said.starts_with("list pods: 400 Bad Request: the API server refuses ("), "{said}");
    drop(consumer);

    // A right that is granted later, and a token that is exchanged as the kubelet does it.
    server.delete(&format!("{BINDING}/scraper")).await;
    let mut consumer = Consumer::run(&[("job", "role: node".to_owned())], options);
    consumer.until("a failure", |consumer| consumer.failure().is_some_and(|said| said.contains("403"))).await;
    fs::write(account.join("token"), "expired").unwrap();
    consumer.until("another", |consumer| consumer.failure().is_some_and(|said| said.contains("401"))).await;
    fs::write(account.join("token.new"), token).unwrap();
    fs::rename(account.join("token.new"), account.join("token")).unwrap();
    server.create(BINDING, &binding()).await;
    consumer.until("the nodes", |consumer| consumer.groups.len() == 2).await;
}

/// A role needs three collections a namespace, each of which is watched; connections are few all the same.
async fn many_collections(server: &Cluster, options: &DiscoveryOptions) {
    let names: Vec<String> = (0..99).map(|number| format!("none-{number}")).collect();
    let yaml = format!("role: endpoints, namespaces: {{names: [shop, {}]}}", names.join(", "));
    let mut consumer = Consumer::run(&[("job", yaml)], options.clone());
    let is_listed = |consumer: &Consumer| {
        let collections = consumer.status().collections;
        collections.len() == 300 && collections.iter().all(|collection| collection.last_listed.is_some())
    };
    consumer.until("all collections", is_listed).await;
    consumer.until("the endpoints", |consumer| !consumer.groups.is_empty()).await;
    // Ours end at the server's address; where it has two ends on this machine, one of them does.
    let ours = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let server_end = format!("0100007F:{:04X}", server.address().port());
    let connections = ours.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2) == Some(&server_end.as_str()) && fields.get(3) == Some(&"01")
    });
    let connections = connections.count();
    // Five for them, and those of the test itself.
    assert!((5..=10).contains(&connections), "{connections} connections");
    assert_eq!(consumer.status().failures_total, 0);
}
