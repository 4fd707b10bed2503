//! What is said of failures, by the status and in the log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::api_server::Streams;
use crate::golden::recorded;
use crate::support::{Consumer, options};
use crate::watching::{SLICE, pod, run};

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
