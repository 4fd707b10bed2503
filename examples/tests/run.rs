//! The programs of this folder, run: what a service pushes is what the receiver prints, and what an API server tells is
//! what is printed of its cluster.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/program.rs"]
mod program;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener as BlockingListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use program::program;
use promferry_http_client::{Client as HttpClient, Http, HttpClientConfig, HttpOptions};
use promferry_remote_write::delivery::{Outcome, transport};
use promferry_remote_write::{Client, receiver, wire::v1};
use promferry_sigv4_auth::Scope;
use promferry_sigv4_auth::verify::{KnownKey, Verifier};
use tokio::net::TcpListener;

/// An example that runs, and what it has printed so far.
struct Running {
    process: Child,
    printed: Arc<Mutex<String>>,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program(name));
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let printed: Arc<Mutex<String>> = Arc::default();
        std::thread::spawn({
            let printed = Arc::clone(&printed);
            move || collect(lines, &printed)
        });
        Self { process, printed }
    }

    fn until(&self, text: &str) {
        let started = Instant::now();
        while !self.printed.lock().unwrap().contains(text) {
            assert!(started.elapsed() < Duration::from_secs(60), "{text:?} not in {:?}", self.printed);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The example `receive`, and where it listens.
struct Receive {
    running: Running,
    url: String,
}

impl Receive {
    fn start() -> Self {
        let running = Running::start("receive", &["127.0.0.1:0"]);
        running.until("receiving at ");
        running.until("\n");
        let printed = running.printed.lock().unwrap().clone();
        let url = printed.lines().next().and_then(|line| line.strip_prefix("receiving at ")).unwrap();
        Self { url: url.to_owned(), running }
    }

    fn until(&self, text: &str) {
        self.running.until(text);
    }
}

fn collect(lines: std::io::Lines<BufReader<ChildStdout>>, printed: &Mutex<String>) {
    for line in lines.map_while(Result::ok) {
        let mut printed = printed.lock().unwrap();
        printed.push_str(&line);
        printed.push('\n');
    }
}

#[test]
fn what_the_service_pushes_is_what_the_receiver_prints() {
    let receive = Receive::start();
    let spool = tempfile::tempdir().unwrap();
    let push = |seconds: &str| {
        let pushed = Command::new(program("push_counter"))
            .args([receive.url.as_str(), spool.path().to_str().unwrap(), seconds])
            .output()
            .unwrap();
        assert!(pushed.status.success(), "{pushed:?}");
        String::from_utf8(pushed.stdout).unwrap()
    };
    assert_eq!(push("2"), "of 2 samples 2 were delivered, 0 dropped, and 0 wait for the next run\n");
    let series = r#"{__name__="orders_total", instance="self", job="orders", shop="eu"}"#;
    receive.until(&format!("{series} is a counter: Orders taken."));
    receive.until(&format!("{series} 2 @"));
    assert!(receive.running.printed.lock().unwrap().contains("remote write 2.0"));
    // The account goes on where it was.
    assert_eq!(push("1"), "of 3 samples 3 were delivered, 0 dropped, and 0 wait for the next run\n");
}

#[test]
fn the_receiver_reads_1_0_and_says_what_it_can_not_read() {
    let receive = Receive::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let http = Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap();
    let client = Client::new(&receive.url, transport(HttpClient::new(http))).unwrap();
    let series = |value: &str| v1::TimeSeries {
        labels: vec![v1::Label { name: "__name__".into(), value: value.into() }],
        samples: vec![v1::Sample { value: 7.5, timestamp: 1_700_000_000_000 }],
        ..Default::default()
    };
    let request = |name: &str| v1::WriteRequest { timeseries: vec![series(name)], ..Default::default() };
    let good = runtime.block_on(client.send(request("up"))).unwrap();
    assert_eq!(good.outcome, Outcome::Delivered);
    receive.until("{__name__=\"up\"} 7.5 @1700000000000");
    receive.until("remote write 1.0");
    let bad = runtime.block_on(client.send(request(""))).unwrap();
    assert_eq!(bad.status, 400);
    receive.until("refused: series number 1");
}

const SECRET_KEY: &str = "a secret of these tests alone";

/// Takes what is signed for AMP in eu-west-1 with [`SECRET_KEY`]; says what was asked or written, or what was wrong.
async fn verify(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let known = |access_key: &str| (access_key == "AKIDEXAMPLE").then(|| KnownKey::new(SECRET_KEY));
    let scope = Scope { region: "eu-west-1".to_owned(), service: "aps".to_owned() };
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if let Err(error) = Verifier::new(known).for_scope(scope).verify(&head, &body, SystemTime::now()) {
        return Ok(error.to_response().map(Full::from));
    }
    let answer = match receiver::read(&head.headers, &body, 1 << 20) {
        Ok(written) => written.series.iter().map(|series| series.labels.to_string()).collect(),
        Err(_) => head.uri.to_string(),
    };
    Ok(Response::new(Full::from(answer)))
}

#[test]
fn what_the_programs_sign_is_taken_and_what_another_key_signs_is_not() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(verify)));
        }
    });
    let run = |name: &str, path: &str, secret_key: &str| {
        let output = Command::new(program(name))
            .arg(format!("http://{address}{path}"))
            .envs([("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", secret_key)])
            .env("AWS_REGION", "eu-west-1")
            .env_remove("AWS_SESSION_TOKEN")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (write, query) =
        ("/workspaces/ws-1/api/v1/remote_write", "/workspaces/ws-1/api/v1/query?query=up%7B%7D");
    for (name, path, answer) in [
        ("sign_with_hyper", write, r#"{__name__="sign_with_hyper", job="example"}"#),
        ("sign_for_reqwest", query, query),
    ] {
        assert_eq!(run(name, path, SECRET_KEY), format!("200 OK {answer}\n"));
        let refused = run(name, path, "another key");
        assert!(refused.starts_with("403 Forbidden ") && refused.contains("signature"), "{refused}");
    }
}

/// An API server that knows the pods of the namespace `shop`, and refuses all others.
struct ApiServer {
    url: String,
    /// What the watch tells.
    events: mpsc::Sender<String>,
}

impl ApiServer {
    fn start() -> Self {
        let listener = BlockingListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (events, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let receiver = Arc::clone(&receiver);
                std::thread::spawn(move || answer(stream, &receiver));
            }
        });
        Self { url, events }
    }

    fn tells(&self, kind: &str, pod: &str) {
        self.events.send(format!("{{\"type\":\"{kind}\",\"object\":{pod}}}\n")).unwrap();
    }
}

