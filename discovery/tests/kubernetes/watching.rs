//! What changes in a cluster, and what breaks on the way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Streams};
use crate::golden::recorded;
use crate::support::{Consumer, found, of_prometheus, options};

pub(crate) const SLICE: &str = "endpointslice/shop/web-abc12";

pub(crate) fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "containers": [{ "name": "app", "image": "web" }] },
        "status": { "phase": "Running", "podIP": ip },
    })
}

pub(crate) fn run(server: &ApiServer, yaml: &str) -> Consumer {
    Consumer::run(&[("job", format!("api_server: '{}', {yaml}", server.url))], options())
}

#[tokio::test]
async fn a_change_reaches_the_groups_that_are_made_of_it() {
    let server = recorded().await;
    let mut consumer =
        run(&server, "role: endpointslice, attach_metadata: {node: true, namespace: true, deployment: true}");
    let has = |label: &'static str| {
        move |consumer: &Consumer| {
            consumer.labels(SLICE, "__meta_kubernetes_").iter().any(|labels| labels.contains(label))
        }
    };
    consumer.until("the slice", has("pod_phase=Running")).await;
    assert!(has("pod_deployment_name=web")(&consumer));

    // Prometheus lets pods' labels grow old here until the slice changes.
    let mut web = server.object("pods", "shop/web-1");
    web["status"]["phase"] = json!("Failed");
    server.put("pods", web);
    consumer.until("the pod's phase", has("pod_phase=Failed")).await;

    for (plural, name, label) in [
        ("services", "shop/web", "service_label_new=x"),
        ("nodes", "fargate-ip-10-0-1-1.eu-west-1.compute.internal", "node_label_new=x"),
        ("namespaces", "shop", "namespace_label_new=x"),
        ("endpointslices", "shop/web-abc12", "endpointslice_label_new=x"),
    ] {
        assert!(!has(label)(&consumer), "{label}");
        let mut object = server.object(plural, name);
        object["metadata"]["labels"]["new"] = json!("x");
        server.put(plural, object);
        consumer.until(label, has(label)).await;
    }

    // A pod that goes takes its labels and its other ports along, one that comes back brings them.
    let web = server.object("pods", "shop/web-2");
    let targets = consumer.labels(SLICE, "").len();
    server.delete("pods", "shop/web-2");
    consumer.until("the pod is gone", |consumer| !has("pod_name=web-2")(consumer)).await;
    assert!(consumer.labels(SLICE, "").len() < targets);
    server.put("pods", web);
    consumer.until("the pod is back", has("pod_name=web-2")).await;
    assert_eq!(consumer.labels(SLICE, "").len(), targets);

    server.delete("endpointslices", "shop/web-abc12");
    consumer.until("the slice is gone", |consumer| consumer.groups.is_empty()).await;
    // One list each is all that it took.
    for plural in ["pods?", "services?", "nodes?", "namespaces?", "endpointslices?", "replicasets?"] {
        assert_eq!(server.lists(&[plural]), 1, "{plural}");
    }
}

#[tokio::test]
async fn a_watch_as_it_was_recorded() {
    let server = ApiServer::start().await;
    server.script("pods", include_str!("data/watch-pods.jsonl"));
    let mut consumer = run(&server, "role: pod");
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    assert_eq!(found(&consumer, "job"), of_prometheus("pod"));
    // It goes on from where the last bookmark was.
    consumer.until("the next watch", |_| server.count(&["watch=true", "resourceVersion=225"]) == 1).await;
}

#[tokio::test]
async fn a_connection_that_breaks_costs_nothing() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: pod");
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    for round in 0..3 {
        server.disconnect();
        server.put("pods", pod(&format!("new-{round}"), "10.0.0.1"));
        consumer.until("the new pod", |consumer| consumer.groups.len() == 4 + round).await;
    }
    assert_eq!(server.lists(&[]), 1);
    assert_eq!(consumer.status().failures_total, 0);
}

