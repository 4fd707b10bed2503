//! Answers that come slowly, in part or without an end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod sender;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use promferry_model::{Labels, PromDuration, Sample, SystemClock, TargetSink, Timestamp};
use promferry_remote_write::spool::Reason;
use promferry_remote_write::{EndpointStatus, RemoteWrite, RemoteWriteConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers the first requests with these bytes and goes silent or away; the others with 204.
struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Silence,
    End,
}

impl Server {
    async fn start(answer: &'static str, then: Then) -> Self {
        Self::answering(1, answer, then).await
    }

    async fn answering(times: usize, answer: &'static str, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    while receive(&mut stream).await.is_some() {
                        if counter.fetch_add(1, Ordering::Relaxed) >= times {
                            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
                            continue;
                        }
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        if then == Then::Silence {
                            tokio::time::sleep(Duration::from_secs(60)).await;
                        }
                        return;
                    }
                });
            }
        });
        Self { address, requests }
    }

    /// What became of ten samples that were sent to it, and the number of requests.
    async fn outcome(&self) -> (EndpointStatus, usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut config: RemoteWriteConfig = format!("http://{}/write", self.address).into();
        config.queue_config.batch_send_deadline = PromDuration::from_millis(20);
        config.queue_config.max_backoff = PromDuration::from_millis(50);
        config.remote_timeout = PromDuration::from_secs(2);
        config.metadata_config.send = false;
        let clock = Arc::new(SystemClock::new());
        let remote =
            sender::start(dir.path(), clock, Labels::default(), vec![sender::endpoint(config)]).await;
        let (mut target, series) = sender::gauges(&remote, "a:1", (0..10).map(|number| number.to_string()));
        let at = Timestamp::from_millis(1_700_000_000_000);
        target.begin(at);
        for id in series {
            target.sample(id, Sample::new(at, 1.0));
        }
        target.commit().await.unwrap();
        let status = settled(&remote).await;
        remote.shutdown(Duration::from_secs(20)).await;
        (status, self.requests.load(Ordering::Relaxed))
    }
}

/// Reads a request, or finds the end.
async fn receive(stream: &mut TcpStream) -> Option<()> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap();
            if read.len() >= end + 4 + length.trim().parse::<usize>().unwrap() {
                return Some(());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

async fn settled(remote: &RemoteWrite) -> EndpointStatus {
    for _ in 0..1500 {
        let status = remote.status().await.unwrap().remove(0);
        assert!(status.ledger.balances(), "{status:?}");
        if status.ledger.pending.is_zero() {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never settled: {:?}", remote.status().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_counts_though_its_body_never_ends() {
    for then in [Then::Silence, Then::End] {
        let server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nwritten, and", then).await;
        let (status, requests) = server.outcome().await;
        assert_eq!((status.ledger.delivered.samples, requests), (10, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_text_drops_nothing() {
    for status in ["400 Bad Request", "429 Too Many Requests", "404 Not Found"] {
        for then in [Then::Silence, Then::End] {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\nper-user series lim");
            let server = Server::start(answer.leak(), then).await;
            let (settled, requests) = server.outcome().await;
            assert_eq!((settled.ledger.delivered.samples, requests), (10, 2), "{status}");
            assert_eq!(settled.delivery.requests["failed"], 1, "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_status_says_it_all_half_a_text_is_enough() {
    for (status, outcome) in [("503 Service Unavailable", "retry"), ("413 Content Too Large", "too_large")] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\nno, bec");
        let answer: &'static str = answer.leak();
        for then in [Then::Silence, Then::End] {
            let (settled, _) = Server::start(answer, then).await.outcome().await;
            let requests = settled.delivery.requests;
            assert_eq!(requests.get(outcome), Some(&1), "{status}: {requests:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_always_breaks_off_decides_in_the_end() {
    let answer = "HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\nnot to our";
    let server = Server::answering(usize::MAX, answer, Then::End).await;
    let (settled, requests) = server.outcome().await;
    assert_eq!((settled.ledger.dropped_for(&Reason::REFUSED).samples, requests), (10, 10));
    assert_eq!(settled.delivery.requests["failed"], 9, "{:?}", settled.delivery.requests);
}
