use std::cell::Cell;

use crate::LeFormat;

const SLOTS: usize = 64;

/// The texts of bounds and quantiles that were written last: every metric of a family has the same ones, and to
/// find the shortest digits of a number takes longer than all else that is done for a bucket.
pub(super) struct BoundTexts([Cell<BoundText>; SLOTS]);

#[derive(Clone, Copy)]
struct BoundText {
    bits: u64,
    /// Longer texts are written each time.
    text: [u8; 23],
    /// None is empty, but for a slot that has not been used.
    length: u8,
}

impl BoundTexts {
    pub(super) const fn new() -> Self {
        Self([const { Cell::new(BoundText { bits: 0, text: [0; 23], length: 0 }) }; SLOTS])
    }

    /// Appends `bound` as `le_format`, which is the same in all calls, writes it.
    pub(super) fn write(&self, bound: f64, le_format: LeFormat, to: &mut String) {
        if write_short(bound, le_format, to) {
            return;
        }
        let bits = bound.to_bits();
        // The highest bits of the product depend on all bits of the number (Fibonacci hashing).
        let slot = &self.0[(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize];
        let known = slot.get();
        if known.length > 0
            && known.bits == bits
            && let Ok(text) = str::from_utf8(&known.text[..usize::from(known.length)])
        {
            to.push_str(text);
            return;
        }
        let written = le_format.number(bound);
        to.push_str(&written);
        let mut text = [0; 23];
        if let Some(place) = text.get_mut(..written.len()) {
            place.copy_from_slice(written.as_bytes());
            slot.set(BoundText { bits, text, length: written.len() as u8 });
        }
    }
}

/// Writes a number of few digits, none of them needing an exponent; false if it is not one.
///
/// A decimal of at most 15 digits that is read as this number is the only one of so few, and so the shortest. Whole
/// numbers and powers of ten of this size are exact, so that their quotient is what the decimal is read as.
fn write_short(bound: f64, le_format: LeFormat, to: &mut String) -> bool {
    const POWERS_OF_TEN: [u32; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
    if !(1e-4..1e6).contains(&bound) {
        return false;
    }
    for (decimals, power) in POWERS_OF_TEN.into_iter().enumerate() {
        let whole = (bound * f64::from(power)).round();
        if whole / f64::from(power) == bound {
            let (mut digits, mut text, mut at) = (whole as u64, [b'0'; 24], 24);
            let mut push = |digit| {
                at -= 1;
                text[at] = digit;
            };
            for _ in 0..decimals {
                push(b'0' + (digits % 10) as u8);
                digits /= 10;
            }
            if decimals > 0 {
                push(b'.');
            } else if le_format != LeFormat::Otel {
                push(b'0');
                push(b'.');
            }
            loop {
                push(b'0' + (digits % 10) as u8);
                digits /= 10;
                if digits == 0 {
                    break;
                }
            }
            to.push_str(str::from_utf8(&text[at..]).unwrap_or_default());
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(texts: &BoundTexts, bound: f64, le_format: LeFormat) -> String {
        let mut text = String::new();
        texts.write(bound, le_format, &mut text);
        text
    }

    proptest! {
        #[test]
        fn bounds_are_written_as_ever(whole in 0_u64..10_000_000_000, decimals in 0..9_i32, bits: u64, otel: bool) {
            let le_format = if otel { LeFormat::Otel } else { LeFormat::Prometheus3 };
            let short = whole as f64 / 10_f64.powi(decimals);
            let texts = BoundTexts::new();
            for bound in [short, short.next_up(), -short, f64::from_bits(bits), short.log2(), 1.5_f64.powi(decimals)] {
                prop_assert_eq!(written(&texts, bound, le_format), le_format.number(bound));
                prop_assert_eq!(written(&texts, bound, le_format), le_format.number(bound), "when asked again");
            }
        }
    }

    #[test]
    fn every_size_of_bound() {
        let texts = BoundTexts::new();
        for bound in
            [0.0, -0.0, 1e-4, 9.9e-5, 0.1, 1.1, 0.3, 2.5, 10.0, 999_999.0, 1e6, f64::INFINITY, f64::NAN]
        {
            assert_eq!(written(&texts, bound, LeFormat::Verbatim), LeFormat::Verbatim.number(bound));
        }
    }
}