/// A pod with a port, as of this version.
fn pod(name: &str, ip: &str, version: u32) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod",
            "metadata":{{"name":"{name}","namespace":"shop","uid":"{name}","resourceVersion":"{version}"}},
            "spec":{{"containers":[{{"name":"c","image":"i","ports":[{{"containerPort":8080}}]}}]}},
            "status":{{"phase":"Running","podIP":"{ip}"}}}}"#
    )
    .replace('\n', "")
}

/// Answers one request, as a server that is older than streamed lists.
fn answer(mut stream: TcpStream, events: &Mutex<mpsc::Receiver<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let refused = |code: u16, reason: &str, message: &str| {
        let status = format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","code":{code}}}"#
        );
        (format!("{code} {reason}"), status)
    };
    let (status, body) = if !request.contains("/namespaces/shop/pods?") {
        refused(403, "Forbidden", "pods is forbidden")
    } else if request.contains("sendInitialEvents=true") {
        refused(
            422,
            "Invalid",
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        )
    } else if request.contains("watch=") {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut written = stream.write_all(head.as_bytes());
        let events = events.lock().unwrap();
        while let (Ok(()), Ok(event)) = (&written, events.recv()) {
            written = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
        return;
    } else {
        let list = r#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":["#;
        ("200 OK".to_owned(), format!("{list}{}]}}", pod("web-1", "10.0.0.1", 1)))
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
}

#[test]
fn targets_of_a_cluster_are_printed_as_they_change() {
    let api = ApiServer::start();
    let server = format!("server={}", api.url);
    let show = "show=__meta_kubernetes_pod_phase";
    let watch =
        Running::start("watch_cluster", &[&server, "role=pod", "namespace=shop", "namespace=closed", show]);
    watch.until("+ pod/shop/web-1 10.0.0.1:8080 __meta_kubernetes_pod_phase=\"Running\"\n");
    // What cannot be watched is said once, and the others go on.
    watch.until("pods in namespace closed");
    api.tells("ADDED", &pod("web-2", "10.0.0.2", 2));
    watch.until("+ pod/shop/web-2 10.0.0.2:8080 ");
    api.tells("MODIFIED", &pod("web-1", "10.0.0.3", 3));
    watch.until("~ pod/shop/web-1 10.0.0.3:8080 ");
    api.tells("DELETED", &pod("web-2", "10.0.0.2", 4));
    watch.until("- pod/shop/web-2 10.0.0.2:8080 ");
    let printed = watch.printed.lock().unwrap().clone();
    let failures: Vec<&str> = printed.lines().filter(|line| line.starts_with('!')).collect();
    assert_eq!(failures.len(), 1, "{printed}");
    assert!(failures[0].contains("a Role needs") && failures[0].contains("on pods"), "{printed}");
    let wrong = Command::new(program("watch_cluster")).arg("rolle=pod").output().unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("rolle=pod: there is no such argument"));
}
