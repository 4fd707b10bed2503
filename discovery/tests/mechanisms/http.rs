use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Consumer, configs, options};

/// A server whose answer (all of it, with its head) can be exchanged.
struct Server {
    url: String,
    answer: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/targets?x=y", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(String::new()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (current, log) = (answer.clone(), requests.clone());
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (current, log) = (current.clone(), log.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    log.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let answer = current.lock().unwrap().clone();
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, answer, requests, task }
    }

    fn says(&self, status: &str, content_type: &str, body: &str) {
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn the_list_is_asked_for_and_read_as_prometheus_does() {
    let server = Server::start().await;
    server.says(
        "200 OK",
        "application/json; charset=utf-8",
        r#"[{"targets":["a:1","b:1"],"labels":{"env":"prod","__meta_x":"y"}},{"targets":["c:1"]}]"#,
    );
    let url = &server.url;
    let yaml = format!(
        "http_sd_configs: [{{url: '{url}', refresh_interval: 50ms, basic_auth: {{username: u, password: p}}}}]"
    );
    let mut consumer = Consumer::run(&yaml, options());
    consumer
        .until(&[
            &format!("__meta_url={url},__address__=c:1"),
            &format!("__meta_url={url},__meta_x=y,env=prod,__address__=a:1"),
            &format!("__meta_url={url},__meta_x=y,env=prod,__address__=b:1"),
        ])
        .await;
    assert_eq!(consumer.sources(), [format!("{url}:0"), format!("{url}:1")]);
    let request = server.requests.lock().unwrap()[0].to_lowercase();
    for line in [
        "get /targets?x=y http/1.1",
        "accept: application/json",
        "x-prometheus-refresh-interval-seconds: 0.05",
        "user-agent: test/1",
        "authorization: basic dtpw",
    ] {
        assert!(request.lines().any(|sent| sent == line), "{line} is missing in {request}");
    }
    // The same list again is no change; a shorter one takes its last groups away.
    consumer.is_quiet().await;
    server.says("200 OK", "application/json", r#"[{"targets":["c:1"]}]"#);
    consumer.until(&[&format!("__meta_url={url},__address__=c:1")]).await;
    server.says("200 OK", "application/json", "null");
    consumer.until(&[]).await;
}

#[tokio::test]
async fn a_bad_answer_keeps_the_last_list_and_is_named() {
    let server = Server::start().await;
    let good = r#"[{"targets":["a"]}]"#;
    server.says("200 OK", "application/json", good);
    let url = &server.url;
    let mut consumer =
        Consumer::run(&format!("http_sd_configs: [{{url: '{url}', refresh_interval: 50ms}}]"), options());
    consumer.until(&[&format!("__meta_url={url},__address__=a")]).await;
    for (status, content_type, body, reason) in [
        ("500 Oops", "application/json", good, "the server answers with status 500"),
        ("204 No Content", "application/json", "", "the server answers with status 204"),
        (
            "401 Who",
            "text/plain",
            "",
            "status 401 Unauthorized: set authorization, basic_auth or oauth2 in the",
        ),
        (
            "403 No",
            "text/plain",
            "",
            "status 403 Forbidden: the credentials of the http_sd_configs entry are not",
        ),
        ("200 OK", "text/html", good, "unsupported content type \"text/html\""),
        ("200 OK", "application/json", "[{", "the answer is not a list of target groups: EOF"),
        // What stands there may be secret.
        (
            "200 OK",
            "application/json",
            r#"[{"targets":["a"],"x":1}]"#,
            "groups: expected `targets` or `labels` at line 1",
        ),
        ("200 OK", "application/json", r#"[{"targets":"hush"}]"#, "groups: expected a sequence at line"),
        ("200 OK", "application/json", "[null]", "group 0 of the list is null"),
    ] {
        server.says(status, content_type, body);
        consumer.failure(reason).await;
        server.says("200 OK", "application/json", good);
        consumer.recovery().await;
    }
    *server.answer.lock().unwrap() =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n[".to_owned();
    consumer.failure("closed the connection before its answer was complete").await;
    consumer.is_quiet().await;
    let counts = consumer.discovery.counts();
    assert!(counts.http_failures_total >= 7 && counts.received_updates_total >= 7, "{counts:?}");
    // What is counted stays when the mechanism goes.
    consumer.discovery.apply([]);
    assert!(consumer.discovery.counts().http_failures_total >= counts.http_failures_total);
    assert!(consumer.discovery.counts().sent_updates_total == 1 && counts.last_sent.is_some());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_after_the_interval() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:hunter2@{}/", listener.local_addr().unwrap());
    let consumer =
        Consumer::run(&format!("http_sd_configs: [{{url: '{url}', refresh_interval: 50ms}}]"), options());
    consumer.failure("no complete answer within 50ms").await;
    drop(listener);
    consumer.failure("connection refused").await;
    // The password is nowhere to be seen.
    assert!(!format!("{:?}", consumer.discovery.status()).contains("hunter2"));
    assert_eq!(consumer.discovery.status()[0].subject, url.replace("hunter2", "xxxxx"));
}

#[tokio::test]
async fn what_cannot_be_started_is_tried_again_and_never_displaces_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    server.says("200 OK", "application/json", r#"[{"targets":["a"]}]"#);
    let url = &server.url;
    let broken = format!(
        "http_sd_configs: [{{url: '{url}', tls_config: {{ca_file: {}/ca.pem}}}}]",
        dir.path().display()
    );

    let mut consumer = Consumer::run(&format!("http_sd_configs: [{{url: '{url}'}}]"), options());
    let target = format!("__meta_url={url},__address__=a");
    consumer.until(&[&target]).await;
    let errors = consumer.discovery.apply([("job".into(), configs(&broken))]);
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().starts_with("job job: cannot start http discovery: cannot use ca_file"),
        "{}",
        errors[0]
    );
    consumer.is_quiet().await;
    assert_eq!(consumer.targets(), [target.as_str()]);
    let status = consumer.discovery.status().remove(0);
    assert!(status.is_failing && !status.is_as_configured);
    let runs = format!("http_sd_configs: [{{url: '{url}'}}]");
    assert!(consumer.discovery.apply([("job".into(), configs(&runs))]).is_empty());
    assert!(consumer.discovery.status()[0].is_as_configured);

    // Without one that runs, attempts go on until the file is there.
    let mut fresh = Consumer::new(options());
    assert_eq!(fresh.discovery.apply([("job".into(), configs(&broken))]).len(), 1);
    fresh.failure("ca.pem").await;
    assert!(!fresh.discovery.status()[0].is_as_configured);
    let certificate = include_str!("authority.pem");
    std::fs::write(dir.path().join("ca.pem"), certificate).unwrap();
    fresh.until(&[&target]).await;
    assert!(fresh.discovery.status()[0].is_as_configured);
}
