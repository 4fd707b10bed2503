//! The proxy does what it says, seen by a client without a collector.

use promferry_bench::{
    http_call::{CallError, call},
    ledger::Judgement,
    proxy::{Proxy, Weather},
    sink::{Fault, Sink},
};
use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn each_weather_is_seen_by_the_client() {
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    sink.set_fault(Some(Fault { status: Some(503), body: "not now".into(), ..Fault::default() }));
    let proxy = Proxy::start(sink.address()).await.unwrap();
    let body = vec![b'x'; 100_000];
    let send = || call(proxy.address(), http::Method::POST, "/api/v1/write", &[], body.clone());

    assert_eq!(send().await.unwrap().0, 503);
    proxy.set(Weather::Latency(Duration::from_millis(100)));
    let start = Instant::now();
    assert_eq!(send().await.unwrap().0, 503);
    assert!(start.elapsed() >= Duration::from_millis(200));
    proxy.set(Weather::Slow(200_000));
    let start = Instant::now();
    assert_eq!(send().await.unwrap().0, 503);
    assert!(start.elapsed() >= Duration::from_millis(400));

    for weather in [Weather::ResetAfter(20_000), Weather::CutAnswerAfter(12), Weather::Garbage] {
        proxy.set(weather);
        assert!(matches!(send().await, Err(CallError::Http { .. })), "{weather:?}");
    }
    proxy.set(Weather::ResetAfter(10));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(&body[..50]).await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    proxy.set(Weather::HalfOpen);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(&body[..50]).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(300), stream.read_to_end(&mut Vec::new())).await;
    assert!(silence.is_err());

    proxy.set(Weather::Down);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(matches!(send().await, Err(CallError::Connection { .. })));
    let before = proxy.connections();
    proxy.set(Weather::Fair);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(send().await.unwrap().0, 503);
    assert_eq!(proxy.connections(), before + 1);
}
