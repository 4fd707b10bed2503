//! `http_sd_configs`: answers of a server, and how both ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_bench::peers::Peer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::beside::{Beside, has};
use crate::collector::until;

const JSON: &str = "application/json";

/// Answers that are lists, and that are none: both take the same ones.
const FORMS: &[(u16, &str, &str)] = &[
    (200, JSON, r#"[{"targets":["plain:1"],"labels":{"a":"b"}}]"#),
    (200, "application/json; charset=utf-8", r#"[{"targets":["charset:1"]}]"#),
    (200, "Application/JSON;charset=\"UTF-8\"", r#"[{"targets":["upper:1"]}]"#),
    (200, "application/json; charset=latin1", r#"[{"targets":["latin:1"]}]"#),
    (200, "text/plain", r#"[{"targets":["text:1"]}]"#),
    (200, "", r#"[{"targets":["no-type:1"]}]"#),
    (200, JSON, "null"),
    (200, JSON, "[]"),
    (200, JSON, "[null]"),
    (200, JSON, ""),
    (200, JSON, r#"{"targets":["object:1"]}"#),
    (200, JSON, r#"[{"targets":["bad:1"],"labels":{"a":1}}]"#),
    (200, JSON, r#"[{"targets":["trailing:1"]}] x"#),
    (200, JSON, r#"[{"targets":["one:1"]},{"targets":["two:1"],"labels":{"__meta_url":"x","job":"y"}}]"#),
    (201, JSON, r#"[{"targets":["created:1"]}]"#),
    (204, JSON, ""),
    (404, JSON, r#"[{"targets":["not-found:1"]}]"#),
    (500, JSON, r#"[{"targets":["error:1"]}]"#),
];

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_taken_as_prometheus_takes_them() {
    let Some(prometheus) = Peer::Prometheus.or_skip("answers_are_taken_as_prometheus_takes_them") else {
        return;
    };
    let server = ListServer::start().await;
    let mut jobs = Vec::new();
    let names: Vec<_> = (0..FORMS.len()).map(|number| format!("form-{number}")).collect();
    for (name, (status, content_type, body)) in names.iter().zip(FORMS) {
        server.answer(&format!("/{name}"), *status, content_type, body);
        jobs.push((name.as_str(), server.job(&format!("/{name}?token=x&a=b"), "")));
    }
    server.answer("/list", 200, JSON, r#"[{"targets":["a:1","b:1"]},{"targets":["c:1"]}]"#);
    jobs.push(("list", server.job("/list", ", authorization: {credentials: secret}")));
    server.answer("/basic", 200, JSON, r#"[{"targets":["d:1"]}]"#);
    let basic = ", basic_auth: {username: user, password: secret}, http_headers: {X-Team: {values: [a, b]}}";
    jobs.push(("basic", server.job("/basic", basic)));
    let both = Beside::start(&prometheus, &jobs, "").await;
    both.until_same("answered", has(&[("list", vec!["a:1", "b:1", "c:1"]), ("basic", vec!["d:1"])])).await;

    // Both ask for the same in the same words; only who they are differs.
    for path in ["/list", "/basic", "/form-0"] {
        let mut heads: Vec<_> = server.heads(path).into_iter().map(|(_, head)| head).collect();
        heads.sort_unstable();
        heads.dedup();
        assert_eq!(heads.len(), 1, "{path}: {heads:#?}");
    }

    server.answer("/list", 200, JSON, r#"[{"targets":["b:1"],"labels":{"n":"2"}}]"#);
    both.until_same("a shorter list", has(&[("list", vec!["b:1"])])).await;
    for (status, content_type, body) in [(500, JSON, "[]"), (200, "text/html", "[]"), (200, JSON, "[{")] {
        server.answer("/list", status, content_type, body);
        server.until_asked_by_both("/list").await;
        both.until_same("no list", has(&[("list", vec!["b:1"])])).await;
    }
    server.answer("/list", 200, JSON, "[]");
    server.answer("/basic", 200, JSON, r#"[{"targets":["d:2"]},{"targets":["e:2"]}]"#);
    both.until_same("an empty list", has(&[("list", vec![]), ("basic", vec!["d:2", "e:2"])])).await;
}

/// An HTTP server whose answers are changed while it runs.
struct ListServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<BTreeMap<String, (u16, String, String)>>,
    /// Since the answer was changed last, by path: who asked, and with which other headers.
    heads: Mutex<BTreeMap<String, Vec<(String, String)>>>,
}

impl ListServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let (mut server, of_server) = (JoinSet::new(), Arc::clone(&shared));
        server.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&of_server);
                let answer = service_fn(move |request| {
                    let answer = shared.answer(&request);
                    async { Ok::<_, std::convert::Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { address, shared, _server: server }
    }

    fn job(&self, path: &str, more: &str) -> String {
        format!("  http_sd_configs: [{{url: 'http://{}{path}', refresh_interval: 1s{more}}}]", self.address)
    }

    fn answer(&self, path: &str, status: u16, content_type: &str, body: &str) {
        let answer = (status, content_type.to_owned(), body.to_owned());
        self.shared.answers.lock().unwrap().insert(path.to_owned(), answer);
        self.shared.heads.lock().unwrap().remove(path);
    }

    fn heads(&self, path: &str) -> Vec<(String, String)> {
        self.shared.heads.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    /// Twice, so that the first answer has been dealt with.
    async fn until_asked_by_both(&self, path: &str) {
        until("both ask again", async || {
            let heads = self.heads(path);
            let asked = |is_ours: bool| {
                heads.iter().filter(|(who, _)| who.to_lowercase().contains("promferry") == is_ours).count()
            };
            asked(true) >= 2 && asked(false) >= 2
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl Shared {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let (who, head) = head(request.headers());
        self.heads.lock().unwrap().entry(path.clone()).or_default().push((who, head));
        let answers = self.answers.lock().unwrap();
        let (status, content_type, body) = &answers[&path];
        let mut response = Response::builder().status(*status);
        if !content_type.is_empty() {
            response = response.header("content-type", content_type);
        }
        response.body(Full::new(Bytes::from(body.clone()))).unwrap()
    }
}

/// Who asks, and the other headers except for those of the connection alone.
fn head(headers: &HeaderMap) -> (String, String) {
    let mut lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.retain(|line| {
        !["user-agent:", "accept-encoding:", "connection:"].iter().any(|of| line.starts_with(of))
    });
    lines.sort_unstable();
    let who = headers.get("user-agent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    (who.to_owned(), lines.join("\n"))
}
