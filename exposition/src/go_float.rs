//! Numbers as Go's `strconv` reads and writes them, which is what Prometheus' formats mean by a number.

use std::fmt::{self, Write as _};
use std::ops::Deref;

use promferry_model::NORMAL_NAN_BITS;

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
const MAX_EXACT_MANTISSA: u64 = 1 << 53;
const MAX_EXACT_INTEGER: f64 = MAX_EXACT_MANTISSA as f64;
/// A double has at most as many significant digits.
const MAX_DIGITS: usize = 17;
/// `-1.2345678901234567e-308`, with some to spare.
const MAX_TEXT: usize = 32;
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

/// A number's text, held without a heap allocation; it is used as a `&str`.
#[derive(Clone, Copy)]
pub struct NumberText {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

impl NumberText {
    const EMPTY: Self = Self { bytes: [0; MAX_TEXT], length: 0 };

    /// Appends bytes that are ASCII; what does not fit does not come.
    fn push(&mut self, bytes: &[u8]) {
        let end = (self.length + bytes.len()).min(MAX_TEXT);
        self.bytes[self.length..end].copy_from_slice(&bytes[..end - self.length]);
        self.length = end;
    }

    fn push_zeros(&mut self, zeros: usize) {
        self.push(&[b'0'; MAX_TEXT][..zeros]);
    }
}

impl Deref for NumberText {
    type Target = str;

