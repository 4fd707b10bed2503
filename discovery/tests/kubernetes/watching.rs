use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Streams};
use crate::golden::recorded;
use crate::support::{Consumer, found, of_prometheus, options};

const SLICE: &str = "endpointslice/shop/web-abc12";

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "containers": [{ "name": "app", "image": "web" }] },
        "status": { "phase": "Running", "podIP": ip },
    })
}

fn run(server: &ApiServer, yaml: &str) -> Consumer {
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

#[tokio::test]
async fn what_is_forbidden_is_named_with_the_right_that_is_missing() {
    let server = recorded().await;
    let forbidden = include_str!("data/forbidden.json");
    for (yaml, path, reason) in [
        (
            "role: pod, namespaces: {names: [shop]}",
            "/namespaces/shop/pods",
            "watch pods in namespace shop: 403 Forbidden: a Role needs list, watch on pods (secrets is \
             forbidden: User \"system:serviceaccount:monitoring:scraper\" cannot list resource \"secrets\" in API \
             group \"\" at the cluster scope)",
        ),
        (
            "role: endpointslice",
            "/endpointslices",
            "watch endpointslices: 403 Forbidden: a ClusterRole needs list, watch on endpointslices of apiGroup \
             discovery.k8s.io",
        ),
    ] {
        server.refuse(path, "403 Forbidden", forbidden);
        let mut consumer = run(&server, yaml);
        consumer.until("the failure", |consumer| consumer.failure().is_some()).await;
        let said = consumer.failure().unwrap();
        assert!(said.starts_with(reason), "{said}");
        server.refuse(path, "", "");
        consumer
            .until("recovery", |consumer| consumer.failure().is_none() && !consumer.groups.is_empty())
            .await;
    }
    server.refuse("/ingresses", "401 Unauthorized", "");
    let mut consumer = run(&server, "role: ingress");
    consumer.until("the failure", |consumer| consumer.failure().is_some()).await;
    assert_eq!(
        consumer.failure().as_deref(),
        Some("watch ingresses: 401 Unauthorized: the API server does not take the credentials")
    );
    server.refuse("/ingresses", "404 Not Found", "404 page not found\n");
    let reason = "watch ingresses: 404 Not Found: this API server has no ingresses of networking.k8s.io/v1";
    consumer.until("another failure", |consumer| consumer.failure().as_deref() == Some(reason)).await;
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

/// A slice of a MiB can stand for billions of targets.
#[tokio::test]
async fn an_object_of_too_many_targets_is_left_out_and_named() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: endpointslice");
    consumer.until("the slices", |consumer| consumer.sources().contains(&SLICE)).await;
    let known = consumer.groups.len();
    let slice = |addresses: usize| {
        let mut slice = server.object("endpointslices", "shop/web-abc12");
        slice["endpoints"] = json!([{ "addresses": vec!["10.0.0.1"; addresses] }]);
        slice["ports"] = (0..500).map(|port| json!({ "port": port + 1 })).collect();
        slice
    };
    server.put("endpointslices", slice(101));
    let reason = "watch endpointslices: shop/web-abc12 has 50500 targets, more than 50000, it is left out";
    let says = |consumer: &Consumer| consumer.failure().as_deref() == Some(reason);
    consumer.until("the failure", |consumer| says(consumer) && consumer.groups.len() == known - 1).await;
    // Neither a new watch nor a new list makes that well, only that it is gone or smaller.
    server.forget();
    server.disconnect();
    consumer.until("a list", |consumer| consumer.status().collections[0].lists_total == 2).await;
    assert!(says(&consumer), "{:#?}", consumer.status());
    server.put("endpointslices", slice(1));
    consumer.until("the slice", |consumer| consumer.groups.len() == known).await;
    server.forget();
    server.disconnect();
    consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
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
async fn a_streamed_list_is_a_list() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: pod");
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    assert_eq!(found(&consumer, "job"), of_prometheus("pod"));
    server.put("pods", pod("new", "10.0.0.1"));
    consumer.until("a change of the same answer", |consumer| consumer.groups.len() == 4).await;
    assert_eq!(server.state().requests.len(), 1);

    // What is gone meanwhile is missing in the next one.
    server.delete("pods", "shop/web-1");
    server.forget();
    server.disconnect();
    consumer.until("a pod less", |consumer| consumer.groups.len() == 3).await;
    assert_eq!(server.lists(&[]), 2);
    assert_eq!(server.count(&["limit="]), 0);
}

#[tokio::test]
async fn a_server_without_streamed_lists_is_asked_for_pages() {
    for (streams, is_remembered) in
        [(Streams::Refused, true), (Streams::Invalid, false), (Streams::RefusedWithin, true)]
    {
        let server = recorded().await;
        server.stream(streams);
        let mut consumer = run(&server, "role: pod");
        consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
        assert_eq!(consumer.status().failures_total, 0, "{streams:?}");
        let attempts = server.count(&["sendInitialEvents=true"]);
        assert_eq!((attempts, server.lists(&[])), (1, 1), "{streams:?}");

        server.put("pods", pod("new", "10.0.0.1"));
        server.forget();
        server.disconnect();
        consumer.until("the new pod", |consumer| consumer.groups.len() == 4).await;
        // A reason that may be that of the one list alone is not held against the server.
        let attempts = server.count(&["sendInitialEvents=true"]);
        assert_eq!(attempts, if is_remembered { 1 } else { 2 }, "{streams:?}");
    }
}

#[tokio::test]
async fn a_stream_that_falls_silent_before_its_end_is_given_up() {
    let server = recorded().await;
    server.stream(Streams::Endless);
    let mut options = options();
    options.kubernetes.answer_limit = Duration::from_secs(4);
    let yaml = |role: &str| format!("role: {role}, api_server: '{}'", server.url);
    let mut consumer = Consumer::run(&[("job", yaml("pod"))], options);
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    assert_eq!(server.count(&["sendInitialEvents=true"]), 1);
    assert_eq!(consumer.status().failures_total, 0);
}

#[tokio::test]
async fn a_name_that_no_path_can_have_is_said_once() {
    let server = recorded().await;
    let mut consumer = run(&server, "role: pod, namespaces: {names: ['a b', shop]}");
    consumer.until("the other namespace", |consumer| consumer.groups.len() == 3).await;
    consumer.until("the failure", |consumer| consumer.failure().is_some()).await;
    let said = consumer.failure().unwrap();
    assert!(said.starts_with("watch pods in namespace a b: "), "{said}");
    // Nothing is sent, so nothing waits but the follower.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(consumer.status().failures_total, 1);
}

#[tokio::test]
async fn streams_that_fail_again_and_again_are_given_up() {
    for streams in [Streams::Failing, Streams::Broken] {
        let server = recorded().await;
        server.stream(streams);
        let mut consumer = run(&server, "role: pod");
        consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
        // Three, and one more where that the third broke off is known by the runtime's next attempt.
        assert!((3..=4).contains(&server.count(&["sendInitialEvents=true"])), "{streams:?}");
        assert_eq!(server.count(&["limit="]), 1, "{streams:?}");
        consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
    }
}

#[tokio::test]
async fn a_list_that_breaks_off_removes_nothing() {
    for streams in [Streams::Whole, Streams::Refused] {
        let server = recorded().await;
        server.stream(streams);
        let mut options = options();
        options.kubernetes.page_items = 2;
        let yaml = format!("role: pod, api_server: '{}'", server.url);
        let mut consumer = Consumer::run(&[("job", yaml)], options);
        consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
        let lists = server.lists(&[]);
        // The second page is gone, or the stream ends half-way, again and again.
        match streams {
            Streams::Whole => server.stream(Streams::Broken),
            _ => server.break_pages(true),
        }
        server.delete("pods", "shop/web-1");
        server.forget();
        server.disconnect();
        consumer.until("several lists", |_| server.lists(&[]) > lists + 2).await;
        if streams == Streams::Refused {
            assert_eq!(consumer.groups.len(), 3, "what was found stays");
            server.break_pages(false);
        }
        // Streams that break are given up for pages.
        consumer.until("a pod less", |consumer| consumer.groups.len() == 2).await;
    }
}

#[tokio::test]
async fn pages_have_about_a_mebibyte() {
    let server = ApiServer::start().await;
    server.stream(Streams::Refused);
    // 250 pods of 20 KB: 50 a page, after the first one.
    for number in 0..250 {
        let mut pod = pod(&format!("pod-{number:03}"), "10.0.0.1");
        pod["spec"]["filling"] = json!("x".repeat(20_000));
        server.put("pods", pod);
    }
    let mut consumer = run(&server, "role: pod");
    consumer.until("the pods", |consumer| consumer.groups.len() == 250).await;
    let state = server.state();
    let limits: Vec<u32> = (state.requests.iter())
        .filter_map(|request| request.split("limit=").nth(1)?.split(['&', ' ']).next()?.parse().ok())
        .collect();
    assert_eq!(limits[0], 100);
    assert!(limits[1..].iter().all(|limit| (45..=55).contains(limit)), "{limits:?}");
}

#[tokio::test]
async fn no_more_than_two_lists_are_asked_for_at_once() {
    for streams in [Streams::Whole, Streams::Refused] {
        let server = recorded().await;
        server.stream(streams);
        server.hold_lists(Duration::from_millis(20));
        let names: Vec<String> = (0..8).map(|number| format!("ns{number}")).collect();
        let mut consumer =
            run(&server, &format!("role: service, namespaces: {{names: [{}]}}", names.join(", ")));
        consumer.until("all lists", |consumer| consumer.status().last_success.is_some()).await;
        let state = server.state();
        assert_eq!(state.most_lists_at_once, 2, "{streams:?}");
    }
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

/// Whichever way the list came: what is known is gone on from, however often a watch is refused for now.
#[tokio::test]
async fn a_server_that_is_overloaded_is_not_asked_for_lists() {
    for streams in [Streams::Whole, Streams::Refused, Streams::Invalid] {
        let server = recorded().await;
        server.stream(streams);
        let mut consumer = run(&server, "role: pod");
        consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
        let lists = (server.count(&["sendInitialEvents"]), server.count(&["limit="]));
        for status in ["503 Service Unavailable", "500 Internal Server Error", "429 Too Many Requests"] {
            let failures = consumer.status().failures_total;
            server.refuse("/pods", status, "");
            server.disconnect();
            consumer.until("failures", |consumer| consumer.status().failures_total > failures + 3).await;
            server.refuse("/pods", "", "");
            consumer.until("recovery", |consumer| consumer.failure().is_none()).await;
        }
        assert_eq!((server.count(&["sendInitialEvents"]), server.count(&["limit="])), lists, "{streams:?}");
    }
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

#[tokio::test]
async fn each_collection_says_how_it_fares() {
    let server = recorded().await;
    server.refuse("/namespaces/pay/pods", "403 Forbidden", "");
    let mut consumer = run(
        &server,
        "role: pod, namespaces: {names: [shop, pay]}, selectors: [{role: pod, label: 'app=web'}]",
    );
    consumer.until("the one namespace", |consumer| !consumer.groups.is_empty()).await;
    let of = |consumer: &Consumer, namespace: &str| {
        let mut collections = consumer.status().collections.into_iter();
        collections.find(|collection| collection.namespace.as_deref() == Some(namespace)).unwrap()
    };
    let listed = of(&consumer, "shop").objects;
    server.put("pods", {
        let mut new = pod("new", "10.0.0.1");
        new["metadata"]["labels"] = json!({ "app": "web" });
        new
    });
    consumer.until("a new pod", |consumer| consumer.sources().contains(&"pod/shop/new")).await;
    let known = consumer.groups.len();
    server.delete("pods", "shop/new");
    consumer.until("a pod less", |consumer| consumer.groups.len() < known).await;
    consumer.until("a failure", |consumer| consumer.failure().is_some()).await;
    let shop = of(&consumer, "shop");
    assert_eq!(
        (shop.resource, shop.label_selector.as_str(), shop.field_selector.as_str()),
        ("pods", "app=web", "")
    );
    assert_eq!((shop.lists_total, shop.watches_total, shop.failures_total), (1, 1, 0));
    assert_eq!((shop.objects, shop.applied_total, shop.deleted_total), (listed, listed as u64 + 1, 1));
    assert!(shop.last_listed.is_some() && shop.last_heard >= shop.last_listed && shop.failure.is_none());
    let pay = of(&consumer, "pay");
    assert_eq!((pay.lists_total, pay.watches_total, pay.objects), (0, 0, 0));
    assert!(pay.failures_total > 0 && pay.last_listed.is_none());
    assert!(pay.failure.unwrap().starts_with("watch pods in namespace pay: 403 Forbidden"));
}

/// A page that cannot be read has secrets in it, and one who may nothing asks again and again: neither is in the log.
#[tokio::test]
async fn the_log_has_what_is_said_once_and_nothing_of_answers() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let server = recorded().await;
    server.stream(Streams::Refused);
    server.refuse_lists(
        "/pods",
        "200 OK",
        r#"{"metadata":{"resourceVersion":"1"},"items":[{"spec":"hunter2"}]}"#,
    );
    server.refuse("/services", "403 Forbidden", include_str!("data/forbidden.json"));
    let url = &server.url;
    let jobs = [
        ("pods", format!("role: pod, api_server: '{url}'")),
        ("services", format!("role: service, api_server: '{url}'")),
    ];
    let mut consumer = Consumer::run(&jobs, options());
    let has_failed =
        |consumer: &Consumer| consumer.discovery.status().iter().all(|status| status.failures_total > 2);
    consumer.until("failures", has_failed).await;
    let lines = log.0.lock().unwrap().clone();
    assert!(!lines.iter().any(|line| line.contains("hunter2") || line.starts_with("kube")), "{lines:#?}");
    for (reason, text) in [
        ("list pods", "the answer is not a list of objects"),
        ("services", "403 Forbidden: a ClusterRole needs list, watch on services"),
    ] {
        let said = lines.iter().filter(|line| line.starts_with("promferry") && line.contains("WARN"));
        let said = said.filter(|line| line.contains(reason) && line.contains(text)).count();
        assert_eq!(said, 1, "{reason}: {lines:#?}");
    }
}

/// Everything that is logged: target, level and message.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {value:?}");
            }
        }
        let metadata = event.metadata();
        let mut line = Line(format!("{} {}", metadata.target(), metadata.level()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
