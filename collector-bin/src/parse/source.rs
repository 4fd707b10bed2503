//! Where a page comes from, and what it is written in.

use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{Request, StatusCode};
use promferry_exposition::{Format, ScrapeProtocol, accept_header, protocol_for};
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions, UrlParts};
use promferry_model::EscapingScheme;
use tower::ServiceExt as _;

use crate::cli::{PageFormat, ParseArgs};

/// A page that is all there.
pub(super) struct Page {
    /// What it is called in messages: no secret of a URL is in it.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) format: Format,
    pub(super) reading: Reading,
}

/// How the format is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Said,
    Guessed,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{name} cannot be read: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} is longer than {max_bytes} bytes; --max-bytes allows more")]
    TooLong { name: String, max_bytes: usize },
    #[error("{0} is no URL: {1}")]
    Url(String, http::Error),
    #[error("{0}")]
    Runtime(#[from] io::Error),
    #[error("{name}: {error}")]
    Http { name: String, error: promferry_http_client::Error },
    #[error("{name} did not answer within {} s", ANSWER_LIMIT.as_secs())]
    TimedOut { name: String },
    #[error("{name} answered {status}")]
    Status { name: String, status: StatusCode },
    #[error("{name}: {error}; --format says what it is")]
    ContentType { name: String, error: promferry_exposition::ContentTypeError },
}

/// To connect and to answer: what a scrape has by default is a third of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Reads the page to its end.
pub(super) fn read(args: &ParseArgs) -> Result<Page, SourceError> {
    let said = if args.strict { Some(Format::OpenMetrics) } else { args.format.map(Format::from) };
    let (name, bytes, said) = if is_url(&args.page) {
        let name = UrlParts::of(&args.page).shown();
        let (body, content_type) = fetch(args, &name)?;
        let said = match said {
            Some(said) => said,
            None => protocol_for(content_type.as_deref(), None)
                .map_err(|error| SourceError::ContentType { name: name.clone(), error })?
                .format(),
        };
        (name, body.to_vec(), Some(said))
    } else if args.page == "-" {
        let name = "standard input".to_owned();
        (name.clone(), read_all(io::stdin().lock(), &name, args.max_bytes)?, said)
    } else {
        let name = args.page.clone();
        let file = File::open(&name).map_err(|error| SourceError::Read { name: name.clone(), error })?;
        (name.clone(), read_all(file, &name, args.max_bytes)?, said)
    };
    // No page of any format starts like that.
    let bytes = if bytes.starts_with(GZIP_MAGIC) {
        read_all(MultiGzDecoder::new(&bytes[..]), &name, args.max_bytes)?
    } else {
        bytes
    };
    let (format, reading) = match said {
        Some(format) => (format, Reading::Said),
        None => (guess(&bytes), Reading::Guessed),
    };
    Ok(Page { name, bytes, format, reading })
}

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

fn is_url(page: &str) -> bool {
    let scheme = page.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}

fn read_all(reader: impl Read, name: &str, max_bytes: usize) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| SourceError::Read { name: name.to_owned(), error })?;
    if bytes.len() > max_bytes {
        return Err(SourceError::TooLong { name: name.to_owned(), max_bytes });
    }
    Ok(bytes)
}

/// Asks as a scrape does. The body is as it came, and perhaps compressed.
fn fetch(args: &ParseArgs, name: &str) -> Result<(Bytes, Option<String>), SourceError> {
    let request = Request::get(&args.page)
        .header(ACCEPT, accept_header(protocols(args), EscapingScheme::AllowUtf8))
        .header(ACCEPT_ENCODING, "gzip")
        .body(Bytes::new())
        .map_err(|error| SourceError::Url(name.to_owned(), error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(async {
        let answered = async {
            let http = Http::new(&HttpClientConfig::default(), HttpOptions::default())?;
            let answer = Client::new(http).oneshot(request).await?;
            let (head, body) = answer.into_parts();
            Ok((head, body.read_to_end(args.max_bytes).await?))
        };
        tokio::time::timeout(ANSWER_LIMIT, answered).await
    });
    // A look-up of a name that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    let fetched = fetched.map_err(|_| SourceError::TimedOut { name: name.to_owned() })?;
    let (head, body) = fetched.map_err(|error| SourceError::Http { name: name.to_owned(), error })?;
    if head.status != StatusCode::OK {
        return Err(SourceError::Status { name: name.to_owned(), status: head.status });
    }
    let content_type = head.headers.get(CONTENT_TYPE);
    Ok((body, content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())))
}

/// What is asked for: what the command line says, else what a scrape asks for.
fn protocols(args: &ParseArgs) -> &'static [ScrapeProtocol] {
    let format = if args.strict { Some(PageFormat::Openmetrics) } else { args.format };
    match format {
        Some(PageFormat::Text) => &[ScrapeProtocol::PrometheusText1_0_0, ScrapeProtocol::PrometheusText0_0_4],
        Some(PageFormat::Openmetrics) => {
            &[ScrapeProtocol::OpenMetricsText1_0_0, ScrapeProtocol::OpenMetricsText0_0_1]
        }
        Some(PageFormat::Openmetrics2) => &[ScrapeProtocol::OpenMetricsText2_0_0],
        Some(PageFormat::Protobuf) => &[ScrapeProtocol::PrometheusProto],
        None if args.native_histograms => &ScrapeProtocol::DEFAULT_PROTOBUF_FIRST,
        None => &ScrapeProtocol::DEFAULT,
    }
}

/// What a page without a `Content-Type` is most likely written in.
fn guess(page: &[u8]) -> Format {
    let end = page.strip_suffix(b"\n").unwrap_or(page);
    if end == b"# EOF" || end.ends_with(b"\n# EOF") {
        return Format::OpenMetrics;
    }
    if starts_with_a_message(page) { Format::Protobuf } else { Format::Text }
}

/// Whether a page starts with a varint length that fits it and the tag of a family's name, which every writer puts
/// first.
fn starts_with_a_message(page: &[u8]) -> bool {
    const NAME_TAG: u8 = 1 << 3 | 2;
    let mut length: u64 = 0;
    for (at, &byte) in page.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let rest = &page[at + 1..];
            return rest.first() == Some(&NAME_TAG)
                && usize::try_from(length).is_ok_and(|length| length <= rest.len());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_guessed() {
        for (page, format) in [
            (&b""[..], Format::Text),
            (b"a 1\n", Format::Text),
            (b"\n\na 1\n", Format::Text),
            (b"# EOF", Format::OpenMetrics),
            (b"a 1\n# EOF\n", Format::OpenMetrics),
            (b"a 1 # EOF\n", Format::Text),
            (b"\x03\x0a\x01a", Format::Protobuf),
            (b"\x80\x01\x0a\x01a", Format::Text),
        ] {
            assert_eq!(guess(page), format, "{page:?}");
        }
    }

    #[test]
    fn urls_are_told_from_files() {
        assert!(is_url("http://localhost/metrics") && is_url("HTTPS://x"));
        assert!(!is_url("page.prom") && !is_url("ftp://x") && !is_url("-") && !is_url("http:/x"));
    }
}