    fn deref(&self) -> &str {
        // It is ASCII.
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl fmt::Display for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for NumberText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// `value` as Go's `strconv.FormatFloat(value, 'g', -1, 64)` writes it: the shortest text that reads back
/// equal, with an exponent below 1e-4 and from 1e6 on.
///
/// ```
/// use promferry_exposition::go_float::shortest;
/// assert_eq!(&*shortest(2.50), "2.5");
/// assert_eq!(&*shortest(1e6), "1e+06");
/// ```
pub fn shortest(value: f64) -> NumberText {
    let mut text = NumberText::EMPTY;
    write_shortest(&mut text, value, b"");
    text
}

/// `value` as an OpenMetrics float, which is how Prometheus 3 writes `le` and `quantile`: always with a `.`
/// or an exponent, and zero without a sign (Prometheus `labels.FormatOpenMetricsFloat`).
///
/// ```
/// use promferry_exposition::go_float::openmetrics;
/// assert_eq!(&*openmetrics(10.0), "10.0");
/// assert_eq!(&*openmetrics(f64::INFINITY), "+Inf");
/// ```
pub fn openmetrics(value: f64) -> NumberText {
    let mut text = NumberText::EMPTY;
    // Zero equals both its signs.
    write_shortest(&mut text, if value == 0.0 { 0.0 } else { value }, b".0");
    text
}

/// As [`shortest`], as a string of its own.
pub fn format(value: f64) -> String {
    shortest(value).to_string()
}

/// As [`openmetrics`], as a string of its own.
///
/// ```
/// use promferry_exposition::go_float::format_openmetrics;
/// assert_eq!(format_openmetrics(10.0), "10.0");
/// assert_eq!(format_openmetrics(f64::INFINITY), "+Inf");
/// ```
pub fn format_openmetrics(value: f64) -> String {
    openmetrics(value).to_string()
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

/// Writes the shortest text; an integer without exponent gets the ending `after_integer`.
fn write_shortest(text: &mut NumberText, value: f64, after_integer: &[u8]) {
    if value.is_nan() {
        return text.push(b"NaN");
    }
    if value.is_infinite() {
        return text.push(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value.is_sign_negative() {
        text.push(b"-");
    }
    let Decimal { digits, count, exponent } = Decimal::of(value.abs());
    let digits = &digits[..count];
    if !(-4..PLAIN_UP_TO_EXPONENT).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        text.push(first);
        if !rest.is_empty() {
            text.push(b".");
            text.push(rest);
        }
        let power = exponent.unsigned_abs();
        text.push(if exponent < 0 { b"e-" } else { b"e+" });
        if power >= 100 {
            text.push(&[b'0' + (power / 100) as u8]);
        }
        text.push(&[b'0' + (power / 10 % 10) as u8, b'0' + (power % 10) as u8]);
    } else if exponent < 0 {
        text.push(b"0.");
        text.push_zeros(exponent.unsigned_abs() as usize - 1);
        text.push(digits);
    } else {
        let before_point = exponent as usize + 1;
        if count > before_point {
            text.push(&digits[..before_point]);
            text.push(b".");
            text.push(&digits[before_point..]);
        } else {
            text.push(digits);
            text.push_zeros(before_point - count);
            text.push(after_integer);
        }
    }
}

/// The shortest decimal of a finite number that is not negative: `d.ddd · 10^exponent`.
struct Decimal {
    digits: [u8; MAX_DIGITS],
    count: usize,
    exponent: i32,
}

impl Decimal {
    fn of(value: f64) -> Self {
        if value < MAX_EXACT_INTEGER && value.fract() == 0.0 {
            return Self::of_integer(value as u64);
        }
        // std knows the shortest digits; it writes them like 1.25e-7.
        let mut scientific = NumberText::EMPTY;
        // Every text of a double fits.
        let _ = write!(scientific, "{value:e}");
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let mut decimal =
            Self { digits: [b'0'; MAX_DIGITS], count: 0, exponent: exponent.parse().unwrap_or(0) };
        for (place, digit) in decimal.digits.iter_mut().zip(mantissa.bytes().filter(|byte| *byte != b'.')) {
            *place = digit;
            decimal.count += 1;
        }
        decimal
    }

    /// Neighbours of these differ by one at most, so no fewer digits say which it is.
    fn of_integer(mut value: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; MAX_DIGITS], count: 1, exponent: 0 };
        let mut start = MAX_DIGITS;
        while value > 0 {
            start -= 1;
            decimal.digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        if start < MAX_DIGITS {
            decimal.exponent = (MAX_DIGITS - start) as i32 - 1;
            decimal.digits.copy_within(start.., 0);
            let all = MAX_DIGITS - start;
            let zeros = decimal.digits[..all].iter().rev().take_while(|digit| **digit == b'0').count();
            decimal.count = all - zeros;
        }
        decimal
    }
}

impl fmt::Write for NumberText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
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
    } else if mantissa <= MAX_EXACT_MANTISSA {
        let power = power_of_ten(exponent.unsigned_abs())?;
        if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power }
    } else {
        return None;
    };
    Some((if negative { -magnitude } else { magnitude }, at))
}

/// A power of ten that a double holds exactly.
#[inline]
pub(crate) fn power_of_ten(exponent: u32) -> Option<f64> {
    POWERS_OF_TEN.get(exponent as usize).copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's rule on top of the digits of std, as straight as can be.
    fn expected(value: f64) -> String {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if (-4..PLAIN_UP_TO_EXPONENT).contains(&exponent) {
            return format!("{value}");
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
    }

    #[test]
    fn any_number_is_written_as_go_writes_it() {
        let two_to_53 = MAX_EXACT_INTEGER;
        let edges =
            [0.0, 0.1, 0.0001, 0.00012345, 0.00001, 9.5, 10.0, 999_999.0, 999_999.5, 1e6, 1_234_567.0]
                .into_iter()
                .chain([
                    two_to_53 - 1.0,
                    two_to_53,
                    two_to_53 + 2.0,
                    1e15,
                    1e16,
                    1e21,
                    1e22,
                    1e23,
                    5e-324,
                    f64::MAX,
                ])
                .chain([f64::MIN_POSITIVE, 1.0 / 3.0, 100.0, 120_000.0, 123_456.7, 1e-4, 9.999e-5]);
        let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
        let random = (0..20_000).map(|at| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match at % 4 {
                0 => f64::from_bits(bits),
                1 => (bits >> 20) as f64,
                2 => (bits >> 40) as f64 / 1000.0,
                _ => (bits >> 50) as f64,
            }
        });
        for value in edges.chain(random).filter(|value| value.is_finite()).flat_map(|v| [v, -v]) {
            assert_eq!(&*shortest(value), expected(value), "{value:e}");
            let plain = expected(if value == 0.0 { 0.0 } else { value });
            let ending = if plain.contains(['.', 'e']) { "" } else { ".0" };
            assert_eq!(&*openmetrics(value), plain + ending, "{value:e}");
        }
        for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf")] {
            assert_eq!((&*shortest(value), &*openmetrics(value)), (text, text));
        }
    }
}
