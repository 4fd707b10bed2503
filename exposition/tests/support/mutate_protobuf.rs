//! Mutations of delimited protobuf that know what a message is: of fields, wire types, lengths and bytes.

use promferry_model::{Rng as _, SeededRng};

use super::below;

/// Some families of the page with some metrics each, with one mutation, in every tenth two.
pub(crate) fn mutate_protobuf(families: &[Vec<u8>], rng: &mut SeededRng) -> Vec<u8> {
    let mut families = window(families, rng);
    for _ in 0..1 + usize::from(below(rng, 10) == 0) {
        if below(rng, 5) > 0 {
            let at = below(rng, families.len());
            let fields = count(&families[at]);
            if fields > 0 {
                let chosen = below(rng, fields);
                change(&mut families[at], &mut chosen.clone(), rng);
            }
        }
    }
    let mut page = Vec::new();
    for family in &families {
        let body = encode(family);
        varint(body.len() as u64, &mut page);
        page.extend_from_slice(&body);
    }
    if below(rng, 4) == 0 && !page.is_empty() {
        change_byte(&mut page, rng);
    }
    page
}

struct Field {
    number: u64,
    value: Value,
}

enum Value {
    Varint(u64),
    Fixed64(u64),
    Bytes(Vec<u8>),
    Message(Kind, Vec<Field>),
    /// Written as it is, after no tag.
    Verbatim(Vec<u8>),
}

/// The messages of `io.prometheus.client` that have messages in them, and the leaves.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Family,
    Metric,
    Counter,
    Summary,
    Histogram,
    Bucket,
    Exemplar,
    Leaf,
}

impl Kind {
    fn of_field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Family, 4) => Some(Self::Metric),
            (Self::Metric, 3) => Some(Self::Counter),
            (Self::Metric, 4) => Some(Self::Summary),
            (Self::Metric, 7) => Some(Self::Histogram),
            (Self::Metric, 1 | 2 | 5) => Some(Self::Leaf),
            (Self::Counter, 2) | (Self::Histogram, 16) | (Self::Bucket, 3) => Some(Self::Exemplar),
            (Self::Counter, 3) | (Self::Summary, 3 | 4) | (Self::Exemplar, 1 | 3) => Some(Self::Leaf),
            (Self::Histogram, 3) => Some(Self::Bucket),
            (Self::Histogram, 9 | 12 | 15) => Some(Self::Leaf),
            _ => None,
        }
    }
}

/// One or two families of the page after each other, each with one to four of its metrics after each other.
fn window(families: &[Vec<u8>], rng: &mut SeededRng) -> Vec<Vec<Field>> {
    let first = below(rng, families.len());
    let last = (first + 1 + usize::from(below(rng, 3) == 0)).min(families.len());
    let mut window: Vec<Vec<Field>> =
        families[first..last].iter().map(|family| decode(Kind::Family, family)).collect();
    for family in &mut window {
        let metrics = family.iter().filter(|field| field.number == 4).count();
        let start = below(rng, metrics.max(1));
        let end = start + 1 + below(rng, 4);
        let mut number = 0;
        family.retain(|field| {
            number += usize::from(field.number == 4);
            field.number != 4 || (start < number && number <= end)
        });
    }
    window
}

/// What [`mutate_protobuf`] takes for a page: its messages without their lengths.
pub(crate) fn messages(mut page: &[u8]) -> Vec<Vec<u8>> {
    let mut families = Vec::new();
    while !page.is_empty() {
        let length = read_varint(&mut page) as usize;
        let (family, rest) = page.split_at(length);
        families.push(family.to_vec());
        page = rest;
    }
    families
}

/// The fields of a message that is well-formed.
fn decode(kind: Kind, mut message: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = read_varint(&mut message);
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Varint(read_varint(&mut message)),
            1 => {
                let (bytes, rest) = message.split_first_chunk::<8>().unwrap();
                message = rest;
                Value::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = read_varint(&mut message) as usize;
                let (bytes, rest) = message.split_at(length);
                message = rest;
                match kind.of_field(number) {
                    Some(kind) => Value::Message(kind, decode(kind, bytes)),
                    None => Value::Bytes(bytes.to_vec()),
                }
            }
            wire => panic!("the corpus has no wire type {wire}"),
        };
        fields.push(Field { number, value });
    }
    fields
}

