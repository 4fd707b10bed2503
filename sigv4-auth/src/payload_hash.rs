//! The hash of a body, made once.

use sha2::{Digest, Sha256};

/// The SHA-256 of a request's body.
///
/// Put it into the request's extensions when the body is made, and every attempt to send it is signed
/// without reading the body again.
///
/// ```
/// use promferry_sigv4_auth::PayloadHash;
///
/// let body = b"snappy".as_slice();
/// let mut request = http::Request::post("https://example.com/").body(body)?;
/// request.extensions_mut().insert(PayloadHash::of(body));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadHash([u8; 32]);

impl PayloadHash {
    /// Hashes a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Takes a SHA-256 that was made elsewhere, say while the body was written.
    pub fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Lower-case hexadecimal, as a canonical request has it.
    pub fn to_hex(self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }
}