#[tokio::test]
async fn what_was_missed_is_found_by_listing_again() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: pod");
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    server.refuse("/pods", "503 Service Unavailable", "");
    server.disconnect();
    consumer.until("a failure", |consumer| consumer.failure().is_some()).await;
    assert_eq!(
        consumer.failure().as_deref(),
        Some("watch pods: 503 Service Unavailable: the API server refuses")
    );
    assert_eq!(consumer.groups.len(), 3, "what was found stays");

    server.delete("pods", "shop/web-1");
    server.put("pods", pod("new", "10.0.0.1"));
    server.forget();
    server.refuse("/pods", "", "");
    let is_new =
        |consumer: &Consumer| consumer.sources() == ["pod/shop/new", "pod/shop/web-2", "pod/shop/web-done"];
    consumer.until("the pods as they are now", is_new).await;
    consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
    assert_eq!(server.lists(&[]), 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_named_and_listed_again() {
    for (lines, reason) in [
        ("{]\n", "watch pods: not an event: "),
        ("{\"type\":\"RENAMED\",\"object\":{}}\n", "watch pods: not an event"),
        ("{\"type\":\"ADDED\",\"object\":{\"spec\":7}}\n", "watch pods: not an event"),
        ("{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n", "watch pods: no metadata.resourceVersion"),
        (
            "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"reason\":\"InternalError\",\"message\":\"no\"}}\n",
            "watch pods: 500 InternalError: no",
        ),
    ] {
        let server = recorded().await;
        server.script("pods", lines);
        let mut consumer = run(&server, "role: pod");
        consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
        consumer.until("the failure", |consumer| consumer.status().failures_total == 1).await;
        let (_, said) = consumer.status().last_failure.unwrap();
        assert!(said.contains(reason), "{said}");
        consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
        assert_eq!(server.lists(&[]), 2);
        assert_eq!(consumer.groups.len(), 3);
    }
    // A page that is none; and one that is not of Kubernetes.
    for (body, reason) in
        [("{", "list pods: the answer is not a list of objects: EOF"), ("[]", "objects: expected ")]
    {
        let server = ApiServer::start().await;
        server.stream(Streams::Refused);
        server.refuse_lists("/pods", "200 OK", body);
        let mut consumer = run(&server, "role: pod");
        consumer.until("the failure", |consumer| consumer.failure().is_some()).await;
        let said = consumer.failure().unwrap();
        assert!(said.contains(reason), "{said}");
    }
}

/// Lists that succeed before each watch that is refused do not make it well, and come at longer and longer intervals.
#[tokio::test]
async fn a_watch_that_is_refused_alone_fails_until_one_begins() {
    let server = recorded().await;
    server.stream(Streams::Refused);
    // Streams are not allowed before they are unknown.
    server.refuse("/pods", "403 Forbidden", "");
    server.refuse_watches("/pods", "403 Forbidden", "");
    let mut consumer = run(&server, "role: pod");
    consumer.until("the failure", |consumer| consumer.failure().is_some()).await;
    server.refuse("/pods", "", "");
    let lists = |consumer: &Consumer| {
        consumer.status().collections.first().map_or(0, |collection| collection.lists_total)
    };
    consumer.until("lists", |consumer| lists(consumer) >= 5 && consumer.groups.len() == 3).await;
    let reason = "watch pods: 403 Forbidden: a ClusterRole needs list, watch on pods";
    assert_eq!(consumer.failure().as_deref(), Some(reason));
    assert_eq!(consumer.status().collections[0].failure.as_deref(), Some(reason));
    let successes =
        |consumer: &Consumer| consumer.status().refreshes_total - consumer.status().failures_total;
    assert_eq!(successes(&consumer), 0, "{:#?}", consumer.status());
    let lists: Vec<Instant> = {
        let state = server.state();
        let requests = state.requests.iter().zip(&state.times);
        requests.filter(|(request, _)| request.contains("limit=")).map(|(_, time)| *time).collect()
    };
    // Before the fifth list the pause is several times the first one.
    assert!(lists[lists.len() - 1] - lists[lists.len() - 2] >= Duration::from_millis(160), "{lists:?}");

    server.refuse_watches("/pods", "", "");
    consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
    assert_eq!(consumer.status().collections[0].failure, None);
    assert_eq!(successes(&consumer), 1);
    server.delete("pods", "shop/web-1");
    consumer.until("a pod less", |consumer| consumer.groups.len() == 2).await;
}

#[tokio::test]
async fn a_namespace_that_fails_holds_up_no_other() {
    let server = recorded().await;
    let mut other = pod("api", "10.0.0.7");
    other["metadata"]["namespace"] = json!("pay");
    server.put("pods", other);
    server.refuse("/namespaces/pay/pods", "403 Forbidden", "");
    let mut consumer = run(&server, "role: pod, namespaces: {names: [shop, pay, shop]}");
    consumer.until("the one namespace", |consumer| consumer.groups.len() == 3).await;
    assert!(consumer.failure().unwrap().starts_with("watch pods in namespace pay: 403"));
    assert_eq!(server.lists(&["/namespaces/shop/pods"]), 1, "a name given twice is asked for once");

    // What happens there goes on reaching us.
    server.delete("pods", "shop/web-1");
    consumer.until("a pod less", |consumer| consumer.groups.len() == 2).await;
    assert!(consumer.failure().is_some());
    server.refuse("/namespaces/pay/pods", "", "");
    consumer.until("the other namespace", |consumer| consumer.groups.len() == 3).await;
    consumer.until("recovery", |consumer| consumer.failure().is_none()).await;

    // Without what it is made of, a role has no targets, as in Prometheus.
    server.refuse("/nodes", "403 Forbidden", "");
    let mut attached = run(&server, "role: pod, attach_metadata: {node: true}");
    attached.until("the failure", |consumer| consumer.failure().is_some()).await;
    assert!(attached.groups.is_empty());
    server.refuse("/nodes", "", "");
    let is_known = |consumer: &Consumer| consumer.sources() == ["pod/shop/web-2", "pod/shop/web-done"];
    attached.until("the pods whose node is known", is_known).await;
}

#[tokio::test]
async fn the_server_is_asked_for_what_is_needed_only() {
    let server = recorded().await;
    // All that there is to ask for: streams that are refused, pages instead, and watches.
    server.stream(Streams::Invalid);
    let mut consumer = run(
        &server,
        "role: endpoints, namespaces: {names: [shop]}, authorization: {credentials: hush}, \
         selectors: [{role: pod, label: 'app in (web),!x', field: 'status.phase!=Failed'}], \
         attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}",
    );
    // The fake server takes these selectors for ones that nothing meets, which is no failure.
    consumer.until("the endpoints", |consumer| consumer.groups.len() == 1).await;
    consumer.until("all watches", |_| server.count(&["watch=true"]) == 14).await;
    let selectors = "fieldSelector=status.phase%21%3DFailed&labelSelector=app+in+%28web%29%2C%21x&";
    for (path, selectors, metadata_only) in [
        ("/api/v1/namespaces/shop/endpoints", "", false),
        ("/api/v1/namespaces/shop/services", "", false),
        ("/api/v1/namespaces/shop/pods", selectors, false),
        ("/apis/apps/v1/namespaces/shop/replicasets", "", true),
        ("/apis/batch/v1/namespaces/shop/jobs", "", true),
        ("/api/v1/nodes", "", false),
        ("/api/v1/namespaces", "", true),
    ] {
        let state = server.state();
        for (is_list, query) in [
            (true, format!("{selectors}limit=100")),
            (
                false,
                format!(
                    "watch=true&timeoutSeconds=*&{selectors}allowWatchBookmarks=true&sendInitialEvents=true&\
                     resourceVersionMatch=NotOlderThan&resourceVersion=0"
                ),
            ),
            (
                false,
                format!("watch=true&timeoutSeconds=*&{selectors}allowWatchBookmarks=true&resourceVersion=*"),
            ),
        ] {
            // The rest of an example, from the first star on, is not compared where it is a number.
            let is_it = |request: &&String| {
                let asked = request.split(' ').nth(1).unwrap();
                let Some(asked) = asked.strip_prefix(path).and_then(|asked| asked.strip_prefix('?')) else {
                    return false;
                };
                let same = |(wanted, got): (&str, &str)| match wanted.strip_suffix('*') {
                    Some(name) => got.strip_prefix(name).is_some_and(|number| number.parse::<u64>().is_ok()),
                    None => wanted == got,
                };
                query.split('&').count() == asked.split('&').count()
                    && query.split('&').zip(asked.split('&')).all(same)
            };
            let request = state.requests.iter().find(is_it);
            let request =
                request.unwrap_or_else(|| panic!("{path}?{query} was not asked for: {:#?}", state.requests));
            let accept = match (metadata_only, is_list) {
                (false, _) => "application/json\r",
                (true, true) => {
                    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json\r"
                }
                (true, false) => {
                    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json\r"
                }
            };
            assert!(request.contains(&format!("accept: {accept}")), "{request}");
            assert!(request.contains("authorization: Bearer hush"), "{request}");
        }
    }
    assert_eq!(server.lists(&[]), 7);
    let state = server.state();
    let request = state.requests.iter().find(|request| request.contains("/nodes?watch=true")).unwrap();
    let seconds = request.split("timeoutSeconds=").nth(1).unwrap().split('&').next().unwrap();
    assert!((300..600).contains(&seconds.parse().unwrap()), "{seconds}");
}

#[tokio::test]
async fn an_empty_name_stands_for_all_namespaces() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: service, namespaces: {names: [shop, '']}");
    consumer.until("the services", |consumer| consumer.groups.len() == 3).await;
    assert_eq!(server.lists(&["/api/v1/services?"]), 1);
    assert_eq!(server.lists(&[]), 1);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_asked_anew() {
    let server = recorded().await;
    let mut options = options();
    options.kubernetes.watch_silence = Duration::from_millis(50);
    let yaml = format!("role: pod, api_server: '{}'", server.url);
    let mut consumer = Consumer::run(&[("job", yaml)], options);
    consumer.until("several watches", |_| server.count(&["watch=true"]) > 3).await;
    assert_eq!(server.lists(&[]), 1);
    assert_eq!(consumer.status().failures_total, 0);
}

#[tokio::test]
async fn a_server_that_is_away_at_start_is_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let yaml = format!("role: node, api_server: 'http://user:hunter2@{address}'");
    let mut consumer = Consumer::run(&[("job", yaml)], options());
    consumer.until("several failures", |consumer| consumer.status().failures_total > 2).await;
    assert!(consumer.failure().unwrap().contains("connection refused"));
    let status = consumer.status();
    assert_eq!(status.subject, format!("node at http://user:xxxxx@{address}"));
    assert!(!format!("{status:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_event_that_is_too_long_is_left_out() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: pod");
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    let mut long = pod("long", "10.0.0.1");
    long["metadata"]["annotations"] = json!({ "filling": "ü".repeat(9 << 20) });
    server.put("pods", long);
    consumer.until("the failure", |consumer| consumer.failure().is_some()).await;
    let reason = "watch pods: an event has more than 8388608 bytes, it is left out";
    assert_eq!(consumer.failure().as_deref(), Some(reason));
    server.put("pods", pod("new", "10.0.0.2"));
    consumer.until("what came after it", |consumer| consumer.groups.len() == 4).await;
    assert_eq!(server.lists(&[]), 1);
}

#[tokio::test]
async fn what_a_server_asks_to_wait_is_waited() {
    let server = recorded().await;
    server.refuse("/pods", "429 Too Many Requests\r\nretry-after: 1", "");
    let mut consumer = run(&server, "role: pod");
    consumer.until("two requests", |_| server.count(&["/pods"]) >= 2).await;
    server.refuse("/pods", "", "");
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    let times = server.state().times.clone();
    assert!(times[1] - times[0] >= Duration::from_secs(1), "{:?}", times[1] - times[0]);
}

#[tokio::test]
async fn a_token_that_is_replaced_is_read_again() {
    let server = recorded().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let write = |token: &str| {
        std::fs::write(folder.path().join("new"), token).unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
    };
    write("first");
    server.want_token("first");
    let mut consumer = run(&server, &format!("role: pod, bearer_token_file: '{}'", file.display()));
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;

    // In time: nobody notices.
    write("second-one");
    server.want_token("second-one");
    server.disconnect();
    server.put("pods", pod("new", "10.0.0.1"));
    consumer.until("a new pod", |consumer| consumer.groups.len() == 4).await;
    assert_eq!(consumer.status().failures_total, 0);

    // Too late: said, and over as soon as it is there.
    server.want_token("the-third-one");
    server.disconnect();
    consumer.until("a failure", |consumer| consumer.failure().is_some()).await;
    let reason = "watch pods: 401 Unauthorized: the API server does not take the credentials";
    assert_eq!(consumer.failure().as_deref(), Some(reason));
    write("the-third-one");
    consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
    assert_eq!(consumer.groups.len(), 4);
}
