//! Protobuf's encoding, as much of it as remote write uses.

/// Wire type 0.
pub(super) const VARINT: u8 = 0;
/// Wire type 1.
pub(super) const FIXED64: u8 = 1;
/// Wire type 2.
pub(super) const LEN: u8 = 2;

/// The key of a field whose number is below 16.
pub(super) const fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    // Lengths and references are small.
    if value < 0x80 {
        return to.push(value as u8);
    }
    if value < 0x4000 {
        return to.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8]);
    }
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

pub(super) const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// A `double` field; nothing when all bits are zero, which is what an absent field means.
pub(super) fn put_double(to: &mut Vec<u8>, field: u8, value: f64) {
    if value.to_bits() != 0 {
        to.push(key(field, FIXED64));
        to.extend_from_slice(&value.to_le_bytes());
    }
}

/// A varint field; nothing when it is zero.
pub(super) fn put_uint(to: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        put_key(to, field, VARINT);
        put_varint(to, value);
    }
}

/// A length-delimited field.
pub(super) fn put_bytes(to: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    to.push(key(field, LEN));
    put_varint(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

/// A field's key, of any number below 2048.
pub(super) fn put_key(to: &mut Vec<u8>, field: u8, wire_type: u8) {
    put_varint(to, u64::from(field) << 3 | u64::from(wire_type));
}

pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Appends the first `length` bytes of `from`. Few bytes are copied as a block of fixed size and cut off, if
/// `from` is long enough: a copy whose size is only known at run time takes several times as long.
#[inline]
pub(super) fn put_prefix(to: &mut Vec<u8>, from: &[u8], length: usize) {
    match from.first_chunk::<32>() {
        Some(block) if length <= 32 => {
            let end = to.len() + length;
            to.extend_from_slice(block);
            to.truncate(end);
        }
        _ => to.extend_from_slice(&from[..length]),
    }
}

/// Leaves room for the length of what comes next; returns where it begins.
pub(super) fn begin_length<const ROOM: usize>(to: &mut Vec<u8>) -> usize {
    to.extend_from_slice(&[0; ROOM]);
    to.len()
}

/// Writes the length of what came since [`begin_length`] into the room before it, moving the content when the
/// length takes another number of bytes than expected.
#[inline]
pub(super) fn end_length<const ROOM: usize>(to: &mut Vec<u8>, start: usize) {
    let length = to.len() - start;
    match ROOM {
        1 if length < 0x80 => to[start - 1] = length as u8,
        2 if (0x80..0x4000).contains(&length) => {
            to[start - 2..start].copy_from_slice(&[length as u8 | 0x80, (length >> 7) as u8]);
        }
        _ => end_other_length::<ROOM>(to, start, length),
    }
}

#[cold]
fn end_other_length<const ROOM: usize>(to: &mut Vec<u8>, start: usize, length: usize) {
    let needed = varint_len(length as u64);
    if needed > ROOM {
        let more = needed - ROOM;
        to.extend_from_slice(&[0; 10][..more]);
        to.copy_within(start..start + length, start + more);
    } else if needed < ROOM {
        let less = ROOM - needed;
        to.copy_within(start.., start - less);
        to.truncate(to.len() - less);
    }
    let mut rest = length;
    for at in 0..needed {
        let more = if at + 1 < needed { 0x80 } else { 0 };
        to[start - ROOM + at] = (rest & 0x7f) as u8 | more;
        rest >>= 7;
    }
}

/// A message that is being read; each item is a field.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// A field of a message that is being read.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) content: Content<'a>,
    /// The field as it stands in the message, its key included.
    pub(super) whole: &'a [u8],
}

#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    Varint(u64),
    Fixed64(u64),
    Len(&'a [u8]),
    Fixed32,
}

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let all = self.rest;
        let key = take_varint(&mut self.rest)?;
        let content = match (key & 7) as u8 {
            VARINT => Content::Varint(take_varint(&mut self.rest)?),
            FIXED64 => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
                self.rest = rest;
                Content::Fixed64(u64::from_le_bytes(*bytes))
            }
            LEN => {
                let length = usize::try_from(take_varint(&mut self.rest)?).map_err(|_| Malformed)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
                self.rest = rest;
                Content::Len(bytes)
            }
            5 => {
                self.rest = self.rest.get(4..).ok_or(Malformed)?;
                Content::Fixed32
            }
            _ => return Err(Malformed),
        };
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        Ok(Field { number, content, whole: &all[..all.len() - self.rest.len()] })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

pub(super) fn take_varint(from: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (at, &byte) in from.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *from = &from[at + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_the_bytes_that_it_needs() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            for room in [1, 2] {
                let mut written = vec![7];
                let content: Vec<u8> = (0..length).map(|n| n as u8).collect();
                match room {
                    1 => {
                        let start = begin_length::<1>(&mut written);
                        written.extend_from_slice(&content);
                        end_length::<1>(&mut written, start);
                    }
                    _ => {
                        let start = begin_length::<2>(&mut written);
                        written.extend_from_slice(&content);
                        end_length::<2>(&mut written, start);
                    }
                }
                let mut expected = vec![7];
                put_varint(&mut expected, length as u64);
                assert_eq!(expected.len(), 1 + varint_len(length as u64));
                expected.extend_from_slice(&content);
                assert!(written == expected, "length {length}, room {room}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let mut message = Vec::new();
        put_double(&mut message, 1, 1.5);
        put_bytes(&mut message, 2, b"text");
        put_uint(&mut message, 17, 300);
        assert_eq!(Fields::of(&message).filter(Result::is_ok).count(), 3);
        for end in [1, 5, 10, 12, message.len() - 1] {
            assert!(Fields::of(&message[..end]).any(|field| field.is_err()), "cut at {end}");
        }
    }
}
