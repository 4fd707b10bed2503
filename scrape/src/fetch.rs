//! Getting a page over the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use promferry_http_client::{Body, Connection, OriginHeaders, ServedAs};
use promferry_model::{MemoryBudget, Purpose};
use tokio::time::Instant;

use crate::gate::{Pass, Refusal};
use crate::inflate::PageLimits;
use crate::refusal::{self, MAX_REFUSAL_BYTES};
use crate::section::Fetched;
use crate::{Job, ScrapeError, Target};

/// The name under which targets see this scraper.
const USER_AGENT: &str = concat!("promferry/", env!("CARGO_PKG_VERSION"));

/// Where a scrape says how long it will wait.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// A page to ask for.
pub(crate) struct Fetch<'a> {
    pub(crate) job: &'a Job,
    pub(crate) target: &'a Target,
    pub(crate) budget: &'a MemoryBudget,
    pub(crate) limits: PageLimits,
    pub(crate) expected_bytes: usize,
    /// Where the target's address is shared.
    pub(crate) pass: Option<&'a Pass>,
    /// Since when the target is refused with 429 or 503.
    pub(crate) refused_since: Option<Instant>,
}

/// What came of it.
pub(crate) struct Answered {
    pub(crate) page: Result<Fetched, ScrapeError>,
    /// The answer was read to its end: the connection can be used again.
    pub(crate) is_complete: bool,
    pub(crate) refused_since: Option<Instant>,
}

/// Asks the target for its page. The timeout covers everything: waiting for memory, connecting, the head and
/// the body of the answer, and asking again where the server says when. The body is kept as it comes, compressed or
/// not.
pub(crate) async fn fetch(connection: &mut Connection, asked: Fetch<'_>) -> Answered {
    let timeout = asked.target.scrape_timeout();
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let deadline = Instant::now() + timeout;
    let mut attempt = Attempt { asked, has_memory: false, is_complete: false };
    let page = match tokio::time::timeout_at(deadline, attempt.page(connection, deadline)).await {
        Ok(page) => page,
        Err(_) if attempt.has_memory => Err(ScrapeError::Timeout { timeout_ms }),
        Err(_) => Err(ScrapeError::WaitedForMemory { timeout_ms }),
    };
    let Attempt { asked, is_complete, .. } = attempt;
    Answered { refused_since: asked.refused_since.filter(|_| page.is_err()), is_complete, page }
}

struct Attempt<'a> {
    asked: Fetch<'a>,
    has_memory: bool,
    is_complete: bool,
}

impl Attempt<'_> {
    async fn page(&mut self, connection: &mut Connection, deadline: Instant) -> Result<Fetched, ScrapeError> {
        let Fetch { budget, limits, expected_bytes, .. } = self.asked;
        // Only this first reservation waits. Growing fails by name, so that loops which hold memory never
        // wait for each other.
        let first = expected_bytes.clamp(FIRST_BYTES, limits.memory.max(FIRST_BYTES));
        let mut reservation = budget.reserve(Purpose::Bodies, first).await?;
        self.has_memory = true;
        let response = self.answer(connection, deadline).await?;
        let is_gzip = match text(response.headers(), header::CONTENT_ENCODING).unwrap_or_default() {
            encoding if encoding.eq_ignore_ascii_case("gzip") => true,
            encoding if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") => false,
            encoding => return Err(ScrapeError::ContentEncoding { encoding }),
        };
        let content_type = text(response.headers(), header::CONTENT_TYPE);
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
        self.is_complete = true;
        Ok(Fetched { body, is_gzip, content_type, reservation })
    }

    /// The answer with status 200. A server that is asked too often and says when it may be asked again is, once, if
    /// that is soon enough.
    async fn answer(
        &mut self,
        connection: &mut Connection,
        deadline: Instant,
    ) -> Result<Response<Body>, ScrapeError> {
        let mut was_refused = false;
        loop {
            let response = connection.send(request(self.asked.job, self.asked.target)?).await?;
            if response.status() == StatusCode::OK {
                return Ok(response);
            }
            let ready_at = self.refused(&response);
            let error = self.error(response, deadline).await;
            match ready_at.filter(|at| *at < deadline && !was_refused) {
                Some(at) => tokio::time::sleep_until(at).await,
                None => return Err(error),
            }
            was_refused = true;
            self.is_complete = false;
        }
    }

    /// When the server may be asked again, where it says so or where that can be guessed.
    fn refused(&mut self, response: &Response<Body>) -> Option<Instant> {
        let refusal = refusal::refusal(response.status(), response.headers())?;
        let longest = self.asked.target.scrape_interval().min(LONGEST_PAUSE);
        let refusal = match refusal {
            Refusal::For(pause) => Refusal::For(pause.min(longest)),
            unknown => unknown,
        };
        let now = Instant::now();
        let since = *self.asked.refused_since.get_or_insert(now);
        match (self.asked.pass, refusal) {
            (Some(pass), _) => pass.refused(refusal, since),
            (None, Refusal::For(pause)) => Some(now + pause),
            (None, _) => None,
        }
    }

    /// What an answer with another status says of the reason.
    async fn error(&mut self, response: Response<Body>, deadline: Instant) -> ScrapeError {
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        let patience = deadline.min(Instant::now() + REFUSAL_TIMEOUT);
        let reading = async {
            while let Some(chunk) = incoming.chunk().await {
                let Ok(chunk) = chunk else { return false };
                if body.len() + chunk.len() > MAX_REFUSAL_BYTES {
                    return false;
                }
                body.extend_from_slice(&chunk);
            }
            true
        };
        self.is_complete = tokio::time::timeout_at(patience, reading).await.unwrap_or(false);
        let said = refusal::message(&head, &body, self.asked.target, self.asked.job);
        ScrapeError::Status { status: head.status, said }
    }
}

/// The least that is reserved for a page.
const FIRST_BYTES: usize = 8 << 10;

/// A server that asks for more is asked again with the next scrape at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What a server says beside a status is waited for this long.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

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
