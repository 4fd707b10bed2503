//! What a pod costs, with every byte counted that the mechanisms' thread holds.
#![allow(unsafe_code, reason = "a global allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use promferry_discovery::{Changes, Discovery, DiscoveryConfigs};
use serde_json::{Value, json};

use crate::api_server::{ApiServer, Streams};
use crate::support::options;

struct Counting;

thread_local! {
    /// Bytes held, of this thread: tests run beside each other.
    static HELD: Cell<i64> = const { Cell::new(0) };
    /// The most that was held since this was set.
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that is ending has no counter any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        PEAK.try_with(|peak| peak.set(peak.get().max(held.get())))
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PODS: usize = 2000;

/// Of which a quarter is replaced in each round.
const CHURNED: usize = 1000;

/// A pod as EKS has it on Fargate, with a node of its own.
fn pod(number: usize, generation: usize) -> Value {
    let name = format!("web-7d9c5b6f4-{number:05}-{generation}");
    let id = format!("{:064x}", number * 7919 + generation);
    json!({
        "metadata": {
            "name": name, "namespace": "shop",
            "uid": format!("6ba7b810-9dad-11d1-80b4-{:012x}", number * 31 + generation),
            "labels": { "app": "web", "a": "1", "b": "1", "c": "1", "d": "1", "e": "1",
                "eks.amazonaws.com/fargate-profile": "fp-default" },
            "annotations": { "prometheus.io/scrape": "true", "prometheus.io/port": "9102",
                "CapacityProvisioned": "0.25vCPU 0.5GB" },
            "ownerReferences": [{ "kind": "ReplicaSet", "name": "web-7d9c5b6f4", "controller": true }],
        },
        "spec": {
            "nodeName": format!("fargate-ip-10-0-{}-{}.eu-west-1.compute.internal", number / 256, number % 256),
            "containers": [{ "name": "app", "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1.2.3",
                "ports": [{ "containerPort": 8080, "name": "http", "protocol": "TCP" },
                    { "containerPort": 9102, "name": "metrics", "protocol": "TCP" }] }],
        },
        "status": {
            "phase": "Running", "hostIP": "10.0.0.1", "podIP": format!("10.1.{}.{}", number / 256, number % 256),
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "app", "containerID": format!("containerd://{id}") }],
        },
    })
}

fn name(number: usize, generation: usize) -> String {
    format!("shop/web-7d9c5b6f4-{number:05}-{generation}")
}

/// What the server is told is the server's: it is not counted.
fn tell(server: &ApiServer, tell: impl FnOnce(&ApiServer) + Send) {
    std::thread::scope(|scope| scope.spawn(|| tell(server)).join().unwrap());
}

