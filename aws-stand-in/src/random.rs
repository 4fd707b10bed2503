//! Identifiers and keys of the forms that AWS gives.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    bytes
}

pub(crate) fn hex<const N: usize>() -> String {
    bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Four letters that say what it is of, and more letters and digits: `AKIA…`, `ASIA…`, `AROA…`.
pub(crate) fn identifier(prefix: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let rest = bytes::<16>().map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    format!("{prefix}{}", rest.iter().collect::<String>())
}

/// Forty characters, slashes and pluses among them.
pub(crate) fn secret_key() -> String {
    STANDARD.encode(bytes::<30>())
}

/// As long as AWS' own session tokens at least are.
pub(crate) fn session_token() -> String {
    format!("IQoJb3JpZ2luX2Vj{}", STANDARD.encode(bytes::<255>()))
}

pub(crate) fn uuid() -> String {
    let hex = hex::<16>();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
