use super::proto::varint_len;

/// The number of a 2.0 message's symbol as a varint, ready to be written: its bytes from the lowest on, and its
/// length in the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reference(u64);

impl Reference {
    /// How many bytes [`Reference::write`] writes to.
    pub(super) const BLOCK: usize = 8;

    pub(super) fn new(number: u32) -> Self {
        let len = varint_len(u64::from(number));
        let mut bytes = [0; Self::BLOCK];
        for (at, byte) in bytes[..len].iter_mut().enumerate() {
            let more = if at + 1 < len { 0x80 } else { 0 };
            *byte = (number >> (7 * at)) as u8 & 0x7f | more;
        }
        bytes[Self::BLOCK - 1] = len as u8;
        Self(u64::from_le_bytes(bytes))
    }

    /// Nothing, which no reference is.
    pub(super) const fn is_unknown(self) -> bool {
        self.0 == 0
    }

    const fn len(self) -> usize {
        (self.0 >> 56) as usize
    }

    /// Writes it to the front of `to` and returns its length; the rest of `to` holds anything.
    #[inline]
    pub(super) const fn write(self, to: &mut [u8; Self::BLOCK]) -> usize {
        *to = self.0.to_le_bytes();
        self.len()
    }

    #[inline]
    pub(super) fn put(self, to: &mut Vec<u8>) {
        let end = to.len() + self.len();
        to.extend_from_slice(&self.0.to_le_bytes());
        to.truncate(end);
    }
}

/// Bytes up to which a time series' references are kept for the next one.
pub(super) const MAX_KEPT_BYTES: usize = 128;

/// Appends the first `len` bytes of what was kept; copies of fixed size, for their length is nothing to branch on.
#[inline]
pub(super) fn put_kept(to: &mut Vec<u8>, kept: &[u8; MAX_KEPT_BYTES], len: usize) {
    let end = to.len() + len;
    if let Some(half) = kept.first_chunk::<{ MAX_KEPT_BYTES / 2 }>()
        && len <= half.len()
    {
        to.extend_from_slice(half);
    } else {
        to.extend_from_slice(kept);
    }
    to.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::proto::put_varint;

    #[test]
    fn a_reference_is_its_varint() {
        for number in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455, u32::MAX] {
            let mut expected = vec![7];
            put_varint(&mut expected, number.into());
            let reference = Reference::new(number);
            let mut written = vec![7];
            reference.put(&mut written);
            assert_eq!(written, expected);
            let mut block = [9; Reference::BLOCK];
            let length = reference.write(&mut block);
            assert_eq!(block[..length], expected[1..]);
        }
        assert!(Reference::default().is_unknown() && !Reference::new(0).is_unknown());
    }
}