/// An API server in a thread of its own.
fn server() -> ApiServer {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sender.send(ApiServer::start().await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}

struct Found {
    discovery: Discovery,
    changes: Changes,
}

impl Found {
    fn of(server: &ApiServer, selectors: &[&str]) -> Self {
        let (discovery, changes) = Discovery::new(options());
        let errors = discovery.apply(selectors.iter().map(|selector| {
            let yaml = format!(
                "kubernetes_sd_configs: [{{role: pod, api_server: '{}', selectors: [{{role: pod, label: '{selector}'}}]}}]",
                server.url
            );
            let configs: DiscoveryConfigs = serde_saphyr::from_str(&yaml).unwrap();
            ((*selector).into(), configs)
        }));
        assert!(errors.is_empty(), "{errors:?}");
        Self { discovery, changes }
    }

    /// Takes changes until every mechanism has told about these pods.
    async fn told(&mut self, pods: Vec<String>) {
        let jobs = self.discovery.status().len();
        let mut left: BTreeMap<String, usize> =
            pods.into_iter().map(|pod| (format!("pod/{pod}"), jobs)).collect();
        let all = async {
            while !left.is_empty() {
                for change in self.changes.next().await.iter().filter(|change| change.group.is_some()) {
                    if let Some(jobs) = left.get_mut(change.source.as_str()) {
                        *jobs -= 1;
                    }
                }
                left.retain(|_, jobs| *jobs > 0);
            }
        };
        tokio::time::timeout(Duration::from_secs(120), all).await.expect("the pods of a round");
    }

    /// Takes changes until every mechanism has so many groups and nothing happens any more; the bytes that are held
    /// then.
    async fn settle(&mut self, pods: usize) -> i64 {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            let quiet = tokio::time::timeout(Duration::from_millis(100), self.changes.next()).await.is_err();
            let status = self.discovery.status();
            if quiet && status.iter().all(|of| of.last_success.is_some() && of.targets == 2 * pods) {
                return HELD.get();
            }
            assert!(tokio::time::Instant::now() < deadline, "{status:#?}");
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_pod_takes_some_hundreds_of_bytes_and_a_further_mechanism_some_dozens() {
    let (empty, server) = (server(), server());
    tell(&server, |server| (0..PODS).for_each(|number| server.put("pods", pod(number, 0))));
    let held_by = |server: &ApiServer, selectors: &[&str], pods| {
        let (mut held, mut told) = (-HELD.get(), 0);
        run(async {
            let mut found = Found::of(server, selectors);
            held += found.settle(pods).await;
            told = found.discovery.objects_bytes();
        });
        (held, told as i64)
    };
    let mut held = Vec::new();
    for selectors in [&["a=1"][..], &["a=1", "b=1", "c=1", "d=1", "e=1"]] {
        // Connections and mechanisms take something without a pod.
        let (with, told) = held_by(&server, selectors, PODS);
        let more = with - held_by(&empty, selectors, 0).0;
        // What it says itself is about that, but for what connections read into.
        assert!(selectors.len() > 1 || told > more / 2 && told < more * 3 / 2, "{told} of {more}");
        held.push(more as f64 / PODS as f64);
    }
    eprintln!("bytes a pod: one mechanism {:.0}, five {:.0}", held[0], held[1]);
    assert!(held[0] < 600.0, "{held:?}");
    assert!(held[1] < held[0] + 4.0 * 128.0, "{held:?}");
}

#[test]
fn churn_leaves_nothing_behind() {
    let server = server();
    run(async {
        let mut found = Found::of(&server, &["a=1", "b=1"]);
        tell(&server, |server| (0..CHURNED).for_each(|number| server.put("pods", pod(number, 0))));
        let mut held = Vec::new();
        for round in 0..14 {
            // The one in this place was made four rounds ago.
            let (before, now) = (round / 4, round / 4 + 1);
            tell(&server, |server| {
                for number in (round % 4..CHURNED).step_by(4) {
                    server.delete("pods", &name(number, before));
                    server.put("pods", pod(number, now));
                }
            });
            let is_new = (0..CHURNED).step_by(4).map(|number| name(number + round % 4, now));
            found.told(is_new.collect()).await;
            held.push(found.settle(CHURNED).await);
        }
        eprintln!(
            "bytes a pod in each round: {:?}",
            held.iter().map(|held| held / CHURNED as i64).collect::<Vec<_>>()
        );
        // Texts that nobody needs are removed when there are enough of them.
        let (first, last) = (held[4..8].iter().max().unwrap(), held[10..].iter().min().unwrap());
        assert!(*last < first + first / 3, "{held:?}");
    });
}

/// Whether they are streamed or come in pages: what is held is a page or two, and not the list.
#[test]
fn a_cold_start_never_holds_more_than_two_pages() {
    const PAGE_BYTES: i64 = 1 << 20;
    const PODS: usize = 800;
    for streams in [Streams::Whole, Streams::Refused] {
        let server = server();
        server.stream(streams);
        tell(&server, |server| {
            for number in 0..PODS {
                let mut pod = pod(number, 0);
                // What the kubelet and the API server add: 9 KB in all.
                pod["metadata"]["managedFields"] = json!("x".repeat(8000));
                server.put("pods", pod);
            }
        });
        run(async {
            let before = HELD.get();
            PEAK.set(before);
            let mut found = Found::of(&server, &["a=1", "b=1", "c=1"]);
            let settled = found.settle(PODS).await;
            let over = PEAK.get() - settled;
            eprintln!(
                "{streams:?}: {} KiB at most over the {} KiB that stay",
                over >> 10,
                (settled - before) >> 10
            );
            // Each is there twice while it is read: as text, and the text in one piece.
            assert!(over < 2 * 2 * PAGE_BYTES, "{streams:?}: {over} bytes");
        });
    }
}
