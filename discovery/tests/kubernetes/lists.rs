//! How collections are listed: streamed, or in pages.

use std::time::Duration;

use serde_json::json;

use crate::api_server::{ApiServer, Streams};
use crate::golden::recorded;
use crate::support::{Consumer, found, of_prometheus, options};
use crate::watching::{pod, run};

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
