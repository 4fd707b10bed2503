//! The number at the end of a line, read eight digits at a time.

use crate::go_float::power_of_ten;

/// "00000000".
const ZEROS: u64 = 0x3030_3030_3030_3030;
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
/// How many bytes are looked at, one of them the blank in front of the word.
const WORD_BYTES: usize = 16;

/// The word of at most fifteen bytes, without blanks in it, that ends a text.
#[derive(Clone, Copy)]
pub(crate) struct LastWord {
    /// The last eight bytes of the text, the first of them lowest.
    high: u64,
    /// The eight bytes before those.
    low: u64,
    length: usize,
}

impl LastWord {
    /// The word behind the last blank of `page[..end]`; `None` says nothing, as when it is longer.
    #[inline(always)]
    pub(crate) fn before(page: &[u8], end: usize) -> Option<Self> {
        let bytes: &[u8; WORD_BYTES] = page.get(end.checked_sub(WORD_BYTES)?..end)?.try_into().ok()?;
        let all = u128::from_le_bytes(*bytes);
        let (low, high) = (all as u64, (all >> 64) as u64);
        let blanks = bytes_equal(high, b' ');
        if blanks != 0 {
            return Some(Self { high, low, length: blanks.leading_zeros() as usize / 8 });
        }
        let blanks = bytes_equal(low, b' ');
        (blanks != 0).then(|| Self { high, low, length: 8 + blanks.leading_zeros() as usize / 8 })
    }

    #[inline(always)]
    pub(crate) const fn len(self) -> usize {
        self.length
    }

    /// The number if it consists of digits only.
    #[inline(always)]
    pub(crate) fn digits(self) -> Option<u64> {
        if self.length < 8 {
            if self.length == 0 {
                return None;
            }
            return eight_digits(with_zeros(self.high, self.length));
        }
        let low = with_zeros(self.low, self.length - 8);
        Some(eight_digits(low)? * 100_000_000 + eight_digits(self.high)?)
    }

    /// The number if it is a decimal whose double is certain without rounding twice (W. Clinger's fast path).
    #[inline(always)]
    pub(crate) fn decimal(self) -> Option<f64> {
        match self.digits() {
            // Fifteen digits always fit the mantissa.
            Some(digits) => Some(digits as f64),
            None => self.signed_decimal(),
        }
    }

    #[inline(never)]
    fn signed_decimal(self) -> Option<f64> {
        let first = if self.length < 8 {
            self.high.checked_shr(64 - 8 * self.length as u32)?
        } else {
            (self.low.checked_shr(128 - 8 * self.length as u32)).unwrap_or(self.high)
        };
        if first as u8 == b'-' {
            let unsigned = Self { length: self.length - 1, ..self };
            return unsigned.unsigned_decimal().map(|value| -value);
        }
        self.unsigned_decimal()
    }

    #[inline]
    fn unsigned_decimal(self) -> Option<f64> {
        let (low, high) = if self.length < 8 {
            (ZEROS, with_zeros(self.high, self.length))
        } else {
            (with_zeros(self.low, self.length - 8), self.high)
        };
        // The first byte lowest, zeros in front of the number.
        let mut text = u128::from(high) << 64 | u128::from(low);
        let mut digits = self.length;
        let mut exponent = 0;
        let [e, sign, tens, ones] = ((high >> 32) as u32).to_le_bytes();
        if e | 0x20 == b'e' {
            let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
            if tens > 9 || ones > 9 {
                return None;
            }
            exponent = match sign {
                b'+' => i32::from(tens * 10 + ones),
                b'-' => -i32::from(tens * 10 + ones),
                _ => return None,
            };
            text = text << 32 | u128::from(ZEROS >> 32);
            digits = digits.checked_sub(4)?;
        }
        let (points_low, points_high) =
            (bytes_equal(text as u64, b'.'), bytes_equal((text >> 64) as u64, b'.'));
        let points = u128::from(points_high) << 64 | u128::from(points_low);
        if points != 0 {
            let point = points.trailing_zeros() - 7;
            let before = (1 << point) - 1;
            text = text & !(before << 8 | 0xff) | (text & before) << 8 | u128::from(b'0');
            exponent -= (120 - point as i32) / 8;
            digits -= 1;
        }
        if digits == 0 {
            return None;
        }
        let mantissa = eight_digits(text as u64)? * 100_000_000 + eight_digits((text >> 64) as u64)?;
        let power = power_of_ten(exponent.unsigned_abs())?;
        Some(if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power })
    }
}

/// The `kept` last bytes of a word, fewer than eight, with zeros in front of them.
#[inline(always)]
const fn with_zeros(word: u64, kept: usize) -> u64 {
    let mask = (u64::MAX << 8) << (56 - 8 * kept);
    word & mask | ZEROS & !mask
}

/// The number that eight digits write, the first of them in the lowest byte.
#[inline(always)]
const fn eight_digits(text: u64) -> Option<u64> {
    let digits = text ^ ZEROS;
    // A byte beyond nine reaches the topmost bit.
    if (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & !LOW_BITS != 0 {
        return None;
    }
    // Neighbours are joined: to pairs, fours and all eight.
    let pairs = digits * 10 + (digits >> 8);
    let (low, high) = (pairs & 0x0000_00ff_0000_00ff, (pairs >> 16) & 0x0000_00ff_0000_00ff);
    let all = low.wrapping_mul(0x000f_4240_0000_0064).wrapping_add(high.wrapping_mul(0x0000_2710_0000_0001));
    Some(all >> 32)
}

/// The topmost bit of every byte that equals `byte`.
#[inline(always)]
pub(crate) const fn bytes_equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ u64::from_ne_bytes([byte; 8]);
    !((difference & LOW_BITS).wrapping_add(LOW_BITS) | difference | LOW_BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::go_float;

    fn read(text: &str) -> Option<f64> {
        let line = format!("a{{b=\"0123456789\"}} {text}");
        let word = LastWord::before(line.as_bytes(), line.len())?;
        assert_eq!(word.len(), text.len());
        word.decimal()
    }

    #[test]
    fn decimals() {
        for text in [
            "0",
            "7",
            "1234567",
            "12345678",
            "123456789",
            "123456789012345",
            "-1",
            "-0",
            "-12345678.25",
            "0.5",
            ".5",
            "5.",
            "0.000123",
            "12345678.9",
            "1.",
            "1234567.1",
            "123456.78901234",
            "1.7e+09",
            "1.7155392e+09",
            "5E-07",
            "-2.5e+07",
            "12345678e-10",
            "1e+22",
            "12345678901e+03",
        ] {
            let value: f64 = text.parse().unwrap_or_default();
            assert_eq!(read(text).map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
        for text in [
            "", ".", "-", "-.", "e+05", ".e+05", "1e+5", "1e5", "1e+23", "1.2.3", "--1", "1-", "+1", "1_0",
            "Inf", "0x1p-2", "1e+0a",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let page = b"a 1234567890123456";
        assert!(LastWord::before(page, page.len()).is_none());
        assert!(LastWord::before(b"a 1", 3).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_is_what_it_says(text in "[-+]?[0-9]{0,9}\\.?[0-9]{0,9}([eE][-+]?[0-9]{1,3})?", any in "[!-~]{0,15}") {
            for text in [text, any] {
                if let Some(value) = (text.len() < 16).then(|| read(&text)).flatten() {
                    prop_assert_eq!(go_float::parse_value(text.as_bytes()).map(f64::to_bits), Ok(value.to_bits()));
                }
            }
        }
    }
}
