use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// A text's number in one [`SymbolTable`]; stable for as long as the table keeps the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(u32);

impl Symbol {
    /// The number itself: below [`SymbolTable::slots`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The symbol of this number, which has to come from [`Symbol::index`].
    pub const fn from_index(index: usize) -> Self {
        Self(index as u32)
    }
}

/// A local dictionary: each text once, known by a small number.
///
/// Texts lie in one buffer, each behind its length as a protobuf varint, so that an encoder copies
/// [`SymbolTable::length_delimited`] as it is. [`SymbolTable::retain`] drops texts without changing the
/// numbers of the others.
#[derive(Clone, Debug, Default)]
pub struct SymbolTable {
    bytes: Vec<u8>,
    /// Where each symbol's length prefix starts; [`FREE`] for a number that is not in use.
    offsets: Vec<u32>,
    free: Vec<u32>,
    index: HashTable<u32>,
}

const FREE: u32 = u32::MAX;

/// Texts beyond this many bytes in one table are refused: offsets are 32 bits wide.
const MAX_BYTES: usize = u32::MAX as usize - 1;

impl SymbolTable {
    /// A table without texts.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of `text`, which is added if it is new. `None` when the table is full (4 GiB of texts).
    pub fn intern(&mut self, text: &str) -> Option<Symbol> {
        let hash = xxh3_64(text.as_bytes());
        let (bytes, offsets) = (&self.bytes, &self.offsets);
        let same = |&slot: &u32| content(bytes, offsets[slot as usize]) == text.as_bytes();
        if let Some(&slot) = self.index.find(hash, same) {
            return Some(Symbol(slot));
        }
        if self.bytes.len() + text.len() + 10 > MAX_BYTES {
            return None;
        }
        let offset = self.bytes.len() as u32;
        write_varint(&mut self.bytes, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
        let slot = match self.free.pop() {
            Some(slot) => {
                self.offsets[slot as usize] = offset;
                slot
            }
            None => {
                self.offsets.push(offset);
                (self.offsets.len() - 1) as u32
            }
        };
        let (bytes, offsets) = (&self.bytes, &self.offsets);
        self.index.insert_unique(hash, slot, |&slot| xxh3_64(content(bytes, offsets[slot as usize])));
        Some(Symbol(slot))
    }

    /// The number of `text`, if the table has it.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.index
            .find(xxh3_64(text.as_bytes()), |&slot| {
                content(&self.bytes, self.offsets[slot as usize]) == text.as_bytes()
            })
            .map(|&slot| Symbol(slot))
    }

    /// The text of `symbol`; empty for a number that this table does not have.
    pub fn get(&self, symbol: Symbol) -> &str {
        let Some(&offset) = self.offsets.get(symbol.index()).filter(|&&offset| offset != FREE) else {
            return "";
        };
        // Only texts went in.
        std::str::from_utf8(content(&self.bytes, offset)).unwrap_or_default()
    }

    /// The text of `symbol` behind its length as a varint; empty for a number that this table does not have.
    pub fn length_delimited(&self, symbol: Symbol) -> &[u8] {
        let Some(&offset) = self.offsets.get(symbol.index()).filter(|&&offset| offset != FREE) else {
            return &[];
        };
        let start = offset as usize;
        let (length, prefix) = read_varint(&self.bytes[start..]);
        &self.bytes[start..start + prefix + length]
    }

    /// Where the text of `symbol` lies: the table's buffer from its length on, and how many bytes of that are
    /// [`SymbolTable::length_delimited`]. What follows belongs to other texts; it lets an encoder copy a short
    /// text as a block of fixed size and cut it off afterwards, which is faster than a copy of its exact size.
    pub fn length_delimited_in_buffer(&self, symbol: Symbol) -> (&[u8], usize) {
        let Some(&offset) = self.offsets.get(symbol.index()).filter(|&&offset| offset != FREE) else {
            return (&[], 0);
        };
        let rest = &self.bytes[offset as usize..];
        let (length, prefix) = read_varint(rest);
        (rest, prefix + length)
    }

