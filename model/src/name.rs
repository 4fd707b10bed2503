use std::borrow::Cow;
use std::fmt::Write as _;

/// Which metric and label names are valid: Prometheus' `metric_name_validation_scheme`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum NameValidation {
    /// Any UTF-8 that is not empty (Prometheus 3's default).
    #[default]
    Utf8,
    /// `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics, `[a-zA-Z_][a-zA-Z0-9_]*` for labels.
    Legacy,
}

impl NameValidation {
    /// Whether `name` may name a metric. The type `str` already says that it is UTF-8.
    pub fn is_valid_metric_name(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy(name, true),
        }
    }

    /// Whether `name` may name a label.
    pub fn is_valid_label_name(self, name: &str) -> bool {
        match self {
            Self::Utf8 => !name.is_empty(),
            Self::Legacy => is_legacy(name, false),
        }
    }
}

/// How names that a reader cannot take are written: the `escaping` parameter of content negotiation
/// (prometheus/common `model.EscapeName`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum EscapingScheme {
    /// Names go as they are.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "allow-utf-8"))]
    AllowUtf8,
    /// Every character that is not legacy-valid becomes `_`.
    Underscores,
    /// `_` becomes `__`, `.` becomes `_dot_`, every other such character `__`.
    Dots,
    /// `U__` in front, `_` doubled, every other such character as `_<hex code point>_`.
    Values,
}

/// `name` written under `scheme`. Valid legacy names stay as they are, except that `Dots` still doubles
/// their underscores.
pub fn escape_name(name: &str, scheme: EscapingScheme) -> Cow<'_, str> {
    let legacy = is_legacy(name, true);
    if name.is_empty() || scheme == EscapingScheme::AllowUtf8 || (legacy && scheme != EscapingScheme::Dots) {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len() + 8);
    if scheme == EscapingScheme::Values {
        escaped.push_str("U__");
    }
    for (at, c) in name.char_indices() {
        match scheme {
            EscapingScheme::Dots if c == '_' => escaped.push_str("__"),
            EscapingScheme::Dots if c == '.' => escaped.push_str("_dot_"),
            EscapingScheme::Values if c == '_' => escaped.push_str("__"),
            _ if is_legacy_char(c, at == 0, true) => escaped.push(c),
            EscapingScheme::Dots => escaped.push_str("__"),
            EscapingScheme::Values => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "_{:x}_", u32::from(c));
            }
            _ => escaped.push('_'),
        }
    }
    Cow::Owned(escaped)
}

/// The name that [`escape_name`] wrote as `name` under `scheme`, as far as the scheme lets it be known
/// (`Underscores` loses it). What is not a well-formed escape is returned as it is, as Prometheus does.
pub fn unescape_name(name: &str, scheme: EscapingScheme) -> Cow<'_, str> {
    match scheme {
        EscapingScheme::AllowUtf8 | EscapingScheme::Underscores => Cow::Borrowed(name),
        EscapingScheme::Dots => {
            let unescaped = name.replace("_dot_", ".").replace("__", "_");
            Cow::Owned(unescaped)
        }
        EscapingScheme::Values => unescape_values(name).map_or(Cow::Borrowed(name), Cow::Owned),
    }
}

/// Whether `name` is a metric name under Prometheus' legacy rules.
pub fn is_valid_metric_name(name: &str) -> bool {
    is_legacy(name, true)
}

/// Whether `name` is a label name under Prometheus' legacy rules.
pub fn is_valid_label_name(name: &str) -> bool {
    is_legacy(name, false)
}

fn unescape_values(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut unescaped = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        unescaped.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            unescaped.push('_');
            rest = after;
            continue;
        }
        let end = rest.find('_')?;
        // A code point has at most six hexadecimal digits.
        if end > 6 || !rest[..end].bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        unescaped.push(char::from_u32(u32::from_str_radix(&rest[..end], 16).ok()?)?);
        rest = &rest[end + 1..];
    }
    unescaped.push_str(rest);
    Some(unescaped)
}

fn is_legacy(name: &str, colons: bool) -> bool {
    !name.is_empty() && name.char_indices().all(|(at, c)| is_legacy_char(c, at == 0, colons))
}

fn is_legacy_char(c: char, first: bool, colons: bool) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (c == ':' && colons) || (c.is_ascii_digit() && !first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_names() {
        for (name, metric, label) in [
            ("a", true, true),
            ("a:b", true, false),
            ("_1", true, true),
            ("1a", false, false),
            ("a.b", false, false),
            ("é", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_valid_metric_name(name), is_valid_label_name(name)), (metric, label), "{name:?}");
        }
    }

    #[test]
    fn escapes_as_prometheus_common_does() {
        use EscapingScheme::{Dots, Underscores, Values};
        // Cases of prometheus/common model/metric_test.go TestEscapeName, in our own words.
        for (name, underscores, dots, values) in [
            ("", "", "", ""),
            ("no:escaping_required", "no:escaping_required", "no:escaping__required", "no:escaping_required"),
            (
                "mysystem.prod.west.cpu.load",
                "mysystem_prod_west_cpu_load",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
            ),
            (
                "mysystem.prod.west.cpu.load_total",
                "mysystem_prod_west_cpu_load_total",
                "mysystem_dot_prod_dot_west_dot_cpu_dot_load__total",
                "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load__total",
            ),
            ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
            ("label with 😱", "label_with__", "label__with____", "U__label_20_with_20__1f631_"),
            ("花火", "__", "____", "U___82b1__706b_"),
        ] {
            assert_eq!(escape_name(name, Underscores), underscores, "{name}");
            assert_eq!(escape_name(name, Dots), dots, "{name}");
            assert_eq!(escape_name(name, Values), values, "{name}");
            assert_eq!(unescape_name(values, Values), name);
        }
        assert_eq!(unescape_name("mysystem_dot_prod__x", Dots), "mysystem.prod_x");
        for malformed in ["U__a_zz_", "U__a_2e", "U__a_fffffff_", "a_2e_"] {
            assert_eq!(unescape_name(malformed, Values), malformed);
        }
    }
}