/// How many fields there are, those of messages in messages included.
fn count(fields: &[Field]) -> usize {
    fields
        .iter()
        .map(|field| match &field.value {
            Value::Message(_, fields) => 1 + count(fields),
            _ => 1,
        })
        .sum()
}

/// Changes the field of this number in the order of the page.
fn change(fields: &mut Vec<Field>, chosen: &mut usize, rng: &mut SeededRng) {
    for at in 0..fields.len() {
        if *chosen == 0 {
            *chosen = usize::MAX;
            change_field(fields, at, rng);
            return;
        }
        *chosen -= 1;
        if let Value::Message(_, inner) = &mut fields[at].value {
            change(inner, chosen, rng);
            if *chosen == usize::MAX {
                return;
            }
        }
    }
}

fn change_field(fields: &mut Vec<Field>, at: usize, rng: &mut SeededRng) {
    let number = fields[at].number;
    match below(rng, 11) {
        0 => drop(fields.remove(at)),
        1 => {
            let again = copy(&fields[at]);
            let to = below(rng, fields.len() + 1);
            fields.insert(to, again);
        }
        2 => {
            let other = below(rng, fields.len());
            fields.swap(at, other);
        }
        3 => {
            fields[at].number = [
                0,
                number + 1,
                number.saturating_sub(1),
                1 + below(rng, 20) as u64,
                100,
                (1 << 29) - 1,
                1 << 29,
            ][below(rng, 7)]
        }
        // Another wire type before the same content.
        4 => {
            let mut written = Vec::new();
            let body = content(&fields[at].value);
            varint(number << 3 | below(rng, 8) as u64, &mut written);
            written.extend_from_slice(&body);
            fields[at].value = Value::Verbatim(written);
        }
        // A wrong length.
        5 => {
            let body = content(&fields[at].value);
            let mut written = Vec::new();
            varint(number << 3 | 2, &mut written);
            let lengths =
                [body.len() as u64 + 1, body.len().saturating_sub(1) as u64, 0, 1 << 31, 1 << 63, u64::MAX];
            varint(lengths[below(rng, lengths.len())], &mut written);
            written.extend_from_slice(&body);
            fields[at].value = Value::Verbatim(written);
        }
        // A group around it, with its end or without.
        6 => {
            let mut written = Vec::new();
            let group = [number, 50][below(rng, 2)];
            varint(group << 3 | 3, &mut written);
            written.extend_from_slice(&encode(&[copy(&fields[at])]));
            if below(rng, 4) > 0 {
                varint((group + u64::from(below(rng, 6) == 0)) << 3 | 4, &mut written);
            }
            fields[at].value = Value::Verbatim(written);
        }
        // Packed becomes unpacked and the other way round.
        7 => {
            let mut written = Vec::new();
            match &fields[at].value {
                Value::Bytes(bytes) => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() && rest.iter().any(|b| *b < 0x80) {
                        varint(number << 3, &mut written);
                        varint(read_varint(&mut rest), &mut written);
                    }
                }
                value => {
                    let body = content(value);
                    varint(number << 3 | 2, &mut written);
                    varint(body.len() as u64, &mut written);
                    written.extend_from_slice(&body);
                }
            }
            fields[at].value = Value::Verbatim(written);
        }
        _ => change_value(&mut fields[at], rng),
    }
}

