use serde_json::Value;

use crate::api_server::ApiServer;
use crate::support::{Consumer, JOBS, found, of_prometheus, options};

/// What the recorded server held.
pub(crate) async fn recorded() -> ApiServer {
    let server = ApiServer::start().await;
    for (plural, list) in [
        ("endpoints", include_str!("data/endpoints.json")),
        ("endpointslices", include_str!("data/endpointslices.json")),
        ("ingresses", include_str!("data/ingresses.json")),
        ("namespaces", include_str!("data/namespaces.json")),
        ("nodes", include_str!("data/nodes.json")),
        ("pods", include_str!("data/pods.json")),
        ("replicasets", include_str!("data/replicasets.json")),
        ("services", include_str!("data/services.json")),
    ] {
        let list: Value = serde_json::from_str(list).unwrap();
        for object in list["items"].as_array().unwrap() {
            server.put(plural, object.clone());
        }
    }
    server
}

#[tokio::test]
async fn targets_are_those_of_prometheus() {
    let server = recorded().await;
    let url = &server.url;
    let jobs: Vec<_> =
        JOBS.iter().map(|(job, yaml)| (*job, format!("{yaml}, api_server: '{url}'"))).collect();
    // Pages of two, so that lists have several.
    let mut options = options();
    options.kubernetes.page_items = 2;
    let mut consumer = Consumer::run(&jobs, options);
    consumer
        .until("each mechanism has its first result", |consumer| {
            consumer.discovery.status().iter().all(|status| {
                status.last_success.is_some()
                    && status.groups
                        == consumer.groups.keys().filter(|(job, _)| *job == status.jobs[0]).count()
            })
        })
        .await;
    let mut compared = 0;
    for (job, _) in JOBS {
        let (ours, theirs) = (found(&consumer, job), of_prometheus(job));
        assert_eq!(ours, theirs, "{job}");
        compared += theirs.len();
    }
    assert_eq!(compared, 60);
}
