//! How many connections are served, and how long.

use std::time::{Duration, Instant};

use promferry_collector::cli::WebArgs;
use promferry_model::PromDuration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::{Site, flags};

/// Asks for a page on a connection that stays open.
async fn asks(site: &Site, at: usize) -> TcpStream {
    let mut stream = TcpStream::connect(site.addresses[at]).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream
}

async fn is_answered(stream: &mut TcpStream, limit: Duration) -> bool {
    let mut answer = [0; 1024];
    let read = tokio::time::timeout(limit, stream.read(&mut answer)).await;
    read.is_ok_and(|read| answer[..read.unwrap()].starts_with(b"HTTP/1.1 200 OK"))
}

#[tokio::test(flavor = "multi_thread")]
async fn max_connections_and_read_timeout() {
    const ENOUGH: Duration = Duration::from_secs(30);
    let args = WebArgs { listen_addresses: vec!["127.0.0.1:0".to_owned(); 2], max_connections: 2, ..flags() };
    let site = Site::start(args).await;
    let (mut first, mut second) = (asks(&site, 0).await, asks(&site, 1).await);
    assert!(is_answered(&mut first, ENOUGH).await && is_answered(&mut second, ENOUGH).await);
    // Both addresses share the places.
    let mut third = asks(&site, 0).await;
    assert!(!is_answered(&mut third, Duration::from_millis(300)).await);
    drop(first);
    assert!(is_answered(&mut third, ENOUGH).await);

    // What idles, and what does not say all of its request, is ended.
    let args = WebArgs { read_timeout: PromDuration::from_millis(2000), ..flags() };
    let site = Site::start(args).await;
    let mut idle = asks(&site, 0).await;
    assert!(is_answered(&mut idle, ENOUGH).await);
    let mut slow = TcpStream::connect(site.address()).await.unwrap();
    slow.write_all(b"GET /metrics HT").await.unwrap();
    for stream in [&mut idle, &mut slow] {
        let began = Instant::now();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(ENOUGH, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "it was still open after {:?}", began.elapsed());
    }

    let nobody = Site::try_start(WebArgs { max_connections: 0, ..flags() }).await.err().unwrap();
    assert_eq!(
        nobody.to_string(),
        "--web.max-connections: with 0 nobody would be answered; at least 1 is needed"
    );
}
