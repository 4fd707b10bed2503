use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::FromStr;

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

impl EscapingScheme {
    /// Every scheme.
    pub const ALL: [Self; 4] = [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values];

    /// The value of the `escaping` parameter.
    ///
    /// ```
    /// use promferry_model::EscapingScheme;
    /// assert_eq!(EscapingScheme::AllowUtf8.as_str(), "allow-utf-8");
    /// assert_eq!("dots".parse(), Ok(EscapingScheme::Dots));
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

impl fmt::Display for EscapingScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no [`EscapingScheme`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown escaping scheme {0:?}, expected one of allow-utf-8, underscores, dots, values")]
pub struct UnknownEscapingScheme(pub String);

impl FromStr for EscapingScheme {
    type Err = UnknownEscapingScheme;

    fn from_str(text: &str) -> Result<Self, UnknownEscapingScheme> {
        Self::ALL
            .into_iter()
            .find(|scheme| scheme.as_str() == text)
            .ok_or_else(|| UnknownEscapingScheme(text.to_owned()))
    }
}

/// The metric name `name` written under `scheme`. Valid legacy names stay as they are, except that `Dots`
/// still doubles their underscores.
///
/// ```
/// use promferry_model::{EscapingScheme, escape_name};
/// assert_eq!(escape_name("http.requests", EscapingScheme::Values), "U__http_2e_requests");
/// ```
pub fn escape_name(name: &str, scheme: EscapingScheme) -> Cow<'_, str> {
    escape(name, scheme, true)
}

/// The label name `name` written under `scheme`: as [`escape_name`], but a colon, which legacy label names do
/// not have, is escaped too. (prometheus/common leaves it in and so writes a label that no reader of the text
/// format takes.)
///
/// ```
/// use promferry_model::{EscapingScheme, escape_label_name, unescape_name};
/// assert_eq!(escape_label_name("a:b", EscapingScheme::Underscores), "a_b");
/// assert_eq!(escape_label_name("a:b", EscapingScheme::Values), "U__a_3a_b");
/// ```
pub fn escape_label_name(name: &str, scheme: EscapingScheme) -> Cow<'_, str> {
    escape(name, scheme, false)
}

fn escape(name: &str, scheme: EscapingScheme, colons: bool) -> Cow<'_, str> {
    let stays = match scheme {
        EscapingScheme::AllowUtf8 => true,
        EscapingScheme::Dots => name.is_empty(),
        EscapingScheme::Underscores | EscapingScheme::Values => name.is_empty() || is_legacy(name, colons),
    };
    if stays {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len() + 8);
    if scheme == EscapingScheme::Values {
        escaped.push_str("U__");
    }
    for (at, c) in name.char_indices() {
        match scheme {
            EscapingScheme::Dots | EscapingScheme::Values if c == '_' => escaped.push_str("__"),
            EscapingScheme::Dots if c == '.' => escaped.push_str("_dot_"),
            _ if is_legacy_char(c, at == 0, colons) => escaped.push(c),
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
/// (`Underscores` loses it, `Dots` all but letters, digits, dots and single underscores). What is not a
/// well-formed escape is returned as it is, as Prometheus does. (prometheus/common reads no code points beyond
/// U+FFFFF back, which it writes itself; here every name that does not begin with `U__` comes back from
/// `Values`.)
///
/// ```
/// use promferry_model::{EscapingScheme, unescape_name};
/// assert_eq!(unescape_name("U__http_2e_requests", EscapingScheme::Values), "http.requests");
/// assert_eq!(unescape_name("http_dot_requests", EscapingScheme::Dots), "http.requests");
/// ```
pub fn unescape_name(name: &str, scheme: EscapingScheme) -> Cow<'_, str> {
    match scheme {
        EscapingScheme::AllowUtf8 | EscapingScheme::Underscores => Cow::Borrowed(name),
        EscapingScheme::Dots if !name.contains('_') => Cow::Borrowed(name),
        EscapingScheme::Dots => Cow::Owned(name.replace("_dot_", ".").replace("__", "_")),
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
        // Prometheus gives up before the sixth digit of a code point (prometheus/common model.UnescapeName).
        if end > 5 || !rest[..end].bytes().all(|b| b.is_ascii_hexdigit()) {
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
    fn label_names_have_no_colon() {
        for (scheme, escaped) in [
            (EscapingScheme::AllowUtf8, "a:b.c"),
            (EscapingScheme::Underscores, "a_b_c"),
            (EscapingScheme::Dots, "a__b_dot_c"),
            (EscapingScheme::Values, "U__a_3a_b_2e_c"),
        ] {
            assert_eq!(escape_label_name("a:b.c", scheme), escaped);
        }
    }

    #[test]
    fn names_come_back_from_values() {
        let c = |code| char::from_u32(code).unwrap_or('x').to_string();
        let names = ["_", "__", "_a_", "a-b", "7", "7_", " ", "\"", "dots.and_underscores", "\0", "U_"];
        let names = names.map(str::to_owned).into_iter().chain([c(0x80), c(0xfffff)]);
        for name in names {
            for escaped in
                [escape_name(&name, EscapingScheme::Values), escape_label_name(&name, EscapingScheme::Values)]
            {
                assert!(is_valid_label_name(&escaped), "{name:?} {escaped}");
                assert_eq!(unescape_name(&escaped, EscapingScheme::Values), name);
            }
        }
        // Six digits are written and not read, as by Prometheus.
        let last = c(0x10_ffff);
        let escaped = escape_name(&last, EscapingScheme::Values);
        assert_eq!(unescape_name(&escaped, EscapingScheme::Values), escaped);
    }

    #[test]
    fn schemes_by_name() {
        for scheme in EscapingScheme::ALL {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
        }
        assert!("Values".parse::<EscapingScheme>().is_err());
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
