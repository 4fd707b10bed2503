//! Numbers as Go's `strconv` reads and writes them, which is what Prometheus' formats mean by a number.

use promferry_model::NORMAL_NAN_BITS;

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
const MAX_EXACT_MANTISSA: u64 = 1 << 53;
/// From this decimal exponent on Go's `%g` of shortest precision writes one.
const PLAIN_UP_TO_EXPONENT: i32 = 6;

/// Why a text is not a number to Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// It is not written like one.
    #[error("not a number")]
    Syntax,
    /// It is beyond the largest double.
    #[error("number out of the range of a 64-bit float")]
    Range,
}

/// The value of a sample as Prometheus' text and OpenMetrics parsers read it: Go's `ParseFloat` without
/// hexadecimal floats and underscores. Every not-a-number gives the same bits
/// ([`promferry_model::NORMAL_NAN_BITS`]), so that a page cannot write a stale marker.
///
/// # Errors
/// [`NumberError::Syntax`] also for a signed `NaN`; [`NumberError::Range`] where Rust would give infinity.
///
/// ```
/// use promferry_exposition::go_float::{NumberError, parse_value};
/// assert_eq!(parse_value(b"1.5e3"), Ok(1500.0));
/// assert_eq!(parse_value(b"-Infinity"), Ok(f64::NEG_INFINITY));
/// assert_eq!(parse_value(b"+NaN").unwrap_err(), NumberError::Syntax);
/// assert_eq!(parse_value(b"1e400").unwrap_err(), NumberError::Range);
/// ```
pub fn parse_value(text: &[u8]) -> Result<f64, NumberError> {
    if let Some((value, length)) = simple_decimal(text)
        && length == text.len()
    {
        return Ok(value);
    }
    if text.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err(NumberError::Syntax);
    }
    decimal(text)
}

/// Go's `strconv.ParseFloat(text, 64)` in full: underscores between digits and hexadecimal floats too.
///
/// # Errors
/// As [`parse_value`].
pub fn parse(text: &[u8]) -> Result<f64, NumberError> {
    let unsigned = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if let [b'0', b'x' | b'X', hexadecimal @ ..] = unsigned {
        let magnitude = hexadecimal_float(hexadecimal)?;
        return Ok(if text[0] == b'-' { -magnitude } else { magnitude });
    }
    if !text.contains(&b'_') {
        return decimal(text);
    }
    if !underscores_separate_digits(unsigned, |b| b.is_ascii_digit()) {
        return Err(NumberError::Syntax);
    }
    let plain: Vec<u8> = text.iter().copied().filter(|&b| b != b'_').collect();
    decimal(&plain)
}

