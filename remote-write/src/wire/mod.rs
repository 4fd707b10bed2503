//! The protobuf messages of remote write 1.0 and 2.0, and how a request's body is read.
//!
//! For receivers, tests and programs that build requests themselves. Sending does not go through these types:
//! [`encode`](crate::encode) writes the same bytes without building messages.
//!
//! ```
//! use promferry_remote_write::wire::{self, v1};
//!
//! let request = v1::WriteRequest {
//!     timeseries: vec![v1::TimeSeries {
//!         labels: vec![v1::Label { name: "__name__".into(), value: "up".into() }],
//!         samples: vec![v1::Sample { value: 1.0, timestamp: 1_700_000_000_000 }],
//!         ..Default::default()
//!     }],
//!     ..Default::default()
//! };
//! let body = wire::encode(&request);
//! assert_eq!(wire::decode_v1(&body, 1 << 20).unwrap(), request);
//! ```

pub mod v1;
pub mod v2;

use prost::Message;

/// Reads a 1.0 body: snappy's block format around a `prometheus.WriteRequest` of at most `limit` bytes.
///
/// # Errors
/// [`WireError`] when the body is too large, not snappy, or not that message.
pub fn decode_v1(body: &[u8], limit: usize) -> Result<v1::WriteRequest, WireError> {
    Ok(v1::WriteRequest::decode(&*decompress(body, limit)?)?)
}

/// Reads a 2.0 body: snappy's block format around an `io.prometheus.write.v2.Request` of at most `limit`
/// bytes.
///
/// # Errors
/// [`WireError`] when the body is too large, not snappy, or not that message.
pub fn decode_v2(body: &[u8], limit: usize) -> Result<v2::Request, WireError> {
    Ok(v2::Request::decode(&*decompress(body, limit)?)?)
}

/// The body that carries `message`: encoded, then compressed by snappy's block format.
pub fn encode(message: &impl Message) -> Vec<u8> {
    let raw = message.encode_to_vec();
    let mut body = vec![0; snap::raw::max_compress_len(raw.len())];
    // The buffer has the size that compression asks for, which is all that could be wrong.
    let length = snap::raw::Encoder::new().compress(&raw, &mut body).unwrap_or_default();
    body.truncate(length);
    body
}

/// Inflates snappy's block format, refusing before any memory is taken what would exceed `limit` bytes.
///
/// # Errors
/// [`WireError::TooLarge`] and [`WireError::Snappy`].
pub fn decompress(body: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let length = snap::raw::decompress_len(body)?;
    if length > limit {
        return Err(WireError::TooLarge { length, limit });
    }
    Ok(snap::raw::Decoder::new().decompress_vec(body)?)
}

/// Why a request's body could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The inflated message would be larger than allowed.
    #[error("the body inflates to {length} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes that the body announces.
        length: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// The body is not in snappy's block format (the framed format is another).
    #[error("the body is not in snappy's block format")]
    Snappy(#[from] snap::Error),
    /// The inflated bytes are not the message.
    #[error("the body is not the announced protobuf message")]
    Protobuf(#[from] prost::DecodeError),
}
