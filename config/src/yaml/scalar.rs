/// A scalar as it was written; what it is depends on the type that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Written without quotes, so that `8080` may be a number and `yes` a boolean.
    pub(crate) plain: bool,
}

/// What a scalar is where nothing says which type is meant: YAML 1.1 as Go's `yaml.v2` resolves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text,
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        self.resolve() == Resolved::Null
    }

    pub(crate) fn resolve(&self) -> Resolved {
        if !self.plain {
            return Resolved::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                Resolved::Bool(true)
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                Resolved::Bool(false)
            }
            ".nan" | ".NaN" | ".NAN" => Resolved::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Resolved::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Resolved::Float(f64::NEG_INFINITY),
            text => number(text).unwrap_or(Resolved::Text),
        }
    }

    /// What was found, in an error about another type.
    pub(crate) fn describe(&self) -> String {
        const MAX_SHOWN: usize = 60;
        let mut text: String = self.text.chars().take(MAX_SHOWN).collect();
        if text.len() < self.text.len() {
            text.push('…');
        }
        match self.resolve() {
            Resolved::Null => "nothing".to_owned(),
            Resolved::Text if !self.plain => format!("the quoted text {text:?}"),
            _ => format!("{text:?}"),
        }
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)` without underscores, then what looks like a YAML float.
fn number(text: &str) -> Option<Resolved> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    let text = text.replace('_', "");
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text.as_str()),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if !digits.starts_with(['+', '-'])
        && let Ok(magnitude) = u64::from_str_radix(digits, radix)
    {
        return Some(match (negative, i64::try_from(magnitude)) {
            (false, Ok(value)) => Resolved::Signed(value),
            (false, Err(_)) => Resolved::Unsigned(magnitude),
            (true, Ok(value)) => Resolved::Signed(-value),
            (true, Err(_)) if magnitude == 1 << 63 => Resolved::Signed(i64::MIN),
            (true, Err(_)) => return None,
        });
    }
    let float_like =
        text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if float_like {
        text.parse().ok().filter(|value: &f64| value.is_finite()).map(Resolved::Float)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_resolve_as_in_yaml_1_1() {
        use Resolved::{Bool, Float, Null, Signed, Text, Unsigned};
        for (text, expected) in [
            ("", Null),
            ("~", Null),
            ("yes", Bool(true)),
            ("Off", Bool(false)),
            ("nO", Text),
            ("8080", Signed(8080)),
            ("-3", Signed(-3)),
            ("0x1F", Signed(31)),
            ("010", Signed(8)),
            ("0b11", Signed(3)),
            ("1_000", Signed(1000)),
            ("18446744073709551615", Unsigned(u64::MAX)),
            ("-9223372036854775808", Signed(i64::MIN)),
            ("1.5", Float(1.5)),
            (".5", Float(0.5)),
            ("1e3", Float(1000.0)),
            ("08", Float(8.0)),
            ("1e999", Text),
            ("1.2.3", Text),
            ("15s", Text),
            ("+", Text),
            (".", Text),
            ("--1", Text),
            ("inf", Text),
            (".inf", Float(f64::INFINITY)),
        ] {
            assert_eq!(Scalar { text: text.into(), plain: true }.resolve(), expected, "{text:?}");
            assert_eq!(Scalar { text: text.into(), plain: false }.resolve(), Text);
        }
    }
}
