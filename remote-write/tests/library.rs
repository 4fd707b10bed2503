//! The crate as a service uses it: a writer and a client at one end, a server of the receiver's types at the other.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_http_client::{Client as HttpClient, Http, HttpClientConfig, HttpOptions};
use promferry_model::{
    BucketCounts, Exemplar, Histogram, Labels, Metadata, MetricType, PromDuration, Sample, Span, Timestamp,
};
use promferry_remote_write::delivery::{Outcome, transport};
use promferry_remote_write::receiver::{self, WriteRequest};
use promferry_remote_write::spool::{Reason, SpoolOptions};
use promferry_remote_write::{
    AppendError, Client, Counts, ProtobufMessage, Protocol, RemoteWriteConfig, SendError, Writer, wire,
};
use tokio::net::TcpListener;

/// A server that takes what the receiver's types can read, or answers one status to everything.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<WriteRequest>>>,
    refuse: Arc<Mutex<Option<u16>>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, taken: Arc::default(), refuse: Arc::default() };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request| shared.clone().answer(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        server
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if let Some(status) = *self.refuse.lock().unwrap() {
            let mut response = Response::new(Full::new(Bytes::from_static(b"not now")));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(response);
        }
        let received = receiver::read(&head.headers, &body, 1 << 20);
        let answer = receiver::response(&received.as_ref().map(WriteRequest::written).map_err(|error| {
            panic!("what this crate sends is read by this crate: {error}");
        }));
        self.taken.lock().unwrap().extend(received.ok());
        Ok(answer.map(Full::new))
    }

    fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    fn taken(&self) -> Vec<WriteRequest> {
        self.taken.lock().unwrap().clone()
    }
}

fn config(server: &Server, message: ProtobufMessage) -> RemoteWriteConfig {
    RemoteWriteConfig {
        protobuf_message: message,
        send_exemplars: true,
        send_native_histograms: true,
        ..server.url().as_str().into()
    }
}

const AT: i64 = 1_700_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(AT + 1000 * seconds)
}

fn orders() -> Labels {
    Labels::from_pairs([("__name__", "orders_total"), ("job", "orders")])
}

