use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time written as Prometheus writes it: `1h30m`, `15s`, `500ms`, `0`.
///
/// The grammar is that of `model.ParseDuration` in prometheus/common: units `y w d h m s ms`, each at most
/// once and in that order, whole numbers only. A year is 365 days. The range is that of Go's
/// `time.Duration` (about 292 years); longer ones are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromDuration(u64);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// There is no text.
    #[error("empty duration string")]
    Empty,
    /// The text does not follow the grammar.
    #[error("not a valid duration string: {0:?} (write it like 30s, 5m or 1h30m)")]
    Invalid(String),
    /// The length does not fit.
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

const UNITS: [(&str, u64); 7] = [
    ("y", 31_536_000_000),
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Go's `time.Duration` counts nanoseconds in an `i64`.
const MAX_MILLIS: u64 = (i64::MAX / 1_000_000) as u64;

impl PromDuration {
    /// A duration of this many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// A duration of this many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// The length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The length as the standard library's type.
    pub const fn as_std(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whether the length is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl FromStr for PromDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        match text {
            "" => return Err(DurationError::Empty),
            "0" => return Ok(Self(0)),
            _ => {}
        }
        let invalid = || DurationError::Invalid(text.to_owned());
        let out_of_range = || DurationError::OutOfRange(text.to_owned());
        let mut total = 0u64;
        let mut rest = text;
        let mut next_unit = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
            let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
            let position = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
            if number.is_empty() || position < next_unit {
                return Err(invalid());
            }
            next_unit = position + 1;
            let number: u64 = number.parse().map_err(|_| out_of_range())?;
            total = number
                .checked_mul(UNITS[position].1)
                .and_then(|part| total.checked_add(part))
                .filter(|sum| *sum <= MAX_MILLIS)
                .ok_or_else(out_of_range)?;
            rest = &rest[digits + letters..];
        }
        Ok(Self(total))
    }
}

impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, millis) in UNITS {
            // Years and weeks are only used for exact multiples, so that 10d stays 10d.
            if matches!(unit, "y" | "w") && !rest.is_multiple_of(millis) {
                continue;
            }
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl From<PromDuration> for Duration {
    fn from(duration: PromDuration) -> Self {
        duration.as_std()
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for PromDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for PromDuration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_prometheus_reads() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("324ms", 324),
            ("3s", 3000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("4d", 345_600_000),
            ("4d1h", 349_200_000),
            ("14d", 1_209_600_000),
            ("3w", 1_814_400_000),
            ("3w2d1h", 1_814_400_000 + 172_800_000 + 3_600_000),
            ("10y", 315_360_000_000),
            ("1m500ms", 60_500),
        ] {
            assert_eq!(text.parse::<PromDuration>().map(PromDuration::as_millis), Ok(millis), "{text}");
        }
    }

    #[test]
    fn refuses_what_prometheus_refuses() {
        for text in [
            "",
            "1",
            "1y1m1d",
            "-1w",
            "1.5d",
            "d",
            "294y",
            "200y10400w",
            "107675d",
            "2584200h",
            "1s1s",
            "1 s",
        ] {
            assert!(text.parse::<PromDuration>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(millis in 0..MAX_MILLIS) {
            let duration = PromDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse::<PromDuration>(), Ok(duration));
        }
    }
}
