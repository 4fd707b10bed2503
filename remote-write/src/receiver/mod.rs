//! Receiving remote write: both versions of the message read into one model, and the answer that their senders
//! expect.
//!
//! It is pure: an HTTP server of any kind hands over the headers and the body, and sends back what
//! [`response`] says.
//!
//! ```
//! use http::{HeaderMap, HeaderValue, header};
//! use promferry_remote_write::{receiver, wire};
//!
//! // What a sender of 2.0 posts:
//! let message = wire::v2::Request {
//!     symbols: ["", "__name__", "up"].map(String::from).to_vec(),
//!     timeseries: vec![wire::v2::TimeSeries {
//!         labels_refs: vec![1, 2],
//!         samples: vec![wire::v2::Sample { value: 1.0, timestamp: 1_700_000_000_000, start_timestamp: 0 }],
//!         ..Default::default()
//!     }],
//! };
//! let mut headers = HeaderMap::new();
//! headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
//! let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
//! headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
//! let body = wire::encode(&message);
//!
//! let received = receiver::read(&headers, &body, 16 << 20);
//! for series in &received.as_ref().unwrap().series {
//!     for sample in &series.samples {
//!         println!("{} {}", series.labels, sample.value);
//!     }
//! }
//! let answer = receiver::response(&received.map(|request| request.written()));
//! assert_eq!(answer.status(), 204);
//! assert_eq!(answer.headers()["x-prometheus-remote-write-samples-written"], "1");
//! ```

mod read;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use promferry_model::{Exemplar, Histogram, Labels, Metadata, Sample, Timestamp};

use crate::wire::WireError;
use crate::{Counts, Protocol};

/// A remote-write request of either version.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WriteRequest {
    /// The message that it came as.
    pub protocol: Protocol,
    /// The series, in the message's order. There may be several of one label set.
    pub series: Vec<TimeSeries>,
    /// 1.0's metadata of families, which comes in requests of its own.
    pub metadata: Vec<Metadata>,
}

/// A series of a [`WriteRequest`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TimeSeries {
    /// All labels.
    pub labels: Labels,
    /// Float samples; [`Sample::start`] only comes in 2.0.
    pub samples: Vec<Sample>,
    /// Native histograms.
    pub histograms: Vec<HistogramSample>,
    /// Exemplars.
    pub exemplars: Vec<Exemplar>,
    /// 2.0's metadata of the series. The message says nothing of families: the metric's name stands there.
    pub metadata: Option<Metadata>,
}

/// A native histogram at a time.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistogramSample {
    /// When it was taken.
    pub timestamp: Timestamp,
    /// Since when it has been counted; only comes in 2.0.
    pub start: Option<Timestamp>,
    /// The histogram.
    pub histogram: Histogram,
}

/// How much of a request was written: what a sender of 2.0 has to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The message that it came as: senders of 1.0 are told nothing.
    pub protocol: Protocol,
    /// How much of each kind.
    pub counts: Counts,
}

impl WriteRequest {
    /// What is in it.
    pub fn counts(&self) -> Counts {
        let of = |len: fn(&TimeSeries) -> usize| self.series.iter().map(|series| len(series) as u64).sum();
        Counts {
            samples: of(|series| series.samples.len()),
            histograms: of(|series| series.histograms.len()),
            exemplars: of(|series| series.exemplars.len()),
        }
    }

    /// That all of it was written.
    pub fn written(&self) -> Written {
        Written { protocol: self.protocol, counts: self.counts() }
    }
}

/// Why a request was not taken, and so what its sender has to know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The message or its compression is none that is known here (415: a sender may come with another).
    #[error("unsupported {header} {value:?}; send application/x-protobuf with snappy")]
    Unsupported {
        /// Which header says so.
        header: HeaderName,
        /// What it says.
        value: String,
    },
    /// The body can't be read (400, or 413 where it is too large).
    #[error(transparent)]
    Body(#[from] WireError),
    /// A series breaks the rules (400).
    #[error("series number {number} of the request: {problem}")]
    Series {
        /// Which one, from 1.
        number: usize,
        /// Which rule.
        problem: String,
    },
    /// A 2.0 request does not begin its symbols with the empty one (400).
    #[error("the first symbol of the request is not empty")]
    FirstSymbol,
}

