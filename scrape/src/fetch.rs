//! Getting a page over the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use promferry_http_client::{Body, Connection, OriginHeaders, ServedAs};
use promferry_model::{MemoryBudget, Purpose};

use crate::inflate::PageLimits;
use crate::section::Fetched;
use crate::{Job, ScrapeError, Target};

/// The name under which targets see this scraper.
const USER_AGENT: &str = concat!("promferry/", env!("CARGO_PKG_VERSION"));

/// Where a scrape says how long it will wait.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Asks `target` for its page. The timeout covers everything: waiting for memory, connecting, the head and
/// the body of the answer. The body is kept as it comes, compressed or not.
pub(crate) async fn fetch(
    connection: &mut Connection,
    job: &Job,
    target: &Target,
    budget: &MemoryBudget,
    limits: PageLimits,
    expected_bytes: usize,
) -> Result<Fetched, ScrapeError> {
    let timeout = target.scrape_timeout();
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let request = request(job, target)?;
    let mut has_memory = false;
    let fetched = tokio::time::timeout(timeout, async {
        // Only this first reservation waits. Growing fails by name, so that loops which hold memory never
        // wait for each other.
        let first = expected_bytes.clamp(FIRST_BYTES, limits.memory.max(FIRST_BYTES));
        let mut reservation = budget.reserve(Purpose::Bodies, first).await?;
        has_memory = true;
        let response = connection.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(ScrapeError::Status { status: response.status() });
        }
        let text = |name| {
            response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let content_type = text(header::CONTENT_TYPE);
        let is_gzip = match text(header::CONTENT_ENCODING).unwrap_or_default() {
            encoding if encoding.eq_ignore_ascii_case("gzip") => true,
            encoding if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") => false,
            encoding => return Err(ScrapeError::ContentEncoding { encoding }),
        };
        let mut incoming: Body = response.into_body();
        let mut body = Vec::new();
        let announced = announced_length(&incoming);
        if let Some(bytes) = announced {
            limits.check(bytes)?;
        }
        let mut capacity = announced.unwrap_or(0).max(expected_bytes.min(first));
        if capacity > reservation.bytes() {
            reservation.resize(capacity)?;
        }
        body.reserve_exact(capacity);
        while let Some(chunk) = incoming.chunk().await {
            let chunk = chunk?;
            let length = body.len() + chunk.len();
            limits.check(length)?;
            if length > capacity {
                capacity = length.max(capacity + capacity / 2).max(FIRST_BYTES);
                capacity = capacity.min(limits.memory.max(length));
                if capacity > reservation.bytes() {
                    reservation.resize(capacity)?;
                }
                body.reserve_exact(capacity - body.len());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { body, is_gzip, content_type, reservation })
    })
    .await;
    match fetched {
        Ok(fetched) => fetched,
        Err(_) if has_memory => Err(ScrapeError::Timeout { timeout_ms }),
        Err(_) => Err(ScrapeError::WaitedForMemory { timeout_ms }),
    }
}

/// The least that is reserved for a page.
const FIRST_BYTES: usize = 8 << 10;

/// The length that the answer announces.
fn announced_length(body: &Body) -> Option<usize> {
    http_body::Body::size_hint(body).exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn request(job: &Job, target: &Target) -> Result<Request<Bytes>, ScrapeError> {
    let encoding = if job.config.enable_compression { "gzip" } else { "identity" };
    let invalid =
        |reason: String| ScrapeError::InvalidUrl { url: target.url_without_query().to_owned(), reason };
    let url = target.url().parse::<http::Uri>().map_err(|error| invalid(error.to_string()))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return Err(invalid("the scheme has to be http or https".to_owned()));
    }
    let mut request = Request::get(url)
        .header(header::ACCEPT, &job.accept)
        .header(header::ACCEPT_ENCODING, encoding)
        .header(header::USER_AGENT, HeaderValue::from_static(USER_AGENT))
        .header(TIMEOUT_HEADER, seconds(target.scrape_timeout()))
        .body(Bytes::new())
        .map_err(|error| invalid(error.to_string()))?;
    if let Some(host) = target.host() {
        request.extensions_mut().insert(ServedAs(host.clone()));
    }
    if let Some(headers) = target.headers() {
        request.extensions_mut().insert(OriginHeaders(Arc::clone(headers)));
    }
    Ok(request)
}

/// A number of seconds as Go's `strconv.FormatFloat(…, 'f', -1, 64)` writes it.
fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}
