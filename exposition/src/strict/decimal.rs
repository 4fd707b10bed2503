use std::cmp::Ordering;

/// A decimal number as it is written, compared exactly: timestamps of OpenMetrics may differ by less than a double
/// can tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    /// The number is `0.ddd… · 10^exponent`, with the digits of `whole` and then of `fraction` and no zero first.
    exponent: i64,
    whole: &'a str,
    fraction: &'a str,
}

/// Beyond what any number within the range of a double reaches, zero aside.
const LARGEST_EXPONENT: i64 = 1 << 40;

impl<'a> Decimal<'a> {
    /// `None` if `text` is no `[+-] (digits [. [digits]] | . digits) [e [+-] digits]`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if !whole.is_empty() {
            let exponent = exponent.saturating_add(length(whole));
            return Some(Self { negative, exponent, whole, fraction });
        }
        let significant = fraction.trim_start_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, exponent: 0, whole: "", fraction: "" });
        }
        let exponent = exponent.saturating_sub(length(fraction) - length(significant));
        Some(Self { negative, exponent, whole: "", fraction: significant })
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    fn compare_magnitudes(&self, other: &Self) -> Ordering {
        // Zero has no first digit whose place could be compared.
        match (self.is_zero(), other.is_zero()) {
            (false, false) => {}
            (this, that) => return that.cmp(&this),
        }
        self.exponent.cmp(&other.exponent).then_with(|| {
            let (mut these, mut those) = (self.digits(), other.digits());
            loop {
                match (these.next(), those.next()) {
                    (None, None) => return Ordering::Equal,
                    // Only the length differs, by zeros between the digits and the point at most.
                    (Some(b'0'), None) if these.all(|digit| digit == b'0') => return Ordering::Equal,
                    (None, Some(b'0')) if those.all(|digit| digit == b'0') => return Ordering::Equal,
                    (this, that) if this == that => {}
                    (this, that) => return this.cmp(&that),
                }
            }
        })
    }
}

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal<'_> {}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.compare_magnitudes(other),
            (true, true) => other.compare_magnitudes(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !all_digits(digits) {
        return None;
    }
    let size =
        digits.bytes().fold(0_i64, |size, digit| (size * 10 + i64::from(digit - b'0')).min(LARGEST_EXPONENT));
    Some(if text.starts_with('-') { -size } else { size })
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn length(digits: &str) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_what_doubles_cannot_tell() {
        let rising = [
            "-1e300",
            "-12.5",
            "-12.4999999999999999999999999",
            "-1e-9",
            "0",
            "1e-400",
            "0.0000000001",
            "0.000000001",
            "0.1",
            "1",
            "1.00000000000000000000000000001",
            "9.99",
            "10",
            "123456789012345678901234567890.1",
            "123456789012345678901234567890.2",
            "1e30",
        ];
        for (at, low) in rising.iter().enumerate() {
            for (other, high) in rising.iter().enumerate() {
                let (low, high) = (Decimal::parse(low).unwrap(), Decimal::parse(high).unwrap());
                assert_eq!(low.cmp(&high), at.cmp(&other), "{low:?} {high:?}");
            }
        }
    }

    #[test]
    fn spellings_of_one_number_are_equal() {
        for (a, b) in [
            ("0", "-0.000"),
            ("0e99999999999999999999", ".0"),
            ("1", "001.000"),
            ("100", "1e2"),
            ("+1.5e3", "1500"),
            ("0.00015", "15E-5"),
            ("1200.", "0.12e+4"),
            ("10.0", "1e1"),
            ("1000", "1000.0"),
        ] {
            assert_eq!(Decimal::parse(a).unwrap(), Decimal::parse(b).unwrap(), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_decimal() {
        for text in [
            "", ".", "+", "-.", "e5", "1e", "1e+", "1e5.0", "1_0", "0x1", "nan", "inf", "1 ", "--1", "1.2.3",
            "٣",
        ] {
            assert!(Decimal::parse(text).is_none(), "{text}");
        }
    }
}
