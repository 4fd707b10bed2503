//! Getting a page over the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use promferry_http_client::{Body, Connection, OriginHeaders, ServedAs};
use promferry_model::{MemoryBudget, Purpose, Reservation};
use tokio::time::Instant;

use crate::gate::{Lent, Pass};
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
    /// The target's own connection, which it keeps where its address lends it none.
    pub(crate) own: &'a mut Option<Connection>,
    /// Where the target's address is shared.
    pub(crate) pass: Option<Pass>,
    /// Since when the target is refused with 429 or 503.
    pub(crate) refused_since: Option<Instant>,
}

/// What came of it.
pub(crate) struct Answered {
    pub(crate) page: Result<Fetched, ScrapeError>,
    pub(crate) refused_since: Option<Instant>,
}

/// Asks the target for its page. The timeout covers everything: waiting for memory, connecting, the head and
/// the body of the answer, and asking again where the server says when. The body is kept as it comes, compressed or
/// not.
pub(crate) async fn fetch(asked: Fetch<'_>) -> Answered {
    let timeout = asked.target.scrape_timeout();
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let deadline = Instant::now() + timeout;
    let mut attempt = Attempt { asked, lent: None, stage: Stage::WaitsForMemory, is_complete: false };
    let page = match tokio::time::timeout_at(deadline, attempt.page(deadline)).await {
        Ok(page) => page,
        Err(_) => Err(match std::mem::replace(&mut attempt.stage, Stage::IsAsked) {
            Stage::WaitsForMemory => ScrapeError::WaitedForMemory { timeout_ms },
            Stage::IsAsked => ScrapeError::Timeout { timeout_ms },
            Stage::WaitsToAskAgain(refusal) => refusal,
        }),
    };
    attempt.give_back();
    let Fetch { pass, refused_since, .. } = attempt.asked;
    if let Some(mut pass) = pass.filter(|_| page.is_ok()) {
        pass.served();
    }
    Answered { refused_since: refused_since.filter(|_| page.is_err()), page }
}

struct Attempt<'a> {
    asked: Fetch<'a>,
    /// A connection of the address, for this request.
    lent: Option<Lent>,
    stage: Stage,
    /// The answer was read to its end: the connection can be used again.
    is_complete: bool,
}

/// What the timeout interrupts.
enum Stage {
    WaitsForMemory,
    IsAsked,
    /// What it was refused with.
    WaitsToAskAgain(ScrapeError),
}

impl Attempt<'_> {
    async fn page(&mut self, deadline: Instant) -> Result<Fetched, ScrapeError> {
        let (response, mut reservation) = self.answer(deadline).await?;
        let Fetch { limits, expected_bytes, .. } = self.asked;
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
        let mut capacity = announced.unwrap_or(0).max(expected_bytes.min(reservation.bytes()));
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

    /// The answer with status 200, and memory for it. A server that is asked too often and says when it may be asked
    /// again is, once, if that is soon enough; until then neither a place at the address nor memory is held.
    async fn answer(&mut self, deadline: Instant) -> Result<(Response<Body>, Reservation), ScrapeError> {
        let mut was_refused = false;
        loop {
            let reservation = self.reserve().await?;
            self.stage = Stage::IsAsked;
            let response = self.send().await?;
            if response.status() == StatusCode::OK {
                return Ok((response, reservation));
            }
            let ready_at = self.refused(&response);
            let error = self.error(response, deadline).await;
            let Some(at) = ready_at.filter(|at| *at < deadline && !was_refused) else {
                return Err(error);
            };
            was_refused = true;
            drop(reservation);
            self.stage = Stage::WaitsToAskAgain(error);
            self.wait(at).await;
        }
    }

    /// Only this first reservation waits. Growing fails by name, so that loops which hold memory never wait for each
    /// other.
    async fn reserve(&self) -> Result<Reservation, ScrapeError> {
        let Fetch { budget, limits, expected_bytes, .. } = self.asked;
        let first = expected_bytes.clamp(FIRST_BYTES, limits.memory.max(FIRST_BYTES));
        Ok(budget.reserve(Purpose::Bodies, first).await?)
    }

    async fn send(&mut self) -> Result<Response<Body>, ScrapeError> {
        let Fetch { job, target, ref pass, .. } = self.asked;
        let request = request(job, target)?;
        self.is_complete = false;
        self.lent = pass.as_ref().and_then(|pass| pass.borrow(&job.http, target));
        let connection = match &mut self.lent {
            Some(lent) => {
                *self.asked.own = None;
                &mut lent.connection
            }
            None => self.asked.own.get_or_insert_with(|| Connection::new(job.http.clone())),
        };
        Ok(connection.send(request).await?)
    }

    /// Lets others have the connection, if it can be used again.
    fn give_back(&mut self) {
        if let (Some(lent), Some(pass), true) = (self.lent.take(), &self.asked.pass, self.is_complete) {
            pass.give_back(lent);
        }
    }

    /// Waits until the target may be asked again, and in line with others once more.
    async fn wait(&mut self, at: Instant) {
        self.give_back();
        let pass = self.asked.pass.take();
        match pass {
            Some(pass) => self.asked.pass = Some(pass.again(at).await),
            None => tokio::time::sleep_until(at).await,
        }
    }

    /// When the server may be asked again, where it says so or where that can be guessed.
    fn refused(&mut self, response: &Response<Body>) -> Option<Instant> {
        let longest = self.asked.target.scrape_interval().min(LONGEST_PAUSE);
        let refusal = refusal::refusal(response.status(), response.headers())?.at_most(longest);
        let now = Instant::now();
        let since = self.asked.refused_since;
        self.asked.refused_since = since.or(Some(now));
        match &self.asked.pass {
            Some(pass) => pass.refused(refusal, since),
            None => refusal.pause().map(|pause| now + pause),
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