impl ReadError {
    /// The status that tells the sender.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Body(WireError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Series { .. } | Self::FirstSymbol => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a request's body, which may inflate to `max_bytes`, by what its headers say of it.
///
/// # Errors
/// [`ReadError`]: the headers name something else, the body is not what they say, or a series breaks a rule of
/// the specifications (labels that are not sorted, not unique or empty; references to symbols that are not
/// there; 2.0: neither samples nor histograms, or both; a histogram whose spans and buckets disagree).
pub fn read(headers: &HeaderMap, body: &[u8], max_bytes: usize) -> Result<WriteRequest, ReadError> {
    match protocol(headers)? {
        Protocol::V1 => read::v1(crate::wire::decode_v1(body, max_bytes)?),
        Protocol::V2 => read::v2(crate::wire::decode_v2(body, max_bytes)?),
    }
}

/// Which message the headers announce. Senders of the first hour say nothing of either: that is 1.0 in snappy's
/// block format.
///
/// # Errors
/// [`ReadError::Unsupported`].
pub fn protocol(headers: &HeaderMap) -> Result<Protocol, ReadError> {
    let text = |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let unsupported = |name: &HeaderName, value: &str| ReadError::Unsupported {
        header: name.clone(),
        value: value.to_owned(),
    };
    if let Some(encoding) = text(&header::CONTENT_ENCODING)
        && !encoding.is_empty()
        && !encoding.eq_ignore_ascii_case("snappy")
    {
        return Err(unsupported(&header::CONTENT_ENCODING, &encoding));
    }
    let Some(content_type) = text(&header::CONTENT_TYPE) else { return Ok(Protocol::V1) };
    let refused = || unsupported(&header::CONTENT_TYPE, &content_type);
    let mut parts = content_type.split(';').map(str::trim);
    match parts.next() {
        Some(media) if media.eq_ignore_ascii_case("application/x-protobuf") => {}
        Some("") => return Ok(Protocol::V1),
        _ => return Err(refused()),
    }
    for parameter in parts {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("proto")
        {
            return match value.trim() {
                "prometheus.WriteRequest" => Ok(Protocol::V1),
                "io.prometheus.write.v2.Request" => Ok(Protocol::V2),
                _ => Err(refused()),
            };
        }
    }
    Ok(Protocol::V1)
}

/// The answer to a request: 204 and, to 2.0, what was written; else the error's status and text.
pub fn response(written: &Result<Written, ReadError>) -> Response<Bytes> {
    match written {
        Ok(written) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            if written.protocol == Protocol::V2 {
                written.add_headers(response.headers_mut());
            }
            response
        }
        Err(error) => {
            let mut response = Response::new(Bytes::from(error.to_string()));
            *response.status_mut() = error.status();
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            response
        }
    }
}

impl Written {
    /// Adds the `X-Prometheus-Remote-Write-…-Written` headers: for an answer of one's own, a 400 to what was
    /// written in part for example.
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", self.counts.samples),
            ("x-prometheus-remote-write-histograms-written", self.counts.histograms),
            ("x-prometheus-remote-write-exemplars-written", self.counts.exemplars),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_which_message_it_is() {
        let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        for (content_type, encoding, expected) in [
            (Some("application/x-protobuf"), Some("snappy"), Some(Protocol::V1)),
            (
                Some("application/x-protobuf;proto=prometheus.WriteRequest"),
                Some("snappy"),
                Some(Protocol::V1),
            ),
            (Some(v2), Some("snappy"), Some(Protocol::V2)),
            (
                Some("Application/X-Protobuf; charset=x; Proto= io.prometheus.write.v2.Request"),
                None,
                Some(Protocol::V2),
            ),
            (None, None, Some(Protocol::V1)),
            (Some("application/json"), Some("snappy"), None),
            (Some("application/x-protobuf;proto=io.prometheus.write.v3.Request"), Some("snappy"), None),
            (Some(v2), Some("zstd"), None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::CONTENT_TYPE, content_type), (header::CONTENT_ENCODING, encoding)]
            {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let found = protocol(&headers);
            assert_eq!(found.as_ref().ok(), expected.as_ref(), "{content_type:?} {encoding:?}");
            if let Err(error) = found {
                assert_eq!(error.status(), 415);
                assert!(error.to_string().contains("application/x-protobuf with snappy"), "{error}");
            }
        }
    }
}
