use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use promferry_http_client::{Connection, Error, Http, HttpClientConfig, HttpOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start(|_| ok(&"x".repeat(100_000))).await;
    let mut connection = Connection::new(http("{}"));
    for _ in 0..5 {
        let response = connection.send(get(&server.url("/metrics"))).await.unwrap();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(chunk) = body.chunk().await {
            let chunk = chunk.unwrap();
            assert!(chunk.len() <= 8192, "a chunk of {} bytes passed a read buffer of 8 KiB", chunk.len());
            length += chunk.len();
        }
        assert_eq!(length, 100_000);
    }
    let peers: std::collections::HashSet<_> = server.seen().iter().map(|seen| seen.peer).collect();
    assert_eq!(peers.len(), 1);
    assert_eq!(server.last().header("host"), server.address.to_string());
    assert_eq!(server.last().uri, "/metrics");
}

#[tokio::test]
async fn a_body_left_unread_costs_the_connection_only() {
    let server = Server::start(|_| ok(&"x".repeat(1_000_000))).await;
    let mut connection = Connection::new(http("{}"));
    let dropped = connection.send(get(&server.url("/"))).await.unwrap();
    drop(dropped);
    let mut held = connection.send(get(&server.url("/"))).await.unwrap();
    let response = connection.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(response.into_body().read_to_end(2_000_000).await.unwrap().len(), 1_000_000);
    // What was still being read goes on on its own connection.
    assert!(held.body_mut().chunk().await.unwrap().is_ok());
    let peers: std::collections::HashSet<_> = server.seen().iter().map(|seen| seen.peer).collect();
    assert_eq!(peers.len(), 3);
}

/// A server that answers `per_connection` requests on each connection and then closes without a word.
async fn forgetful(per_connection: usize) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                for _ in 0..per_connection {
                    if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                        return;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
                // The next request is read and left unanswered: the client has sent it already.
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    let (address, server) = forgetful(1).await;
    let mut connection = Connection::new(http("{}"));
    for _ in 0..4 {
        let response = connection.send(get(&format!("http://{address}/"))).await.unwrap();
        assert_eq!(&response.into_body().read_to_end(10).await.unwrap()[..], b"ok");
    }
    // A POST that may have been acted upon is not sent again.
    let post = Request::post(format!("http://{address}/")).body(Bytes::from("x")).unwrap();
    let error = connection.send(post).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 closed the connection before its answer was complete");
    server.abort();

    let (address, server) = forgetful(0).await;
    let error = connection.send(get(&format!("http://{address}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    server.abort();
}

#[tokio::test]
async fn a_head_beyond_the_small_buffer_is_read_with_a_larger_one() {
    let server = Server::start(|_| {
        Response::builder().header("x-policy", "p".repeat(20_000)).body(Bytes::from("page")).unwrap()
    })
    .await;
    let mut connection = Connection::new(http("{}"));
    for _ in 0..2 {
        let response = connection.send(get(&server.url("/"))).await.unwrap();
        assert_eq!(&response.into_body().read_to_end(10).await.unwrap()[..], b"page");
    }
}

#[tokio::test]
async fn errors_say_what_happened() {
    let garbage = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = garbage.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = garbage.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
        }
    });
    for (url, expected) in [
        ("http://127.0.0.1:1/".to_owned(), "cannot connect to 127.0.0.1:1: connection refused"),
        ("http://no-such-host.invalid/".to_owned(), "cannot look up no-such-host.invalid: "),
        (format!("http://{address}/"), "talking to 127.0.0.1 failed: the answer is not HTTP"),
        (format!("https://{address}/"), "tls with 127.0.0.1 failed: the server does not speak TLS"),
        ("ftp://x/".to_owned(), "cannot send the request: the url's scheme must be http or https"),
        ("/metrics".to_owned(), "cannot send the request: the url has no scheme and host"),
    ] {
        let error = fetch(&http("{}"), &url).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{url}: {error}");
    }
    task.abort();
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_an_error() {
    for head in ["content-length: 9", "transfer-encoding: chunked"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\nabc\r\n");
            stream.write_all(&answer.as_bytes()[..answer.len() - 2]).await.unwrap();
        });
        let response = Connection::new(http("{}")).send(get(&format!("http://{address}/"))).await.unwrap();
        let error = response.into_body().read_to_end(100).await.unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{head}: {error:?}");
        task.await.unwrap();
    }
}

#[tokio::test]
async fn connecting_is_limited_in_time() {
    // A listener whose queue is full: connecting neither succeeds nor fails.
    let listener = socket_with_full_queue().await;
    let options = HttpOptions { connect_timeout: Duration::from_millis(200), ..HttpOptions::default() };
    let http = Http::new(&HttpClientConfig::default(), options).unwrap();
    let error = fetch(&http, &format!("http://{}/", listener.address)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connecting to {} took longer than 200 ms", listener.address));
    assert!(error.is_timeout() && error.is_connect());
}

struct FullQueue {
    address: std::net::SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<tokio::task::JoinHandle<()>>,
}

async fn socket_with_full_queue() -> FullQueue {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let stream = tokio::net::TcpStream::connect(address).await;
                tokio::time::sleep(Duration::from_secs(60)).await;
                drop(stream);
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    FullQueue { address, _listener: listener, _waiting: waiting }
}

#[tokio::test]
async fn a_body_longer_than_the_limit_is_refused() {
    let server = Server::start(|_| ok("0123456789")).await;
    for (limit, fits) in [(10, true), (9, false)] {
        let response = Connection::new(http("{}")).send(get(&server.url("/"))).await.unwrap();
        let outcome = response.into_body().read_to_end(limit).await;
        assert_eq!(outcome.is_ok(), fits);
        if let Err(error) = outcome {
            assert_eq!(error.to_string(), "the answer of 127.0.0.1 is longer than 9 bytes");
        }
    }
}

/// What the scrape loop relies on.
#[test]
fn the_future_can_be_spawned() {
    fn spawnable<F: Future + Send + 'static>(_: F) {}
    let mut connection = Connection::new(http("{}"));
    spawnable(async move { connection.send(get("http://127.0.0.1:1/")).await.map(drop) });
}
