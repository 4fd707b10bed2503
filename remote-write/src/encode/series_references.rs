//! The references of a time series' labels, written anew only where they differ from the time series before.

use promferry_model::Symbol;

use super::reference::{MAX_KEPT_BYTES, Reference, put_kept};

/// The references of the labels of the last time series of a 2.0 fragment.
#[derive(Debug)]
pub(super) struct SeriesReferences {
    /// Its shape: [`NO_SHAPE`] where there was none, or one that does not fit.
    shape: u32,
    bytes: [u8; MAX_KEPT_BYTES],
    len: usize,
    slots: [Slot; MAX_SLOTS],
    count: usize,
}

/// The value of a free slot of the shape.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    value: u32,
    place: u8,
    len: u8,
}

const MAX_SLOTS: usize = 16;
const NO_SHAPE: u32 = u32::MAX;

impl Default for SeriesReferences {
    fn default() -> Self {
        Self {
            shape: NO_SHAPE,
            bytes: [0; MAX_KEPT_BYTES],
            len: 0,
            slots: [Slot::default(); MAX_SLOTS],
            count: 0,
        }
    }
}

impl SeriesReferences {
    /// Nothing is known of a time series before.
    pub(super) const fn clear(&mut self) {
        self.shape = NO_SHAPE;
    }

    /// Appends the references of a time series of this shape. `next_value` gives the values of its slots in order,
    /// `reference` their references. `false`, and nothing is appended, if the time series before was of another
    /// shape or if lengths differ.
    #[inline]
    pub(super) fn put_like_before(
        &mut self,
        to: &mut Vec<u8>,
        shape: u32,
        mut next_value: impl FnMut() -> u32,
        mut reference: impl FnMut(Symbol) -> Reference,
    ) -> bool {
        if shape != self.shape {
            return false;
        }
        let start = to.len();
        put_kept(to, &self.bytes, self.len);
        for slot in self.slots.iter_mut().take(self.count) {
            let value = next_value();
            if value == slot.value {
                continue;
            }
            let mut block = [0; Reference::BLOCK];
            let len = reference(Symbol::from_index(value as usize)).write(&mut block);
            if len != usize::from(slot.len) {
                to.truncate(start);
                self.shape = NO_SHAPE;
                return false;
            }
            let place = usize::from(slot.place);
            for (n, &byte) in block[..len].iter().enumerate() {
                to[start + place + n] = byte;
                self.bytes[place + n] = byte;
            }
            slot.value = value;
        }
        true
    }

    /// Starts to note a time series.
    pub(super) const fn begin(&mut self) {
        self.shape = NO_SHAPE;
        self.count = 0;
    }

    /// Notes a slot whose value's reference has just been appended, the `len` last of `written` bytes.
    pub(super) fn note_slot(&mut self, value: u32, written: usize, len: usize) {
        if let Some(slot) = self.slots.get_mut(self.count)
            && written <= MAX_KEPT_BYTES
        {
            *slot = Slot { value, place: (written - len) as u8, len: len as u8 };
        }
        self.count += 1;
    }

    /// Notes all that was written for a time series of this shape.
    pub(super) fn end(&mut self, shape: u32, written: &[u8]) {
        if written.len() <= MAX_KEPT_BYTES && self.count <= MAX_SLOTS {
            self.bytes[..written.len()].copy_from_slice(written);
            self.len = written.len();
            self.shape = shape;
        }
    }
}