fn change_value(field: &mut Field, rng: &mut SeededRng) {
    let number = field.number;
    match &mut field.value {
        Value::Varint(value) => {
            let values = [
                0,
                1,
                2,
                127,
                128,
                1 << 31,
                (1 << 31) - 1,
                1 << 32,
                1 << 53,
                1 << 63,
                u64::MAX,
                value.wrapping_add(1),
            ];
            *value = values[below(rng, values.len())];
            if below(rng, 6) == 0 {
                // Longer than it need be, or than it may be.
                let mut written = Vec::new();
                varint(number << 3, &mut written);
                written.extend(std::iter::repeat_n(0x80, 1 + below(rng, 11)));
                written.push(below(rng, 3) as u8);
                field.value = Value::Verbatim(written);
            }
        }
        Value::Fixed64(bits) => {
            let floats = [
                0.0,
                -0.0,
                1.0,
                -1.0,
                0.5,
                1e300,
                -1e300,
                5e-324,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
                1e18,
                9007199254740993.0,
            ];
            *bits = match below(rng, floats.len() + 2) {
                0 => 0x7ff0_0000_0000_0002,
                1 => 0x7ff8_0000_0000_0001,
                at => floats[at - 2].to_bits(),
            };
        }
        Value::Bytes(bytes) => match below(rng, 6) {
            0 => bytes.clear(),
            1 => *bytes = vec![b'a'; 300],
            2 => {
                let texts: [&[u8]; 12] = [
                    b"\xff",
                    b"a\xc3",
                    b"\xc3\xbc",
                    b"__name__",
                    b"le",
                    b"quantile",
                    b"a b",
                    b"\"",
                    b"\\",
                    b"\n",
                    b"\0",
                    b"1a",
                ];
                *bytes = texts[below(rng, texts.len())].to_vec();
            }
            3 => bytes.push(b'\x80'),
            4 => drop(bytes.pop()),
            _ => {
                if !bytes.is_empty() {
                    let at = below(rng, bytes.len());
                    bytes[at] = rng.next_u64() as u8;
                }
            }
        },
        Value::Message(_, fields) => {
            if below(rng, 2) == 0 {
                fields.clear();
            } else if !fields.is_empty() {
                let at = below(rng, fields.len());
                fields.truncate(at);
            }
        }
        Value::Verbatim(bytes) => bytes.push(0),
    }
}

fn change_byte(page: &mut Vec<u8>, rng: &mut SeededRng) {
    let at = below(rng, page.len());
    match below(rng, 6) {
        0 => page[at] = rng.next_u64() as u8,
        1 => page[at] = page[at].wrapping_add(1),
        2 => page[at] ^= 1 << below(rng, 8),
        3 => page[at] ^= 0x80,
        4 => page.truncate(at),
        _ => drop(page.remove(at)),
    }
}

fn copy(field: &Field) -> Field {
    let value = match &field.value {
        Value::Varint(value) => Value::Varint(*value),
        Value::Fixed64(bits) => Value::Fixed64(*bits),
        Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Value::Message(kind, fields) => Value::Message(*kind, fields.iter().map(copy).collect()),
        Value::Verbatim(bytes) => Value::Verbatim(bytes.clone()),
    };
    Field { number: field.number, value }
}

fn encode(fields: &[Field]) -> Vec<u8> {
    let mut message = Vec::new();
    for field in fields {
        let wire = match &field.value {
            Value::Verbatim(bytes) => {
                message.extend_from_slice(bytes);
                continue;
            }
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) | Value::Message(..) => 2,
        };
        varint(field.number << 3 | wire, &mut message);
        let body = content(&field.value);
        if wire == 2 {
            varint(body.len() as u64, &mut message);
        }
        message.extend_from_slice(&body);
    }
    message
}

/// A value without tag and length.
fn content(value: &Value) -> Vec<u8> {
    match value {
        Value::Varint(value) => {
            let mut bytes = Vec::new();
            varint(*value, &mut bytes);
            bytes
        }
        Value::Fixed64(bits) => bits.to_le_bytes().to_vec(),
        Value::Bytes(bytes) | Value::Verbatim(bytes) => bytes.clone(),
        Value::Message(_, fields) => encode(fields),
    }
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let (&byte, rest) = bytes.split_first().unwrap_or((&0, &[]));
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}
