//! The OpenTelemetry Collector's health check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use promferry_collector::health_check::HealthCheckServer;
use promferry_config::HealthCheck;
use tokio::sync::watch;

use crate::site::Client;

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_503_until_it_is_ready_and_when_it_no_longer_is() {
    let ready = Arc::new(AtomicBool::new(false));
    let config = HealthCheck { endpoint: "127.0.0.1:0".to_owned(), path: "/health".to_owned() };
    let server = HealthCheckServer::bind(&config, Arc::clone(&ready)).await.unwrap();
    let address = server.local_addr().unwrap();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(server.serve(stopped));
    let ask = async |path: &str| Client::default().get(address, path).await.unwrap();
    for (is_ready, status, expected) in [
        (false, 503, "Server not available"),
        (true, 200, "Server available"),
        (false, 503, "Server not available"),
    ] {
        ready.store(is_ready, Ordering::Release);
        let answer = ask("/health").await;
        assert_eq!(
            (answer.status, &answer.headers["content-type"]),
            (status, &"application/json".parse().unwrap())
        );
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["status"], expected);
        // As ADOT's: since when, and for how long, only where it is.
        assert_eq!(body.get("upSince").is_some(), is_ready, "{body}");
        assert_eq!(body.get("uptime").is_some(), is_ready, "{body}");
    }
    assert_eq!(ask("/").await.status, 404);
}
