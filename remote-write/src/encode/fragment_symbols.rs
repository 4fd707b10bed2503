use hashbrown::HashTable;
use promferry_model::{Metadata, Symbol, SymbolTable};
use xxhash_rust::xxh3::xxh3_64;

use super::proto::{LEN, VARINT, begin_length, end_length, key, put_bytes, put_uint};
use super::reference::Reference;
use super::writer::MAX_FRAGMENT_BYTES;
use crate::wire::v1::MetricType;

/// A 2.0 fragment's own symbols: each text once, the first empty.
///
/// The target's symbols find their reference by number: an entry is valid if its epoch is the fragment's, so
/// that the next fragment starts by counting up. Texts that the target's table does not have (of exemplars
/// and metadata) are found by hash.
#[derive(Debug, Default)]
pub(super) struct FragmentSymbols {
    /// The symbols as they stand in the message.
    pub(super) encoded: Vec<u8>,
    count: u32,
    epoch: u32,
    /// By symbol of the target: epoch and reference.
    slots: Vec<(u32, Reference)>,
    /// By family of the target: where the metadata lies that its time series carry.
    families: Vec<Piece>,
    /// By run of the target's shapes: where its references lie.
    runs: Vec<Piece>,
    /// What many time series have in common, encoded once, with [`PADDING`] bytes behind the last.
    pieces: Vec<u8>,
    /// References of other texts, with where the text lies in `encoded`.
    others: HashTable<(u32, u32, u32)>,
}

/// A part of [`FragmentSymbols::pieces`], valid in the fragment of this epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Piece {
    epoch: u32,
    start: u32,
    len: u32,
}

/// Lets the last piece be copied as a block, as [`put_prefix`](super::proto::put_prefix) does.
const PADDING: usize = 32;

/// Beyond this many entries the slots are given back after use.
const MAX_KEPT_SLOTS: usize = 1 << 16;