/// `value` as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it: the shortest text that reads back
/// equal, with an exponent below 1e-4 and from 1e6 on.
pub fn format(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..PLAIN_UP_TO_EXPONENT).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// `value` as an OpenMetrics float, which is how Prometheus 3 writes `le` and `quantile`: always with a `.`
/// or an exponent (Prometheus `labels.FormatOpenMetricsFloat`).
///
/// ```
/// use promferry_exposition::go_float::format_openmetrics;
/// assert_eq!(format_openmetrics(10.0), "10.0");
/// assert_eq!(format_openmetrics(f64::INFINITY), "+Inf");
/// ```
pub fn format_openmetrics(value: f64) -> String {
    if value == 0.0 {
        return "0.0".to_owned();
    }
    let mut text = format(value);
    if value.is_finite() && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// `value` as Go's `strconv.FormatFloat(value, 'f', -1, 64)` writes it: the shortest text that reads back equal,
/// never with an exponent.
///
/// ```
/// use promferry_exposition::go_float::format_decimal;
/// assert_eq!(format_decimal(1e6), "1000000");
/// assert_eq!(format_decimal(1e-5), "0.00001");
/// ```
pub fn format_decimal(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { format(value) }
}

/// Go's conversion to `int64` as amd64 does it: what does not fit gives the smallest number.
pub(crate) fn to_int64(value: f64) -> i64 {
    if value >= -(2_f64.powi(63)) && value < 2_f64.powi(63) { value as i64 } else { i64::MIN }
}

/// The value and length of the longest prefix that is a plain decimal whose double is certain without
/// rounding twice (W. Clinger's fast path); `None` leaves the text to the careful way.
#[inline]
pub(crate) fn simple_decimal(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut at = start;
    let mut mantissa: u64 = 0;
    while let Some(digit) = digit_at(text, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut digits = at - start;
    let mut exponent: i32 = 0;
    if text.get(at) == Some(&b'.') {
        let point = at;
        at += 1;
        while let Some(digit) = digit_at(text, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        let fraction = at - point - 1;
        digits += fraction;
        exponent = -i32::try_from(fraction).ok()?;
    }
    // Nineteen digits always fit 64 bits.
    if digits == 0 || digits > 19 {
        return None;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        let down = match text.get(at) {
            Some(b'-') => true,
            Some(b'+') => false,
            _ => {
                at -= 1;
                false
            }
        };
        at += 1;
        let exponent_start = at;
        let mut written: i32 = 0;
        while let Some(digit) = digit_at(text, at) {
            written = written * 10 + digit as i32;
            at += 1;
            if at - exponent_start > 3 {
                return None;
            }
        }
        if at == exponent_start {
            return None;
        }
        exponent += if down { -written } else { written };
    }
    let magnitude = if exponent == 0 {
        mantissa as f64
    } else if mantissa <= MAX_EXACT_MANTISSA && exponent.unsigned_abs() <= 22 {
        let power = POWERS_OF_TEN[exponent.unsigned_abs() as usize];
        if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power }
    } else {
        return None;
    };
    Some((if negative { -magnitude } else { magnitude }, at))
}

#[inline]
fn digit_at(text: &[u8], at: usize) -> Option<u64> {
    let digit = text.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

fn decimal(text: &[u8]) -> Result<f64, NumberError> {
    let text = str::from_utf8(text).map_err(|_| NumberError::Syntax)?;
    let value: f64 = text.parse().map_err(|_| NumberError::Syntax)?;
    if value.is_nan() {
        return if text.starts_with(['+', '-']) {
            Err(NumberError::Syntax)
        } else {
            Ok(f64::from_bits(NORMAL_NAN_BITS))
        };
    }
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err(NumberError::Range);
    }
    Ok(value)
}

/// The part after `0x`: a mantissa and the obligatory binary exponent.
fn hexadecimal_float(text: &[u8]) -> Result<f64, NumberError> {
    let split = text.iter().position(|b| matches!(b, b'p' | b'P')).ok_or(NumberError::Syntax)?;
    let (mantissa_text, exponent_text) = (&text[..split], &text[split + 1..]);
    // An underscore may follow the prefix, which counts as a digit for this purpose.
    let mut with_prefix = vec![b'0'];
    with_prefix.extend_from_slice(text);
    let has_underscores = text.contains(&b'_');
    if has_underscores && !underscores_separate_digits(&with_prefix, |b| b.is_ascii_hexdigit()) {
        return Err(NumberError::Syntax);
    }
    let mut mantissa: u64 = 0;
    let mut exponent: i64 = 0;
    let (mut sticky, mut any, mut after_point) = (false, false, false);
    for &b in mantissa_text {
        match b {
            b'_' => continue,
            b'.' if !after_point => after_point = true,
            _ => {
                let digit = char::from(b).to_digit(16).ok_or(NumberError::Syntax)?;
                any = true;
                if mantissa >> 60 == 0 {
                    mantissa = mantissa << 4 | u64::from(digit);
                    exponent -= if after_point { 4 } else { 0 };
                } else {
                    sticky |= digit != 0;
                    exponent += if after_point { 0 } else { 4 };
                }
            }
        }
    }
    let (down, digits) = match exponent_text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !any || !digits.first().is_some_and(u8::is_ascii_digit) {
        return Err(NumberError::Syntax);
    }
    let mut written: i64 = 0;
    for &b in digits.iter().filter(|&&b| b != b'_') {
        let digit = char::from(b).to_digit(10).ok_or(NumberError::Syntax)?;
        // Far beyond every double; growing on would overflow.
        written = (written * 10 + i64::from(digit)).min(1 << 40);
    }
    exponent += if down { -written } else { written };
    scale(mantissa, sticky, exponent)
}

/// `mantissa · 2^exponent` rounded once, to even; `sticky` says that digits below the mantissa were not zero.
fn scale(mantissa: u64, sticky: bool, exponent: i64) -> Result<f64, NumberError> {
    if mantissa == 0 {
        return Ok(0.0);
    }
    // The value is 1.xxx · 2^top; bits below 2^lowest are rounded away.
    let top = exponent + 63 - i64::from(mantissa.leading_zeros());
    let lowest = (top - 52).max(-1074);
    let shift = lowest - exponent;
    let rounded = if shift <= 0 {
        // At most 53 significant bits: exact after shifting left.
        mantissa << (-shift).min(63)
    } else if shift > 64 {
        0
    } else {
        let wide = u128::from(mantissa);
        let kept = (wide >> shift) as u64;
        let rest = wide & ((1 << shift) - 1);
        let half = 1_u128 << (shift - 1);
        kept + u64::from(rest > half || (rest == half && (sticky || kept & 1 == 1)))
    };
    // Exact unless it overflows: `rounded` has at most 54 bits and `lowest` is at least the smallest double's
    // exponent. Two steps keep each power within the range of a double.
    let power = i32::try_from(lowest.min(2048)).unwrap_or(2048);
    let value = rounded as f64 * 2_f64.powi(power / 2) * 2_f64.powi(power - power / 2);
    if value.is_infinite() { Err(NumberError::Range) } else { Ok(value) }
}

/// Go's rule (`strconv.underscoreOK`): an underscore stands between two digits.
fn underscores_separate_digits(text: &[u8], is_digit: impl Fn(u8) -> bool) -> bool {
    text.iter().enumerate().all(|(at, &b)| {
        b != b'_' || (at > 0 && is_digit(text[at - 1]) && text.get(at + 1).copied().is_some_and(&is_digit))
    })
}