    /// How many texts the table has.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether the table has no texts.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// One more than the largest number ever given out: how long an array indexed by symbol has to be.
    pub fn slots(&self) -> usize {
        self.offsets.len()
    }

    /// Drops the texts for which `keep` says no; the others keep their numbers, and freed numbers are given
    /// out again.
    pub fn retain(&mut self, mut keep: impl FnMut(Symbol) -> bool) {
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for slot in 0..self.offsets.len() as u32 {
            let offset = self.offsets[slot as usize];
            if offset == FREE {
                continue;
            }
            let start = offset as usize;
            let (length, prefix) = read_varint(&self.bytes[start..]);
            if keep(Symbol(slot)) {
                self.offsets[slot as usize] = bytes.len() as u32;
                bytes.extend_from_slice(&self.bytes[start..start + prefix + length]);
            } else {
                self.offsets[slot as usize] = FREE;
                self.free.push(slot);
            }
        }
        bytes.shrink_to_fit();
        self.bytes = bytes;
        let (bytes, offsets) = (&self.bytes, &self.offsets);
        self.index.clear();
        let live = offsets.len() - self.free.len();
        self.index.shrink_to(live, |_| 0);
        for slot in 0..offsets.len() as u32 {
            if offsets[slot as usize] != FREE {
                let hash = |&slot: &u32| xxh3_64(content(bytes, offsets[slot as usize]));
                self.index.insert_unique(hash(&slot), slot, hash);
            }
        }
    }

    /// Bytes of memory that the table holds.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
            + 4 * (self.offsets.capacity() + self.free.capacity())
            + 5 * self.index.capacity()
    }
}

fn content(bytes: &[u8], offset: u32) -> &[u8] {
    let rest = &bytes[offset as usize..];
    let (length, prefix) = read_varint(rest);
    &rest[prefix..prefix + length]
}

fn write_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn read_varint(from: &[u8]) -> (usize, usize) {
    // Most texts are short.
    if let Some(&byte) = from.first().filter(|&&byte| byte < 0x80) {
        return (usize::from(byte), 1);
    }
    let mut value = 0usize;
    for (at, &byte) in from.iter().enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return (value, at + 1);
        }
    }
    (0, from.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn texts_are_length_delimited() {
        let mut table = SymbolTable::new();
        let long = "x".repeat(300);
        let (empty, short, long_symbol) =
            (table.intern("").unwrap(), table.intern("job").unwrap(), table.intern(&long).unwrap());
        assert_eq!(table.length_delimited(empty), b"\0");
        assert_eq!(table.length_delimited(short), b"\x03job");
        assert_eq!(&table.length_delimited(long_symbol)[..3], b"\xac\x02x");
        assert_eq!(table.get(long_symbol), long);
        for symbol in [empty, short, long_symbol, Symbol::from_index(9)] {
            let (rest, length) = table.length_delimited_in_buffer(symbol);
            assert_eq!(&rest[..length], table.length_delimited(symbol));
        }
        assert_eq!(table.intern("job"), Some(short));
    }

    proptest! {
        #[test]
        fn what_is_kept_keeps_its_number(texts in prop::collection::vec("[a-d]{0,3}", 0..60), keep in "[a-d]") {
            let mut table = SymbolTable::new();
            let mut expected = HashMap::new();
            for text in &texts {
                expected.insert(text.clone(), table.intern(text).unwrap());
            }
            prop_assert_eq!(table.len(), expected.len());
            let kept: HashMap<_, _> = expected.into_iter().filter(|(text, _)| text.contains(&keep)).collect();
            table.retain(|symbol| kept.values().any(|&k| k == symbol));
            prop_assert_eq!(table.len(), kept.len());
            for (text, &symbol) in &kept {
                prop_assert_eq!(table.find(text), Some(symbol));
                prop_assert_eq!(table.get(symbol), text.as_str());
            }
            let slots = table.slots();
            let fresh: Vec<_> = (0..slots - kept.len()).map(|n| table.intern(&format!("new {n}")).unwrap()).collect();
            prop_assert_eq!(table.slots(), slots);
            for symbol in fresh {
                prop_assert!(!kept.values().any(|&k| k == symbol));
            }
        }
    }
}
