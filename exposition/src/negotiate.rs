//! Content negotiation as values: what a scraper asks for, what a target answers with, and how the answer is read.

mod accept;
mod media_type;

use std::fmt;
use std::str::FromStr;

use promferry_model::EscapingScheme;

pub use self::accept::{negotiate, negotiate_among};
use self::media_type::MediaType;
use crate::Format;

/// A protocol that a scraper can ask a target for, by the name that Prometheus' `scrape_protocols` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum ScrapeProtocol {
    /// Delimited protobuf, the only one with native histograms.
    PrometheusProto,
    /// OpenMetrics 2.0.0, whose specification is a release candidate. Configuration cannot ask for it, as it can't in
    /// Prometheus without a feature flag: serde writes it and does not read it.
    #[cfg(feature = "openmetrics2")]
    #[cfg_attr(feature = "serde", serde(rename = "OpenMetricsText2.0.0", skip_deserializing))]
    OpenMetricsText2_0_0,
    /// OpenMetrics 1.0.0.
    #[cfg_attr(feature = "serde", serde(rename = "OpenMetricsText1.0.0"))]
    OpenMetricsText1_0_0,
    /// OpenMetrics 0.0.1.
    #[cfg_attr(feature = "serde", serde(rename = "OpenMetricsText0.0.1"))]
    OpenMetricsText0_0_1,
    /// The Prometheus text format with quoted names.
    #[cfg_attr(feature = "serde", serde(rename = "PrometheusText1.0.0"))]
    PrometheusText1_0_0,
    /// The Prometheus text format.
    #[cfg_attr(feature = "serde", serde(rename = "PrometheusText0.0.4"))]
    PrometheusText0_0_4,
}

/// Prometheus 3.16 counts weights down from the number of protocols it knows, one of which (OpenMetrics
/// 2.0.0) is experimental, plus one; whether that one is wanted makes no difference.
const FIRST_WEIGHT: usize = 7;

/// The version of OpenMetrics that is a release candidate.
const OPENMETRICS_2: &str = "2.0.0";

impl ScrapeProtocol {
    /// Every protocol that is not experimental, preferred ones first.
    pub const ALL: [Self; 5] = [
        Self::PrometheusProto,
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];
    /// What Prometheus asks for unless told otherwise.
    pub const DEFAULT: [Self; 4] = [
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];
    /// What Prometheus asks for when native histograms are wanted.
    pub const DEFAULT_PROTOBUF_FIRST: [Self; 5] = Self::ALL;

    /// What [`crate::negotiate`] answers with, preferred ones first: every protocol that is not experimental.
    pub const OFFERED: [Self; 5] = [
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusProto,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// The name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetricsText2_0_0 => "OpenMetricsText2.0.0",
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
        }
    }

    /// The media type in `Accept`, without weight.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetricsText2_0_0 => "application/openmetrics-text;version=2.0.0",
            Self::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
        }
    }

    /// The format whose parser reads an answer in this protocol.
    pub const fn format(self) -> Format {
        match self {
            Self::PrometheusProto => Format::Protobuf,
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetricsText2_0_0 => Format::OpenMetrics2,
            Self::OpenMetricsText1_0_0 | Self::OpenMetricsText0_0_1 => Format::OpenMetrics,
            Self::PrometheusText1_0_0 | Self::PrometheusText0_0_4 => Format::Text,
        }
    }

    /// Whether the protocol has a way to write any name: the text formats since their 1.0.0 in quotes, protobuf
    /// as it is.
    pub const fn takes_any_name(self) -> bool {
        !matches!(self, Self::OpenMetricsText0_0_1 | Self::PrometheusText0_0_4)
    }

    /// Whether a scraper that asks for the protocol says how names are to be escaped.
    const fn has_escaping(self) -> bool {
        self.takes_any_name() && !matches!(self, Self::PrometheusProto)
    }
}

impl fmt::Display for ScrapeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no scrape protocol's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown scrape protocol {0:?}, expected one of OpenMetricsText0.0.1, OpenMetricsText1.0.0, PrometheusProto, \
     PrometheusText0.0.4, PrometheusText1.0.0"
)]
pub struct UnknownScrapeProtocol(pub String);

