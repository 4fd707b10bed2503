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
