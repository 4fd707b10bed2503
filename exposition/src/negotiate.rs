use std::fmt;
use std::str::FromStr;

use promferry_model::EscapingScheme;

use crate::Format;

/// A protocol that a scraper can ask a target for, by the name that Prometheus' `scrape_protocols` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[non_exhaustive]
pub enum ScrapeProtocol {
    /// Delimited protobuf, the only one with native histograms.
    PrometheusProto,
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
/// 2.0.0) is experimental, plus one.
const FIRST_WEIGHT: usize = 7;

impl ScrapeProtocol {
    /// Every protocol, preferred ones first.
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

    /// The name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusProto => "PrometheusProto",
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
            Self::OpenMetricsText1_0_0 | Self::OpenMetricsText0_0_1 => Format::OpenMetrics,
            Self::PrometheusText1_0_0 | Self::PrometheusText0_0_4 => Format::Text,
        }
    }

    /// Whether the protocol lets the scraper say how names are escaped.
    const fn has_escaping(self) -> bool {
        matches!(self, Self::OpenMetricsText1_0_0 | Self::PrometheusText1_0_0)
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
        Self::ALL
            .into_iter()
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
    let escaping = match escaping {
        EscapingScheme::Underscores => "underscores",
        EscapingScheme::Dots => "dots",
        EscapingScheme::Values => "values",
        _ => "allow-utf-8",
    };
    let mut accept = String::with_capacity(64 * (protocols.len() + 1));
    let mut weight = FIRST_WEIGHT;
    for protocol in protocols {
        accept.push_str(protocol.media_type());
        if protocol.has_escaping() {
            accept.push_str(";escaping=");
            accept.push_str(escaping);
        }
        accept.push_str(&format!(";q=0.{weight},"));
        weight = weight.saturating_sub(1);
    }
    accept.push_str(&format!("*/*;q=0.{weight}"));
    accept
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
    match (declared_format(content_type.unwrap_or_default()), fallback) {
        (Err(_), Some(fallback)) => Ok(fallback.format()),
        (declared, _) => declared,
    }
}

fn declared_format(content_type: &str) -> Result<Format, ContentTypeError> {
    if content_type.is_empty() {
        return Err(ContentTypeError::Missing);
    }
    let malformed = |reason| ContentTypeError::Malformed { content_type: content_type.to_owned(), reason };
    let (media_type, version) = parse_media_type(content_type).map_err(malformed)?;
    match media_type.as_str() {
        "text/plain" => Ok(Format::Text),
        "application/vnd.google.protobuf" => Ok(Format::Protobuf),
        // OpenMetrics 2.0.0 is experimental in Prometheus and not read unless it is switched on there.
        "application/openmetrics-text" if version.as_deref() != Some("2.0.0") => Ok(Format::OpenMetrics),
        _ => Err(ContentTypeError::Unsupported { content_type: content_type.to_owned() }),
    }
}

/// The format to answer a scraper in that sent this `Accept`: the most wanted one that an
/// [`crate::Encoder`] writes, the Prometheus text format if none is.
///
/// ```
/// use promferry_exposition::{Format, accepted_format};
/// assert_eq!(accepted_format("text/plain;q=0.3,application/openmetrics-text;version=1.0.0;q=0.6"), Format::OpenMetrics);
/// assert_eq!(accepted_format("text/html"), Format::Text);
/// ```
pub fn accepted_format(accept: &str) -> Format {
    let mut best = (0.0, Format::Text);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim_matches('"'))
        };
        let format = match media_type.as_str() {
            "text/plain" => Format::Text,
            "application/openmetrics-text"
                if matches!(parameter("version"), None | Some("0.0.1" | "1.0.0")) =>
            {
                Format::OpenMetrics
            }
            "application/vnd.google.protobuf"
                if parameter("proto") == Some("io.prometheus.client.MetricFamily")
                    && parameter("encoding") == Some("delimited") =>
            {
                Format::Protobuf
            }
            _ => continue,
        };
        let weight = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

/// The media type and its `version`, by the rules of Go's `mime.ParseMediaType`.
fn parse_media_type(text: &str) -> Result<(String, Option<String>), &'static str> {
    let (base, mut rest) = match text.find(';') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let media_type = base.trim().to_lowercase();
    let (main, subtype) = split_token(&media_type);
    let Some(subtype) = subtype.strip_prefix('/').filter(|_| !main.is_empty()) else {
        // Go takes a lone word for a media type; it is one that nobody supports.
        return if main.is_empty() { Err("no media type") } else { lone_word(&media_type, subtype) };
    };
    let (token, after) = split_token(subtype);
    if token.is_empty() || !after.is_empty() {
        return Err("malformed media subtype");
    }
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        if rest.trim_end() == ";" {
            break;
        }
        let (name, value, after) = parameter(rest).ok_or("invalid media parameter")?;
        match parameters.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value => return Err("duplicate parameter name"),
            _ => parameters.push((name, value)),
        }
        rest = after;
    }
    let version = parameters.into_iter().find(|(name, _)| name == "version").map(|(_, value)| value);
    Ok((media_type, version))
}

fn lone_word(media_type: &str, after: &str) -> Result<(String, Option<String>), &'static str> {
    if after.is_empty() { Ok((media_type.to_owned(), None)) } else { Err("expected slash after first token") }
}

/// `; name=value`: the name in lower case, the value, and what follows.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, rest) = split_token(text.strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=').filter(|_| !name.is_empty())?.trim_start();
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, after) = quoted_value(quoted)?;
        return Some((name.to_lowercase(), value, after));
    }
    let (value, after) = split_token(rest);
    (!value.is_empty()).then(|| (name.to_lowercase(), value.to_owned(), after))
}

fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\r' | '\n' => return None,
            // A backslash before what needs no escape stands for itself: browsers send Windows paths.
            '\\' => match chars.next_if(|(_, next)| is_special(*next)) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    None
}

fn split_token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_graphic() || is_special(c)).unwrap_or(text.len());
    text.split_at(end)
}

const fn is_special(c: char) -> bool {
    matches!(c, '(' | ')' | '<' | '>' | '@' | ',' | ';' | ':' | '\\' | '"' | '/' | '[' | ']' | '?' | '=')
}
