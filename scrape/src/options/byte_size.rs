use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// A number of bytes written as Prometheus writes it: `10MB`, `512KiB`, `1.5GiB`, `1GiB512MiB`, `0`.
///
/// Units are powers of 1024 whether written with an `i` or without (Go's `units.Base2Bytes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is not a number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ByteSizeError {
    /// The text does not follow the grammar.
    #[error("not a valid size: {0:?} (write it like 512KB, 10MB or 1GiB)")]
    Invalid(String),
    /// There is no such unit.
    #[error("unknown unit {unit:?} in {text:?} (use B, KB, MB, GB, TB, PB, EB or KiB, MiB, …)")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
}

impl ByteSize {
    /// A size of this many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes; zero is no limit.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let invalid = || ByteSizeError::Invalid(text.to_owned());
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self(0));
        }
        let mut total = 0.0f64;
        // One text uses one family of units, as Go tries one and then the other.
        let mut binary = None;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(|b| !b.is_ascii_digit() && *b != b'.').count();
            let unit = &rest[..letters];
            rest = &rest[letters..];
            let (power, with_i) = unit_of(unit)
                .ok_or_else(|| ByteSizeError::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() })?;
            if let Some(with_i) = with_i
                && *binary.get_or_insert(with_i) != with_i
            {
                return Err(invalid());
            }
            total += number * 1024f64.powi(power);
        }
        if text.is_empty() || !total.is_finite() || total > i64::MAX as f64 {
            return Err(invalid());
        }
        Ok(Self(total as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        for (power, name) in UNITS.iter().enumerate().rev() {
            let part = (self.0 >> (10 * power)) & if power == UNITS.len() - 1 { u64::MAX } else { 1023 };
            if part > 0 {
                let suffix = if power == 0 { "B" } else { "iB" };
                write!(f, "{part}{name}{suffix}")?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 10MB")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ByteSize, E> {
                number.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<ByteSize, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        // A plain YAML scalar reaches a self-describing reader as a number or as a text.
        deserializer.deserialize_any(Size)
    }
}

const UNITS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];

/// The power of 1024 and, for all but plain bytes, whether the unit is spelled with an `i`.
fn unit_of(unit: &str) -> Option<(i32, Option<bool>)> {
    let prefix = unit.strip_suffix('B')?;
    if prefix.is_empty() {
        return Some((0, None));
    }
    let (prefix, with_i) = match prefix.strip_suffix('i') {
        Some(prefix) => (prefix, true),
        None => (prefix, false),
    };
    let power = UNITS.iter().skip(1).position(|name| *name == prefix)?;
    Some((power as i32 + 1, Some(with_i)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_prometheus_reads() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("100B", 100),
            ("1KB", 1024),
            ("1KiB", 1024),
            ("1.5MiB", 1_572_864),
            ("10MB", 10_485_760),
            ("1GiB512MiB", 1_610_612_736),
            ("+2KB", 2048),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
        for text in ["", "10", "1kB", "1kib", "MB", "-1MB", "1 MB", "1KiB1MB", "20EB", "1..2MB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for bytes in [0, 1, 1023, 1024, 1025, 10 << 20, (3 << 30) + (5 << 10) + 7, 1 << 62] {
            let size = ByteSize::from_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size), "{size}");
        }
    }
}
