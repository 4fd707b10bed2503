//! Numbers for `#[serde(with = "promferry_model::serde_f64")]`, in formats that know neither infinity nor
//! not-a-number, as JSON does. Those are texts: `"+Inf"`, `"-Inf"` and `"NaN"`, or with its bits `"NaN(7ff0000000000002)"`
//! where they are not [`NORMAL_NAN_BITS`]; so the marker that ends a series stays one. All other numbers are
//! numbers. The format has to be self-describing.
//!
//! To get back the same bits, `serde_json` needs its feature `float_roundtrip`.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

use crate::NORMAL_NAN_BITS;

/// Writes the number, or a text if it is none.
///
/// # Errors
/// Those of `serializer`.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let value = *value;
    if value.is_finite() {
        serializer.serialize_f64(value)
    } else if value == f64::INFINITY {
        serializer.serialize_str("+Inf")
    } else if value == f64::NEG_INFINITY {
        serializer.serialize_str("-Inf")
    } else if value.to_bits() == NORMAL_NAN_BITS {
        serializer.serialize_str("NaN")
    } else {
        serializer.collect_str(&format_args!("NaN({:016x})", value.to_bits()))
    }
}

/// Reads what [`serialize()`] writes.
///
/// # Errors
/// For a text that is none of those.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    deserializer.deserialize_any(NumberOrText)
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a number, "+Inf", "-Inf", "NaN" or "NaN(16 hexadecimal digits)""#)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
        let bits = || text.strip_prefix("NaN(")?.strip_suffix(')').filter(|bits| bits.len() == 16);
        match text {
            "+Inf" => Ok(f64::INFINITY),
            "-Inf" => Ok(f64::NEG_INFINITY),
            "NaN" => Ok(f64::from_bits(NORMAL_NAN_BITS)),
            _ => bits()
                .and_then(|bits| u64::from_str_radix(bits, 16).ok())
                .map(f64::from_bits)
                .filter(|value| value.is_nan())
                .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// The same for `Option<f64>`; mark the field `#[serde(default)]` too.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// As [`serialize()`](super::serialize()).
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(super::Number).serialize(serializer)
    }

    /// As [`deserialize()`](super::deserialize()).
    ///
    /// # Errors
    /// For what is neither a number nor one of the texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let value: Option<super::Number> = Option::deserialize(deserializer)?;
        Ok(value.map(|super::Number(value)| value))
    }
}

/// The same for `Vec<f64>`.
pub mod list {
    use serde::{Deserialize, Deserializer, Serializer};

    /// As [`serialize()`](super::serialize()).
    ///
    /// # Errors
    /// Those of `serializer`.
    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&value| super::Number(value)))
    }

    /// As [`deserialize()`](super::deserialize()).
    ///
    /// # Errors
    /// For what is neither a number nor one of the texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values: Vec<super::Number> = Vec::deserialize(deserializer)?;
        Ok(values.into_iter().map(|super::Number(value)| value).collect())
    }
}

#[derive(serde::Deserialize, serde::Serialize)]
struct Number(#[serde(serialize_with = "serialize", deserialize_with = "deserialize")] f64);
