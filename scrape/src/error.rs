//! Why a scrape failed.

use promferry_model::OverBudget;

/// Why a scrape failed: what `/api/v1/targets` shows as the last error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The target's labels make no URL.
    #[error("invalid URL {url:?}: {reason}")]
    InvalidUrl {
        /// The text up to its query.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The request got no answer.
    #[error(transparent)]
    Http(#[from] promferry_http_client::Error),
    /// The target took longer than `scrape_timeout` from the start of the scrape to the last byte.
    #[error("the target did not answer within the scrape timeout of {timeout_ms} ms")]
    Timeout {
        /// The limit, in milliseconds.
        timeout_ms: u64,
    },
    /// The memory budget had no room for the page before `scrape_timeout` was over.
    #[error("no memory was free for the page within the scrape timeout of {timeout_ms} ms")]
    WaitedForMemory {
        /// The limit, in milliseconds.
        timeout_ms: u64,
    },
    /// The target did not answer with status 200.
    #[error("server returned HTTP status {status}{}", said.as_deref().map(|said| format!(": {said}")).unwrap_or_default())]
    Status {
        /// Code and reason.
        status: http::StatusCode,
        /// The reason in the server's words, where it gives one that can be shown.
        said: Option<String>,
    },
    /// The page is compressed in a way that was not asked for.
    #[error("the page is encoded as {encoding:?}; only gzip and uncompressed pages can be read")]
    ContentEncoding {
        /// The header's value.
        encoding: String,
    },
    /// The gzip data is damaged.
    #[error("the page cannot be inflated: {reason}")]
    Inflate {
        /// What is wrong with it.
        reason: String,
    },
    /// The page has `body_size_limit` bytes or more.
    #[error(
        "body size limit exceeded: the page has at least {limit} bytes, which body_size_limit does not allow"
    )]
    BodySizeLimit {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The page is larger than any page may be under this memory budget.
    #[error(
        "the page is larger than the {limit} bytes that one page may take of the memory budget; raise the \
         memory limit or shrink the page"
    )]
    PageTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The memory budget has no room for all of the page.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The page's format is not known.
    #[error("{reason}")]
    ContentType {
        /// What is wrong with `Content-Type` and what to do.
        reason: String,
    },
    /// The page breaks the rules of its format.
    #[error("the page cannot be read: {0}")]
    Parse(#[from] promferry_exposition::ParseError),
    /// A series is not acceptable.
    #[error("{reason}")]
    Series {
        /// Which rule it breaks.
        reason: String,
    },
    /// A series breaks `label_limit`, `label_name_length_limit` or `label_value_length_limit`.
    #[error("{reason}")]
    LabelLimits {
        /// Which limit and which series.
        reason: String,
    },
    /// The page has more samples than `sample_limit` allows.
    #[error("sample limit exceeded: the page has more than {limit} samples after metric relabelling")]
    SampleLimit {
        /// The limit, in samples.
        limit: u64,
    },
    /// A native histogram cannot be brought below `native_histogram_bucket_limit`.
    #[error("histogram bucket limit exceeded: a native histogram has more than {limit} buckets")]
    BucketLimit {
        /// The limit, in buckets.
        limit: u64,
    },
    /// The job has more targets than `target_limit` allows; none of them is scraped.
    #[error("target_limit exceeded (number of targets: {targets}, limit: {limit})")]
    TargetLimit {
        /// How many there are.
        targets: u64,
        /// The limit.
        limit: u64,
    },
    /// Reading the page panicked, which is a bug here.
    #[error("reading the page panicked ({message}); the page was put aside, please report it")]
    Panic {
        /// The panic's text.
        message: String,
    },
}

impl ScrapeError {
    /// A word for the reason, as the ledger counts it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "invalid_url",
            Self::Http(_) => "http",
            Self::Timeout { .. } => "timeout",
            Self::WaitedForMemory { .. } | Self::OverBudget(_) | Self::PageTooLarge { .. } => "memory",
            Self::Status { .. } => "status",
            Self::ContentEncoding { .. } | Self::Inflate { .. } => "content_encoding",
            Self::BodySizeLimit { .. } => "body_size_limit",
            Self::ContentType { .. } => "content_type",
            Self::Parse(_) => "parse",
            Self::Series { .. } => "invalid_series",
            Self::LabelLimits { .. } => "label_limits",
            Self::SampleLimit { .. } => "sample_limit",
            Self::BucketLimit { .. } => "bucket_limit",
            Self::TargetLimit { .. } => "target_limit",
            Self::Panic { .. } => "panic",
        }
    }
}