impl FromStr for ScrapeProtocol {
    type Err = UnknownScrapeProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownScrapeProtocol> {
        let experimental = [
            #[cfg(feature = "openmetrics2")]
            Self::OpenMetricsText2_0_0,
        ];
        Self::ALL
            .into_iter()
            .chain(experimental)
            .find(|protocol| protocol.as_str() == name)
            .ok_or_else(|| UnknownScrapeProtocol(name.to_owned()))
    }
}

/// The `Accept` header for these protocols, the most wanted first, as Prometheus 3.16 writes it.
///
/// ```
/// use promferry_exposition::{ScrapeProtocol, accept_header};
/// use promferry_model::EscapingScheme;
/// let only_text = accept_header(&[ScrapeProtocol::PrometheusText0_0_4], EscapingScheme::AllowUtf8);
/// assert_eq!(only_text, "text/plain;version=0.0.4;q=0.7,*/*;q=0.6");
/// ```
pub fn accept_header(protocols: &[ScrapeProtocol], escaping: EscapingScheme) -> String {
    let mut accept = String::with_capacity(64 * (protocols.len() + 1));
    let mut weight = FIRST_WEIGHT;
    for protocol in protocols {
        accept.push_str(protocol.media_type());
        if protocol.has_escaping() {
            accept.push_str(";escaping=");
            accept.push_str(escaping.as_str());
        }
        accept.push_str(&format!(";q=0.{weight},"));
        weight = weight.saturating_sub(1);
    }
    accept.push_str(&format!("*/*;q=0.{weight}"));
    accept
}

/// A protocol and the way in which names are written in it: what a content negotiation comes to. Its text is
/// the `Content-Type`.
///
/// ```
/// use promferry_exposition::{Negotiated, ScrapeProtocol};
/// use promferry_model::EscapingScheme;
/// let page = Negotiated::new(ScrapeProtocol::PrometheusText0_0_4, EscapingScheme::Values);
/// assert_eq!(page.to_string(), "text/plain; version=0.0.4; charset=utf-8; escaping=values");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Negotiated {
    protocol: ScrapeProtocol,
    escaping: EscapingScheme,
}

impl Negotiated {
    /// `protocol` with names escaped by `escaping`. Where the protocol cannot write every name
    /// ([`ScrapeProtocol::takes_any_name`]), [`EscapingScheme::AllowUtf8`] becomes
    /// [`EscapingScheme::Underscores`].
    pub const fn new(protocol: ScrapeProtocol, escaping: EscapingScheme) -> Self {
        let escaping = match escaping {
            EscapingScheme::AllowUtf8 if !protocol.takes_any_name() => EscapingScheme::Underscores,
            escaping => escaping,
        };
        Self { protocol, escaping }
    }

    /// The newest protocol of `format`, with names as they are.
    pub const fn newest(format: Format) -> Self {
        let protocol = match format {
            Format::Text => ScrapeProtocol::PrometheusText1_0_0,
            Format::OpenMetrics => ScrapeProtocol::OpenMetricsText1_0_0,
            #[cfg(feature = "openmetrics2")]
            Format::OpenMetrics2 => ScrapeProtocol::OpenMetricsText2_0_0,
            Format::Protobuf => ScrapeProtocol::PrometheusProto,
        };
        Self { protocol, escaping: EscapingScheme::AllowUtf8 }
    }

    /// The protocol.
    pub const fn protocol(self) -> ScrapeProtocol {
        self.protocol
    }

    /// How names are escaped: what undoes it is [`promferry_model::unescape_name`].
    pub const fn escaping(self) -> EscapingScheme {
        self.escaping
    }

    /// The format whose parser reads the page and whose encoder writes it.
    pub const fn format(self) -> Format {
        self.protocol.format()
    }
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.protocol.media_type().split(';').enumerate() {
            f.write_str(if at > 0 { "; " } else { "" })?;
            f.write_str(part)?;
        }
        if self.format() != Format::Protobuf {
            f.write_str("; charset=utf-8")?;
        }
        write!(f, "; escaping={}", self.escaping)
    }
}

/// Why a target's `Content-Type` does not say how to read its page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentTypeError {
    /// There is none, or an empty one.
    #[error("target sent no Content-Type, and no fallback_scrape_protocol is set for it")]
    Missing,
    /// It is not written as a media type.
    #[error(
        "target sent Content-Type {content_type:?}, which cannot be parsed ({reason}), and no fallback_scrape_protocol is set for it"
    )]
    Malformed {
        /// What the target sent.
        content_type: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It names a format that is not read.
    #[error(
        "target sent unsupported Content-Type {content_type:?}, and no fallback_scrape_protocol is set for it"
    )]
    Unsupported {
        /// What the target sent.
        content_type: String,
    },
}