impl FragmentSymbols {
    pub(super) fn clear(&mut self) {
        self.encoded.clear();
        self.encoded.extend_from_slice(&[key(4, LEN), 0]);
        self.count = 1;
        self.others.clear();
        self.pieces.clear();
        if self.epoch == u32::MAX {
            self.slots.clear();
            self.families.clear();
            self.runs.clear();
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    pub(super) const fn memory_bytes(&self) -> usize {
        self.encoded.capacity()
            + self.pieces.capacity()
            + self.slots.capacity() * size_of::<(u32, Reference)>()
            + (self.families.capacity() + self.runs.capacity()) * size_of::<Piece>()
    }

    pub(super) fn trim(&mut self) {
        if self.slots.capacity() > MAX_KEPT_SLOTS {
            self.slots = Vec::new();
        }
        if self.families.capacity() > MAX_KEPT_SLOTS {
            self.families = Vec::new();
        }
        if self.runs.capacity() > MAX_KEPT_SLOTS {
            self.runs = Vec::new();
        }
        if self.encoded.capacity() > 4 * MAX_FRAGMENT_BYTES {
            self.encoded = Vec::new();
        }
    }

    pub(super) fn of(&mut self, table: &SymbolTable, symbol: Symbol) -> Reference {
        match self.slots.get(symbol.index()) {
            Some(&(epoch, reference)) if epoch == self.epoch => reference,
            _ => self.add(table, symbol),
        }
    }

    /// The references of a run's names and values: the first bytes of what is returned, and how many.
    pub(super) fn of_run(
        &mut self,
        table: &SymbolTable,
        run: usize,
        pairs: &[(Symbol, Symbol)],
    ) -> (&[u8], usize) {
        let piece = match self.runs.get(run) {
            Some(&piece) if piece.epoch == self.epoch => piece,
            _ => self.add_run(table, run, pairs),
        };
        (&self.pieces[piece.start as usize..], piece.len as usize)
    }

    /// The `metadata` of a time series of this family, key and length included: the first bytes of what is
    /// returned, and how many.
    pub(super) fn of_family(
        &mut self,
        table: &SymbolTable,
        family: u32,
        metadata: &Metadata,
    ) -> (&[u8], usize) {
        let piece = match self.families.get(family as usize) {
            Some(&piece) if piece.epoch == self.epoch => piece,
            _ => self.add_family(table, family as usize, metadata),
        };
        (&self.pieces[piece.start as usize..], piece.len as usize)
    }

    /// The reference of a text that the target's table need not have.
    pub(super) fn of_text(&mut self, table: &SymbolTable, text: &str) -> Reference {
        if text.is_empty() {
            return Reference::new(0);
        }
        if let Some(symbol) = table.find(text) {
            return self.of(table, symbol);
        }
        if let Some(known) = self.find_other(text) {
            return Reference::new(known);
        }
        put_bytes(&mut self.encoded, 4, text.as_bytes());
        let reference = self.count;
        self.count += 1;
        let entry = (reference, (self.encoded.len() - text.len()) as u32, text.len() as u32);
        let encoded = &self.encoded;
        self.others.insert_unique(xxh3_64(text.as_bytes()), entry, |&(_, at, length)| {
            xxh3_64(&encoded[at as usize..][..length as usize])
        });
        Reference::new(reference)
    }

    #[cold]
    fn add(&mut self, table: &SymbolTable, symbol: Symbol) -> Reference {
        if self.slots.len() <= symbol.index() {
            let slots = table.slots().max(symbol.index() + 1);
            self.slots.resize(slots, (0, Reference::default()));
        }
        let text = table.get(symbol);
        let known = if text.is_empty() {
            Some(0)
        } else if self.others.is_empty() {
            None
        } else {
            self.find_other(text)
        };
        let reference = Reference::new(known.unwrap_or_else(|| {
            self.encoded.push(key(4, LEN));
            self.encoded.extend_from_slice(table.length_delimited(symbol));
            self.count += 1;
            self.count - 1
        }));
        self.slots[symbol.index()] = (self.epoch, reference);
        reference
    }

    #[cold]
    fn add_run(&mut self, table: &SymbolTable, run: usize, pairs: &[(Symbol, Symbol)]) -> Piece {
        let mut pieces = self.begin_piece();
        let start = pieces.len();
        for &(name, value) in pairs {
            self.of(table, name).put(&mut pieces);
            self.of(table, value).put(&mut pieces);
        }
        let piece = self.end_piece(pieces, start);
        put_at(&mut self.runs, run, piece);
        piece
    }

    #[cold]
    fn add_family(&mut self, table: &SymbolTable, family: usize, metadata: &Metadata) -> Piece {
        let mut pieces = self.begin_piece();
        let start = pieces.len();
        pieces.push(key(5, LEN));
        let content = begin_length::<1>(&mut pieces);
        put_uint(&mut pieces, 1, MetricType::from(metadata.metric_type) as u64);
        for (field, text) in [(3, &metadata.help), (4, &metadata.unit)] {
            if !text.is_empty() {
                pieces.push(key(field, VARINT));
                self.of_text(table, text).put(&mut pieces);
            }
        }
        end_length::<1>(&mut pieces, content);
        let piece = self.end_piece(pieces, start);
        put_at(&mut self.families, family, piece);
        piece
    }

    /// The pieces, without the padding.
    fn begin_piece(&mut self) -> Vec<u8> {
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.truncate(pieces.len().saturating_sub(PADDING));
        pieces
    }

    fn end_piece(&mut self, mut pieces: Vec<u8>, start: usize) -> Piece {
        let piece = Piece { epoch: self.epoch, start: start as u32, len: (pieces.len() - start) as u32 };
        pieces.extend_from_slice(&[0; PADDING]);
        self.pieces = pieces;
        piece
    }

    fn find_other(&self, text: &str) -> Option<u32> {
        let same = |&(_, at, length): &(u32, u32, u32)| {
            &self.encoded[at as usize..][..length as usize] == text.as_bytes()
        };
        self.others.find(xxh3_64(text.as_bytes()), same).map(|&(reference, ..)| reference)
    }
}

fn put_at(list: &mut Vec<Piece>, at: usize, piece: Piece) {
    if list.len() <= at {
        list.resize(at + 1, Piece::default());
    }
    list[at] = piece;
}
