use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Exporters inside this process: a shop's frontend in the text format, its checkout in OpenMetrics with
/// exemplars, and a worker that only a gateway reaches, by path.
#[derive(Debug)]
pub struct Exporters {
    /// Where the frontend and the checkout answer.
    pub direct: Vec<SocketAddr>,
    /// The gateway's address; it forwards `/node/worker-1/metrics`.
    pub gateway: SocketAddr,
    tasks: Vec<AbortHandle>,
}

/// What an exporter counts: one more at each scrape.
#[derive(Debug, Default)]
struct Traffic {
    scrapes: AtomicU64,
}

type Page = fn(u64) -> (&'static str, String);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Exporters {
    /// Starts them on free ports of the loopback interface.
    ///
    /// # Errors
    /// What the system answered.
    pub async fn start() -> io::Result<Self> {
        let mut tasks = Vec::new();
        let mut direct = Vec::new();
        for (path, page) in [("/metrics", frontend as Page), ("/metrics", checkout)] {
            direct.push(serve(path, page, &mut tasks).await?);
        }
        let gateway = serve("/node/worker-1/metrics", worker, &mut tasks).await?;
        Ok(Self { direct, gateway, tasks })
    }
}

impl Drop for Exporters {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn serve(path: &'static str, page: Page, tasks: &mut Vec<AbortHandle>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let traffic = Arc::new(Traffic::default());
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let traffic = Arc::clone(&traffic);
            let service = service_fn(move |request: Request<Incoming>| {
                let traffic = Arc::clone(&traffic);
                async move { Ok::<_, Infallible>(answer(&request, path, page, &traffic)) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    tasks.push(accepting.abort_handle());
    Ok(address)
}

fn answer(request: &Request<Incoming>, path: &str, page: Page, traffic: &Traffic) -> Response<Full<Bytes>> {
    if request.uri().path() != path {
        let mut response = Response::new(Full::new(Bytes::from_static(b"no such page\n")));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let (content_type, text) = page(traffic.scrapes.fetch_add(1, Ordering::Relaxed) + 1);
    let mut response = Response::new(Full::new(text.into()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

fn frontend(scrape: u64) -> (&'static str, String) {
    let mut page =
        String::from("# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter\n");
    for (at, (method, code)) in
        [("get", 200), ("get", 404), ("post", 200), ("post", 500)].into_iter().enumerate()
    {
        let value = scrape * (40 - 9 * at as u64);
        let _ = writeln!(page, "http_requests_total{{method=\"{method}\",code=\"{code}\"}} {value}");
    }
    page.push_str("# HELP http_request_duration_seconds How long requests took.\n");
    page.push_str("# TYPE http_request_duration_seconds histogram\n");
    for (bound, share) in [("0.05", 60), ("0.1", 85), ("0.5", 97), ("1", 99), ("+Inf", 100)] {
        let _ = writeln!(page, "http_request_duration_seconds_bucket{{le=\"{bound}\"}} {}", scrape * share);
    }
    let _ = writeln!(page, "http_request_duration_seconds_sum {}", scrape as f64 * 7.25);
    let _ = writeln!(page, "http_request_duration_seconds_count {}", scrape * 100);
    page.push_str("# TYPE build_info gauge\nbuild_info{version=\"1.4.2\"} 1\n");
    (TEXT, page)
}

fn checkout(scrape: u64) -> (&'static str, String) {
    let mut page = String::from("# TYPE orders counter\n# HELP orders Orders placed.\n");
    let _ = writeln!(
        page,
        "orders_total{{currency=\"eur\"}} {} # {{trace_id=\"{:032x}\"}} 1.0",
        scrape * 3,
        0x5eed_u128 + u128::from(scrape)
    );
    page.push_str("# TYPE basket_bytes gauge\n# UNIT basket_bytes bytes\n");
    let _ = writeln!(page, "basket_bytes {}", 2048 + 512 * (scrape % 7));
    page.push_str("# EOF\n");
    (OPENMETRICS, page)
}

fn worker(scrape: u64) -> (&'static str, String) {
    let mut page = String::from("# TYPE ray_serve_deployment_processing_latency_ms summary\n");
    for (quantile, factor) in [("0.5", 12), ("0.9", 31), ("0.99", 78)] {
        let value = factor + scrape % 5;
        let _ =
            writeln!(page, "ray_serve_deployment_processing_latency_ms{{quantile=\"{quantile}\"}} {value}");
    }
    let _ = writeln!(page, "ray_serve_deployment_processing_latency_ms_sum {}", scrape * 1300);
    let _ = writeln!(page, "ray_serve_deployment_processing_latency_ms_count {}", scrape * 50);
    (TEXT, page)
}
