use super::proto::varint_len;

/// The number of a 2.0 message's symbol as a varint, ready to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reference {
    varint: [u8; Self::BLOCK],
    len: u8,
}

impl Reference {
    /// What [`Reference::write`] writes to, at least.
    pub(super) const BLOCK: usize = 5;

    pub(super) fn new(number: u32) -> Self {
        let len = varint_len(u64::from(number));
        let mut varint = [0; Self::BLOCK];
        for (at, byte) in varint[..len].iter_mut().enumerate() {
            let more = if at + 1 < len { 0x80 } else { 0 };
            *byte = (number >> (7 * at)) as u8 & 0x7f | more;
        }
        Self { varint, len: len as u8 }
    }

    /// Nothing, which no reference is.
    pub(super) const fn is_unknown(self) -> bool {
        self.len == 0
    }

    /// Writes it to the front of `to` and returns its length; what lies behind it is overwritten up to
    /// [`Reference::BLOCK`].
    #[inline]
    pub(super) fn write(self, to: &mut [u8; Self::BLOCK]) -> usize {
        *to = self.varint;
        usize::from(self.len)
    }

    #[inline]
    pub(super) fn put(self, to: &mut Vec<u8>) {
        let end = to.len() + usize::from(self.len);
        to.extend_from_slice(&self.varint);
        to.truncate(end);
    }
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
