//! Posit Connect, by what Posit's documentation says of it: the product is no part of this.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use promferry_cluster::Cluster;
use serde_json::{Value, json};

use crate::net::{call, in_own_network, put};
use crate::pages::{Authority, Pages, page, refusal};
use crate::recipe::recipe;
use crate::scene::{Receiver, Scene};

/// GUID, name and owner of what is published.
const CONTENT: [(&str, &str, &str); 3] = [
    ("6f0e4a52-0b3f-4b0e-9d3a-3c1f4f6f1a01", "forecast", ANNA),
    ("77ab1c2d-5e6f-4a7b-8c9d-0e1f2a3b4c02", "pricing", ANNA),
    ("9c1d2e3f-1a2b-4c3d-8e5f-6a7b8c9d0e03", "churn", BEN),
];
const ANNA: &str = "0aa00000-0000-4000-8000-00000000000a";
const BEN: &str = "0bb00000-0000-4000-8000-00000000000b";

#[test]
fn content_by_its_guid_with_a_key_for_each_owner() {
    const TEST: &str = "connect::content_by_its_guid_with_a_key_for_each_owner";
    in_own_network(TEST, &[], async || {
        let Some(receiver) = Receiver::start(TEST).await else { return };
        let authority = Authority::new();
        put("/etc/secrets/authority.crt", &authority.pem());
        call(&[("connect.example.com", "127.0.0.1")]);
        let keys = Arc::new(Mutex::new(BTreeMap::from([
            (ANNA, "Key planted-of-anna-1".to_owned()),
            (BEN, "Key planted-of-ben-1".to_owned()),
        ])));
        for (owner, key) in keys.lock().unwrap().iter() {
            put(&format!("/etc/secrets/connect/{owner}"), &format!("{key}\n"));
        }
        let known = Arc::clone(&keys);
        let connect = Pages::start(
            &["127.0.0.1:443".parse().unwrap()],
            Some(&authority.identity("connect.example.com")),
            Duration::ZERO,
            move |_, request| {
                let key =
                    request.headers().get("authorization").and_then(|key| key.to_str().ok()).unwrap_or("");
                let keys = known.lock().unwrap();
                if !keys.values().any(|known| known == key) {
                    return refusal(StatusCode::UNAUTHORIZED, r#"{"code":3,"error":"You must log in"}"#);
                }
                let path = request.uri().path();
                if path == "/__api__/v1/content" {
                    return page(list().to_string());
                }
                let guid = path.strip_prefix("/content/").and_then(|path| path.strip_suffix("/metrics"));
                match CONTENT.iter().find(|content| Some(content.0) == guid) {
                    Some(&(_, name, owner)) if keys[owner] == key => {
                        page(format!("content_requests_total{{content=\"{name}\"}} 7\n"))
                    }
                    Some(_) => refusal(StatusCode::FORBIDDEN, r#"{"code":4,"error":"not yours"}"#),
                    None => refusal(StatusCode::NOT_FOUND, r#"{"code":4,"error":"no such content"}"#),
                }
            },
        )
        .await;
        let _metrics = Pages::start(&["127.0.0.1:3232".parse().unwrap()], None, Duration::ZERO, |_, _| {
            page("rsconnect_license_user_seats 20\n")
        })
        .await;
        put("/etc/promferry/connect/content.json", &targets_of(&list()).to_string());

        let changes =
            [("scheme: https", "scheme: https\n    tls_config: {ca_file: /etc/secrets/authority.crt}")];
        let config = recipe("posit-connect", "1s", &changes, &receiver.url());
        let (before, pods) = config.split_once("  # Off-host execution").unwrap();
        let config = format!("{before}\nremote_write:{}", pods.split_once("\nremote_write:").unwrap().1);
        let scene = Scene::start(&receiver, "posit-connect", &config, &[]).await;
        let mut instances: Vec<String> = CONTENT.iter().map(|content| content.0.to_owned()).collect();
        instances.push("connect.example.com:3232".to_owned());
        scene.until_up(&instances).await;
        for series in receiver.series("posit-connect", "content_requests_total").await.keys() {
            let content = CONTENT.iter().find(|content| content.0 == series["instance"]).unwrap();
            assert_eq!(
                (series["content"].as_str(), series["app"].as_str()),
                (content.1, content.1),
                "{series:?}"
            );
        }

        // A key is renewed: what is in the file now is what is sent.
        let asked = connect.asked().len();
        for (owner, key) in keys.lock().unwrap().iter_mut() {
            *key = key.replace("-1", "-2");
            put(&format!("/etc/secrets/connect/{owner}"), &format!("{key}\n"));
        }
        scene.until("it goes on", async || connect.asked().len() >= asked + 9).await;
        scene.until_up(&instances).await;
        for shown in ["/metrics", "/api/v1/targets", "/api/v1/status/config", "/"] {
            assert!(!scene.collector.text(shown).await.contains("planted-of-"), "{shown} shows a key");
        }
        assert!(!scene.collector.written_log().contains("planted-of-"), "the log shows a key");
        scene.assert_nothing_refused().await;
        scene.end().await;
    });
}

#[test]
fn content_in_pods_of_its_own() {
    const TEST: &str = "connect::content_in_pods_of_its_own";
    in_own_network(TEST, &[], async || {
        let Some(cluster) = Cluster::start(TEST).await else { return };
        let Some(receiver) = Receiver::start(TEST).await else { return };
        cluster.create("/api/v1/namespaces", &json!({ "metadata": { "name": "posit-connect" } })).await;
        // Two processes of one content, one that has ended, and one that says no port.
        for (number, phase, port) in
            [(2, "Running", "8000"), (3, "Running", "8000"), (4, "Succeeded", "8000"), (5, "Running", "")]
        {
            let pod = launched(number, phase, port);
            cluster.create("/api/v1/namespaces/posit-connect/pods", &pod).await;
        }
        let addresses: Vec<SocketAddr> =
            (2..6).map(|number| format!("127.0.0.{number}:8000").parse().unwrap()).collect();
        let _pages = Pages::start(&addresses, None, Duration::ZERO, |at, _| {
            page(format!("content_pid{{at=\"{at}\"}} 1\n"))
        })
        .await;
        let account = format!("- role: pod\n        {}", cluster_keys(&cluster));
        let changes = [("- role: pod", account.as_str())];
        let config = recipe("posit-connect", "1s", &changes, &receiver.url());
        let (head, jobs) = config.split_once("scrape_configs:\n").unwrap();
        let pods = jobs.split_once("  - job_name: posit-connect-content-pods").unwrap().1;
        let config = format!("{head}scrape_configs:\n  - job_name: posit-connect-content-pods{pods}");
        let scene = Scene::start(&receiver, "posit-connect", &config, &[]).await;
        scene.until_up(&["127.0.0.2:8000".to_owned(), "127.0.0.3:8000".to_owned()]).await;
        for series in receiver.series("posit-connect", "content_pid").await.keys() {
            assert_eq!(series["at"], series["instance"], "its own page");
            assert_eq!(
                (series["content"].as_str(), series["namespace"].as_str()),
                ("forecast", "posit-connect")
            );
        }
        scene.assert_nothing_refused().await;
        scene.end().await;
    });
}

/// `GET /v1/content`, as far as it is documented.
fn list() -> Value {
    let one = |(guid, name, owner): &(&str, &str, &str)| json!({ "guid": guid, "name": name, "title": name, "owner_guid": owner, "app_mode": "python-fastapi" });
    CONTENT.iter().map(one).collect()
}

/// What the recipe's line of jq makes of it.
fn targets_of(list: &Value) -> Value {
    let one = |content: &Value| {
        json!({
            "targets": [content["guid"]],
            "labels": { "app": content["name"], "__tmp_key": content["owner_guid"] },
        })
    };
    list.as_array().unwrap().iter().map(one).collect()
}

/// A pod of the launcher.
fn launched(number: u8, phase: &str, port: &str) -> Value {
    let address = format!("127.0.0.{number}");
    let mut annotations = json!({ "name": "forecast", "user": "anna", "service_ports": "" });
    if !port.is_empty() {
        annotations["prometheus.io/port"] = json!(port);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("run-python-{number}"),
            "labels": { "app.kubernetes.io/managed-by": "launcher", "job-name": format!("run-python-{number}") },
            "annotations": annotations,
        },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "rs-launcher-container", "image": "content" }] },
        "status": { "phase": phase, "podIP": address, "podIPs": [{ "ip": address }] },
    })
}

/// Keys of a discovery entry by which the API server is reached from outside of it.
fn cluster_keys(cluster: &Cluster) -> String {
    format!("kubeconfig_file: {}", cluster.kubeconfig("admin").display())
}