fn histogram() -> Histogram {
    Histogram {
        schema: 3,
        zero_threshold: 1e-9,
        sum: 12.5,
        counts: BucketCounts::Integer { count: 5, zero_count: 1, positive: vec![1, 2], negative: vec![] },
        positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: 1 }],
        ..Histogram::stale()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_writes_and_a_receiver_reads_the_same() {
    for message in [ProtobufMessage::V1, ProtobufMessage::V2] {
        let server = Server::start().await;
        let writer = Writer::builder(config(&server, message))
            .external_labels(Labels::from_pairs([("cluster", "blue")]))
            .start()
            .await
            .unwrap();
        let counter = Metadata {
            family: "orders".into(),
            metric_type: MetricType::Counter,
            unit: "".into(),
            help: "Orders taken.".into(),
        };
        writer.describe(&counter);
        let sample = Sample { timestamp: at(1), value: 42.0, start: Some(at(-60)) };
        let exemplar =
            Exemplar { labels: Labels::from_pairs([("trace_id", "abc")]), value: 1.0, timestamp: at(0) };
        writer.append_sample(&orders(), sample, std::slice::from_ref(&exemplar)).unwrap();
        let latency = Labels::from_pairs([("__name__", "latency_seconds")]);
        writer.append_histogram(&latency, at(1), None, &histogram(), &[]).unwrap();

        // Five seconds are not waited for.
        let started = std::time::Instant::now();
        let ledger = writer.flush(Duration::from_secs(30)).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
        let all = Counts { samples: 1, histograms: 1, exemplars: 1 };
        assert_eq!((ledger.accepted, ledger.delivered, ledger.pending), (all, all, Counts::default()));

        let v2 = message == ProtobufMessage::V2;
        let request = server.taken().swap_remove(0);
        assert_eq!(request.protocol, if v2 { Protocol::V2 } else { Protocol::V1 });
        let [first, second] = request.series.as_slice() else { panic!("{request:?}") };
        let expected =
            Labels::from_pairs([("__name__", "orders_total"), ("cluster", "blue"), ("job", "orders")]);
        assert_eq!(first.labels, expected);
        assert_eq!(first.samples, [if v2 { sample } else { Sample { start: None, ..sample } }]);
        assert_eq!(first.exemplars, [exemplar]);
        let known = first.metadata.as_ref().map(|known| (known.metric_type, known.help.as_str()));
        assert_eq!(known, v2.then_some((MetricType::Counter, "Orders taken.")), "in the first request");
        assert_eq!(second.histograms[0].histogram, histogram());
        assert_eq!(second.histograms[0].timestamp, at(1));

        // It goes on after a flush, and the end waits for nothing either.
        writer.append(&orders(), at(2), 43.0).unwrap();
        let ledger = writer.close(Duration::from_secs(30)).await;
        assert_eq!((ledger.delivered.samples, ledger.pending.samples), (2, 0));
        assert_eq!(writer.append(&orders(), at(3), 44.0), Err(AppendError::Closed));
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_delivered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    *server.refuse.lock().unwrap() = Some(503);
    for run in 0..2 {
        let writer = Writer::builder(config(&server, ProtobufMessage::V1))
            .spool_directory(dir.path().join("spool"))
            .start()
            .await
            .unwrap();
        for number in 0..5000 {
            writer.append(&orders(), at(run * 10_000 + number), number as f64).unwrap();
        }
        let ledger = if run == 0 {
            writer.close(Duration::from_millis(100)).await
        } else {
            *server.refuse.lock().unwrap() = None;
            writer.close(Duration::from_secs(30)).await
        };
        assert!(ledger.balances());
        let delivered = if run == 0 { 0 } else { 10_000 };
        assert_eq!((ledger.delivered.samples, ledger.dropped_total().samples), (delivered, 0), "run {run}");
    }
    let times: Vec<_> = server
        .taken()
        .iter()
        .flat_map(|request| &request.series)
        .flat_map(|series| series.samples.iter().map(|sample| sample.timestamp))
        .collect();
    assert_eq!(times.len(), 10_000);
    assert!(times.is_sorted_by(|a, b| a < b));
    assert!(server.taken().iter().all(|request| request.counts().samples <= 2000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_receiver_would_take_is_refused_at_once() {
    let server = Server::start().await;
    let writer = Writer::builder(server.url()).start().await.unwrap();
    writer.append(&orders(), at(5), 1.0).unwrap();
    let again = writer.append(&orders(), at(5), 2.0).unwrap_err();
    assert!(matches!(&again, AppendError::OutOfOrder { last, .. } if *last == at(5)));
    assert!(
        again.to_string().contains("orders_total") && again.to_string().contains("is not later"),
        "{again}"
    );
    let nameless = writer.append(&Labels::from_pairs([("a", "b")]), at(5), 1.0).unwrap_err();
    assert!(nameless.to_string().contains("have no __name__"), "{nameless}");
    let empty = writer.append(&Labels::from_pairs([("__name__", "up"), ("", "b")]), at(5), 1.0).unwrap_err();
    assert!(matches!(empty, AppendError::Labels { .. }));
    let ledger = writer.close(Duration::from_secs(30)).await;
    assert_eq!(ledger.accepted.samples, 1);
    assert!(Writer::builder("").start().await.is_err(), "a URL is needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_and_what_goes_is_the_oldest_and_counted() {
    let server = Server::start().await;
    *server.refuse.lock().unwrap() = Some(503);
    let options = SpoolOptions { max_bytes: Some(400_000), ..SpoolOptions::default() };
    let writer = Writer::builder(server.url()).spool_options(options).start().await.unwrap();
    // More than what is read ahead and the quota together, and not to be compressed.
    let value = |number: i64| f64::from_bits((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    for number in 0..300_000 {
        writer.append(&orders(), at(number), value(number)).unwrap();
        if number % 1000 == 0 {
            writer.commit().await.unwrap();
        }
    }
    writer.commit().await.unwrap();
    assert!(writer.status().await.unwrap().ledger.balances());
    *server.refuse.lock().unwrap() = None;
    let ledger = writer.close(Duration::from_secs(30)).await;
    assert_eq!((ledger.accepted.samples, ledger.pending.samples), (300_000, 0));
    assert!(ledger.balances() && ledger.dropped_for(&Reason::SPOOL_FULL).samples > 10_000, "{ledger:?}");
    let requests = server.taken();
    let times = requests.iter().flat_map(|request| &request.series).map(|series| series.samples[0].timestamp);
    let times: Vec<_> = times.collect();
    assert_eq!(times.len() as u64, ledger.delivered.samples);
    assert!(times.is_sorted_by(|a, b| a < b) && times.last() == Some(&at(299_999)));
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_share_a_writer() {
    let server = Server::start().await;
    let mut config = config(&server, ProtobufMessage::V2);
    config.queue_config.batch_send_deadline = PromDuration::from_millis(10);
    let writer = Writer::builder(config).commit_interval(Duration::from_millis(5)).start().await.unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let labels = Labels::from_pairs([("__name__", "m"), ("thread", &format!("{thread}"))]);
                for number in 0..3000 {
                    writer.append(&labels, at(number), number as f64).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let ledger = writer.close(Duration::from_secs(30)).await;
    assert_eq!((ledger.accepted.samples, ledger.delivered.samples), (12_000, 12_000));
    assert_eq!(server.taken().iter().map(|request| request.counts().samples).sum::<u64>(), 12_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sends_either_message_and_says_what_became_of_it() {
    let server = Server::start().await;
    let http = Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap();
    let client = Client::new(&server.url(), transport(HttpClient::new(http.clone()))).unwrap();
    let v2 = wire::v2::Request {
        symbols: ["", "__name__", "up"].map(String::from).to_vec(),
        timeseries: vec![wire::v2::TimeSeries {
            labels_refs: vec![1, 2],
            samples: vec![wire::v2::Sample { value: 1.0, timestamp: AT, start_timestamp: 0 }],
            ..Default::default()
        }],
    };
    let answer = client.send(v2.clone()).await.unwrap();
    assert_eq!((answer.outcome, answer.status), (Outcome::Delivered, StatusCode::NO_CONTENT));
    assert_eq!(answer.written, Some(Counts { samples: 1, ..Counts::default() }));
    let v1 = wire::v1::WriteRequest {
        metadata: vec![wire::v1::MetricMetadata { metric_family_name: "f".into(), ..Default::default() }],
        ..Default::default()
    };
    let answer = client.send(v1).await.unwrap();
    assert_eq!((answer.outcome, answer.written), (Outcome::Delivered, None));
    assert_eq!(server.taken()[1].metadata[0].family, "f");

    *server.refuse.lock().unwrap() = Some(429);
    let answer = client.send(v2.clone()).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Retry { after: None, throttled: true });
    assert_eq!(&answer.body[..], b"not now");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    let silent = Client::new(&url, transport(HttpClient::new(http))).unwrap();
    let silent = silent.with_timeout(Duration::from_millis(50));
    assert!(matches!(silent.send(v2).await, Err(SendError::Timeout(_))));
    assert!(
        Client::new(
            "http://no spaces/",
            transport(HttpClient::new(
                Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap()
            ))
        )
        .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_while_it_closes_is_stored_or_said_not_to_be() {
    let server = Server::start().await;
    for round in 0..10 {
        let writer = Writer::builder(config(&server, ProtobufMessage::V1)).start().await.unwrap();
        let appending = [0, 1].map(|number| {
            let writer = writer.clone();
            std::thread::spawn(move || {
                let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", number.to_string())]);
                (0..).take_while(|second| writer.append(&labels, at(*second), 1.0).is_ok()).count() as u64
            })
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let ledger = writer.close(Duration::ZERO).await;
        let appended: u64 = appending.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!(ledger.accepted.samples, appended, "round {round}: {ledger:?}");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let mut headers = http::HeaderMap::new();
    headers.insert("x-key", http::HeaderValue::from_static("hunter2"));
    let url = "http://me:hunter2@localhost:1/write?token=hunter2";
    let layer = promferry_remote_write::WriteLayer::new(url.parse().unwrap()).with_headers(headers.clone());
    let http = HttpClient::new(Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap());
    let client = Client::new(url, transport(http)).unwrap().with_headers(headers);
    for shown in [format!("{layer:?}"), format!("{client:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("localhost:1/write") && shown.contains("x-key"), "{shown}");
    }
}
