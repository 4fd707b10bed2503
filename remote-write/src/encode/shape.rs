use hashbrown::HashTable;
use promferry_model::{Symbol, SymbolTable};
use xxhash_rust::xxh3::xxh3_64;

use super::proto::{LEN, key, put_prefix, put_varint};

/// What series with the same label names have in common: the names in order, each with a value that is the
/// same for all of them or with a free slot that each series fills. Known by a number that stays.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    list: Vec<Box<[Part]>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    runs: Vec<Run>,
    free_runs: Vec<u32>,
}

/// A piece of a shape: a run of labels whose values are constant, or the name of a label with a free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(u32);

/// What a [`Part`] is.
pub(super) enum PartKind {
    /// The number of a [`Run`].
    Run(usize),
    /// The label's name.
    Slot(Symbol),
}

/// Neighbouring labels whose values are constant.
#[derive(Debug)]
pub(super) struct Run {
    /// Names and values.
    pub(super) pairs: Box<[(Symbol, Symbol)]>,
    /// The same as 1.0's `TimeSeries.labels`.
    pub(super) encoded: Box<[u8]>,
}

const RUN: u32 = 1 << 31;

impl Part {
    pub(super) const fn kind(self) -> PartKind {
        if self.0 & RUN == 0 {
            PartKind::Slot(Symbol::from_index(self.0 as usize))
        } else {
            PartKind::Run((self.0 & !RUN) as usize)
        }
    }
}

impl Shapes {
    /// The number of the shape of these labels: names in order, a value where it is constant. `None` when
    /// numbers run out.
    pub(super) fn intern(
        &mut self,
        labels: &[(Symbol, Option<Symbol>)],
        symbols: &SymbolTable,
    ) -> Option<u32> {
        let mut parts = Vec::with_capacity(labels.len());
        for chunk in labels.chunk_by(|a, b| a.1.is_some() && b.1.is_some()) {
            match chunk {
                [(name, None)] => {
                    parts.push(Part(u32::try_from(name.index()).ok().filter(|n| n & RUN == 0)?))
                }
                constant => {
                    let pairs: Box<[_]> =
                        constant.iter().filter_map(|&(name, value)| Some((name, value?))).collect();
                    parts.push(Part(self.intern_run(pairs, symbols) | RUN));
                }
            }
        }
        let hash = hash(&parts);
        if let Some(&known) = self.index.find(hash, |&shape| *self.list[shape as usize] == *parts) {
            return Some(known);
        }
        let parts = parts.into_boxed_slice();
        let shape = match self.free.pop() {
            Some(shape) => {
                self.list[shape as usize] = parts;
                shape
            }
            None => {
                self.list.push(parts);
                self.list.len() as u32 - 1
            }
        };
        self.index.insert_unique(hash, shape, |&shape| self::hash(&self.list[shape as usize]));
        Some(shape)
    }

    pub(super) fn parts(&self, shape: u32) -> &[Part] {
        &self.list[shape as usize]
    }

    pub(super) fn run(&self, run: usize) -> &Run {
        &self.runs[run]
    }

    /// One more than the largest number given out.
    pub(super) fn numbers(&self) -> usize {
        self.list.len()
    }

    /// Forgets the shapes for which `keep` says no; the others keep their numbers. Marks the symbols that
    /// are still needed.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool, mut mark: impl FnMut(Symbol)) {
        let mut runs_in_use = vec![false; self.runs.len()];
        let mut is_free = vec![false; self.list.len()];
        self.free.iter().for_each(|&shape| is_free[shape as usize] = true);
        for shape in (0..self.list.len()).filter(|&shape| !is_free[shape]) {
            if !keep(shape as u32) {
                let hash = hash(&self.list[shape]);
                if let Ok(entry) = self.index.find_entry(hash, |&known| known as usize == shape) {
                    entry.remove();
                }
                self.list[shape] = Box::default();
                self.free.push(shape as u32);
                continue;
            }
            for part in &self.list[shape] {
                match part.kind() {
                    PartKind::Run(run) => runs_in_use[run] = true,
                    PartKind::Slot(name) => mark(name),
                }
            }
        }
        for (number, in_use) in runs_in_use.into_iter().enumerate() {
            let run = &mut self.runs[number];
            if in_use {
                for &(name, value) in &run.pairs {
                    mark(name);
                    mark(value);
                }
            } else if !run.pairs.is_empty() {
                *run = Run { pairs: Box::default(), encoded: Box::default() };
                self.free_runs.push(number as u32);
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        // Each box has an allocator's header of its own, 16 bytes with the common ones.
        let parts: usize = self.list.iter().map(|parts| 16 + size_of_val::<[Part]>(parts)).sum();
        let runs: usize = self.runs.iter().map(|run| 32 + size_of_val(&*run.pairs) + run.encoded.len()).sum();
        parts
            + runs
            + self.list.capacity() * size_of::<Box<[Part]>>()
            + self.runs.capacity() * size_of::<Run>()
            + 4 * (self.free.capacity() + self.free_runs.capacity())
            + 5 * self.index.capacity()
    }

    fn intern_run(&mut self, pairs: Box<[(Symbol, Symbol)]>, symbols: &SymbolTable) -> u32 {
        // There are few: neighbours among the constants of one target.
        if let Some(known) = self.runs.iter().position(|run| run.pairs == pairs) {
            return known as u32;
        }
        let mut encoded = Vec::new();
        for &(name, value) in &pairs {
            put_label(&mut encoded, symbols, name, value);
        }
        let run = Run { pairs, encoded: encoded.into_boxed_slice() };
        match self.free_runs.pop() {
            Some(number) => {
                self.runs[number as usize] = run;
                number
            }
            None => {
                self.runs.push(run);
                self.runs.len() as u32 - 1
            }
        }
    }
}

/// A `Label` of 1.0 as field 1 of the message around it.
pub(super) fn put_label(to: &mut Vec<u8>, symbols: &SymbolTable, name: Symbol, value: Symbol) {
    let (name, name_len) = symbols.length_delimited_in_buffer(name);
    let (value, value_len) = symbols.length_delimited_in_buffer(value);
    let length = name_len + value_len + 2;
    if length < 0x80 {
        to.extend_from_slice(&[key(1, LEN), length as u8, key(1, LEN)]);
    } else {
        to.push(key(1, LEN));
        put_varint(to, length as u64);
        to.push(key(1, LEN));
    }
    put_prefix(to, name, name_len);
    to.push(key(2, LEN));
    put_prefix(to, value, value_len);
}

fn hash(parts: &[Part]) -> u64 {
    let mut bytes = Vec::with_capacity(4 * parts.len());
    parts.iter().for_each(|part| bytes.extend_from_slice(&part.0.to_le_bytes()));
    xxh3_64(&bytes)
}