/// The format of a page with this `Content-Type` by Prometheus' rules: what cannot be understood is read in
/// the `fallback` protocol if there is one. An empty body is judged by nobody; look at it first.
///
/// # Errors
/// Without a `fallback`, says why the header does not name a format.
pub fn format_for(
    content_type: Option<&str>,
    fallback: Option<ScrapeProtocol>,
) -> Result<Format, ContentTypeError> {
    match (declared(content_type.unwrap_or_default(), false), fallback) {
        #[cfg(feature = "openmetrics2")]
        (Err(_), Some(ScrapeProtocol::OpenMetricsText2_0_0)) => Ok(Format::OpenMetrics),
        (Err(_), Some(fallback)) => Ok(fallback.format()),
        (declared, _) => declared.map(|(format, _)| format),
    }
}

/// What a page with this `Content-Type` is written in, and how its names are escaped, for a reader who wants
/// them unescaped: by the rules of [`format_for`], with the versions told apart. A version that is not known
/// is read as the newest of its format; a missing one is OpenMetrics 0.0.1 or text 0.0.4. Names are taken to be
/// as they are unless the header says otherwise. With the feature `openmetrics2` OpenMetrics 2.0.0 is read too,
/// which [`format_for`] refuses as Prometheus does unless told otherwise.
///
/// ```
/// use promferry_exposition::{ScrapeProtocol, protocol_for};
/// use promferry_model::unescape_name;
/// let page = protocol_for(Some("text/plain; version=1.0.0; escaping=values"), None)?;
/// assert_eq!(page.protocol(), ScrapeProtocol::PrometheusText1_0_0);
/// assert_eq!(unescape_name("U__http_2e_requests", page.escaping()), "http.requests");
/// # Ok::<(), promferry_exposition::ContentTypeError>(())
/// ```
///
/// # Errors
/// As [`format_for`].
pub fn protocol_for(
    content_type: Option<&str>,
    fallback: Option<ScrapeProtocol>,
) -> Result<Negotiated, ContentTypeError> {
    let openmetrics2 = cfg!(feature = "openmetrics2");
    let declared = declared(content_type.unwrap_or_default(), openmetrics2);
    let (format, media_type) = match (declared, fallback) {
        (Err(_), Some(fallback)) => return Ok(Negotiated::new(fallback, EscapingScheme::AllowUtf8)),
        (declared, _) => declared?,
    };
    let protocol = match (format, media_type.parameter("version")) {
        #[cfg(feature = "openmetrics2")]
        (Format::OpenMetrics, Some(OPENMETRICS_2)) => ScrapeProtocol::OpenMetricsText2_0_0,
        (Format::Text, None | Some("0.0.4")) => ScrapeProtocol::PrometheusText0_0_4,
        (Format::OpenMetrics, None | Some("0.0.1")) => ScrapeProtocol::OpenMetricsText0_0_1,
        (format, _) => Negotiated::newest(format).protocol,
    };
    let escaping = media_type.parameter("escaping").and_then(|escaping| escaping.parse().ok());
    Ok(Negotiated::new(protocol, escaping.unwrap_or(EscapingScheme::AllowUtf8)))
}

/// The format and what else the header says. OpenMetrics 2.0.0 counts as OpenMetrics where it is read at all: it is
/// experimental in Prometheus and has to be switched on there.
fn declared(content_type: &str, openmetrics2: bool) -> Result<(Format, MediaType), ContentTypeError> {
    if content_type.is_empty() {
        return Err(ContentTypeError::Missing);
    }
    let media_type = media_type::parse(content_type)
        .map_err(|reason| ContentTypeError::Malformed { content_type: content_type.to_owned(), reason })?;
    let format = match media_type.name.as_str() {
        "text/plain" => Format::Text,
        "application/vnd.google.protobuf" => Format::Protobuf,
        "application/openmetrics-text"
            if openmetrics2 || media_type.parameter("version") != Some(OPENMETRICS_2) =>
        {
            Format::OpenMetrics
        }
        _ => return Err(ContentTypeError::Unsupported { content_type: content_type.to_owned() }),
    };
    Ok((format, media_type))
}
