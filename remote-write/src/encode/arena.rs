use std::sync::Arc;

use promferry_model::{Label, LabelsBuilder, Metadata, MetadataView, SeriesId, Symbol, SymbolTable};

use super::Profile;
use super::context::{MetadataPool, view};
use super::families::Families;
use super::profile::{LabelsHasher, Outgoing};
use super::proto::put_varint;
use super::shape::{PartKind, Shapes};

/// The series of one target. A series is a record: its shape's number, its metric family's number and the
/// symbols of its values, all as varints. Ids, symbols, shapes and families keep their numbers when the
/// arena is compacted.
///
/// A profile that only adds labels needs nothing for a series: its labels are the series' values in a shape
/// with more constants. One with write relabelling has a row for each series.
#[derive(Debug)]
pub(super) struct Arena {
    symbols: SymbolTable,
    records: Vec<u8>,
    /// Where each id's record starts.
    offsets: Vec<u32>,
    free: Vec<u32>,
    /// Records that nothing points to any more.
    dead: usize,
    shapes: Shapes,
    families: Families,
    profiles: Vec<Rows>,
    /// The target's labels, which its shapes hold as constants.
    constants: Vec<Label>,
}

/// What one profile makes of the series.
#[derive(Debug)]
struct Rows {
    profile: Arc<Profile>,
    /// By shape of the series: the shape with the external labels; [`NONE`] where nothing is sent.
    shapes: Vec<u32>,
    /// By series id, if the profile relabels: where the record is, [`SAME`], [`DUPLICATE`] or [`ABSENT`].
    /// Otherwise only as far as there are duplicates.
    rows: Vec<u32>,
}

/// A series' labels for one profile.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) shape: u32,
    /// Where the values' symbols start in the records.
    pub(super) values: usize,
}

const NONE: u32 = u32::MAX;
/// No record: the id is free.
const FREE: u32 = u32::MAX;
/// The profile sends the series' own values.
const SAME: u32 = u32::MAX - 1;
/// The profile does not send the series, because another one leaves under the same labels.
const DUPLICATE: u32 = u32::MAX - 2;
/// The profile does not send the series.
const ABSENT: u32 = u32::MAX;
/// Records end here, so that every offset differs from the marks above.
const MAX_RECORDS: usize = u32::MAX as usize - (1 << 20);
/// Below this many dead records compaction is not worth it.
const WORTH_COMPACTING: usize = 32;

/// Numbers have run out.
#[derive(Debug)]
pub(super) struct Full;

impl Arena {
    pub(super) fn new(constants: Vec<Label>, profiles: &[Arc<Profile>]) -> Self {
        Self {
            symbols: SymbolTable::new(),
            records: Vec::new(),
            offsets: Vec::new(),
            free: Vec::new(),
            dead: 0,
            shapes: Shapes::default(),
            families: Families::new(),
            profiles: profiles.iter().map(Rows::of).collect(),
            constants,
        }
    }

    /// Adds a series that is not in the arena yet; `outgoing` is what each profile makes of its labels.
    pub(super) fn insert(
        &mut self,
        labels: &[Label],
        family: u32,
        outgoing: &[Outgoing],
    ) -> Result<SeriesId, Full> {
        let offset = self.push_record(labels, family, &[])?;
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = u32::try_from(self.offsets.len()).ok().filter(|&id| id < ABSENT).ok_or(Full)?;
                push_sparing(&mut self.offsets, FREE);
                id
            }
        };
        self.offsets[id as usize] = offset;
        for (at, outgoing) in outgoing.iter().enumerate() {
            if let Err(full) = self.derive(at, SeriesId::new(id), outgoing) {
                self.remove(SeriesId::new(id));
                return Err(full);
            }
        }
        Ok(SeriesId::new(id))
    }

    pub(super) fn remove(&mut self, id: SeriesId) {
        if !self.contains(id) {
            return;
        }
        self.dead += 1;
        self.offsets[id.index()] = FREE;
        for rows in &mut self.profiles {
            if let Some(row) = rows.rows.get_mut(id.index()) {
                *row = ABSENT;
            }
        }
        self.free.push(id.index() as u32);
    }

    /// Gives a series another family.
    pub(super) fn set_family(&mut self, id: SeriesId, family: u32) -> Result<(), Full> {
        let Some((row, known)) = self.read(id) else { return Ok(()) };
        if known == family {
            return Ok(());
        }
        let old = self.offsets[id.index()];
        let end = old as usize + self.record_len(old);
        let offset = self.next_offset()?;
        let mut record = Vec::new();
        put_varint(&mut record, u64::from(row.shape));
        put_varint(&mut record, u64::from(family));
        record.extend_from_slice(&self.records[row.values..end]);
        self.dead += 1;
        extend_sparing(&mut self.records, &record);
        self.offsets[id.index()] = offset;
        Ok(())
    }

    /// Takes over another list of profiles. What is known for one that stays is kept, the rest is derived
    /// now, from the series' own labels. Series that can't be numbered under a profile are absent in it.
    pub(super) fn set_profiles(&mut self, profiles: &[Arc<Profile>]) {
        let mut old = std::mem::take(&mut self.profiles);
        for profile in profiles {
            match old.iter().position(|rows| Arc::ptr_eq(&rows.profile, profile)) {
                Some(at) => self.profiles.push(old.swap_remove(at)),
                None => {
                    self.profiles.push(Rows::of(profile));
                    let at = self.profiles.len() - 1;
                    for id in (0..self.offsets.len() as u32).map(SeriesId::new) {
                        if let Some(outgoing) = self.outgoing(at, id) {
                            // Out of numbers leaves the row absent, as it was made.
                            let _ = self.derive(at, id, &outgoing);
                        }
                    }
                }
            }
        }
        // What belonged to profiles that are gone is as good as dead series.
        self.dead += old.iter().flat_map(|rows| &rows.rows).filter(|&&row| row < DUPLICATE).count();
    }

    /// The number of a metric family, whose metadata is from now on `metadata`.
    pub(super) fn set_metadata(&mut self, metadata: &MetadataView<'_>, pool: &MetadataPool) -> u32 {
        self.families.set(metadata, pool)
    }

    /// Whether a quarter of the records is dead, so that [`Arena::compact`] is worth its while.
    pub(super) fn wants_compaction(&self) -> bool {
        self.dead >= WORTH_COMPACTING && self.dead * 4 >= self.dead + self.len()
    }

    /// Frees what no series needs any more, and what tables hold in reserve. Every number in use stays.
    pub(super) fn compact(&mut self) {
        let mut records = Vec::with_capacity(self.records.len());
        let mut shapes = vec![false; self.shapes.numbers()];
        let mut families = vec![false; self.families.numbers()];
        let mut symbols = vec![false; self.symbols.slots()];
        let mut offsets = std::mem::take(&mut self.offsets);
        for offset in offsets.iter_mut().filter(|offset| **offset != FREE) {
            *offset = self.copy_record(*offset, &mut records, &mut shapes, &mut families, &mut symbols);
        }
        let base = shapes.clone();
        for at in 0..self.profiles.len() {
            let mut rows = std::mem::take(&mut self.profiles[at].rows);
            for row in rows.iter_mut().filter(|row| **row < DUPLICATE) {
                *row = self.copy_record(*row, &mut records, &mut shapes, &mut families, &mut symbols);
            }
            self.profiles[at].rows = rows;
            for (shape, derived) in self.profiles[at].shapes.iter_mut().enumerate() {
                match *derived {
                    NONE => {}
                    _ if !base[shape] => *derived = NONE,
                    in_use => shapes[in_use as usize] = true,
                }
            }
        }
        self.shapes.retain(|shape| shapes[shape as usize], |symbol| symbols[symbol.index()] = true);
        self.symbols.retain(|symbol| symbols[symbol.index()]);
        self.families.retain(|family| families[family as usize]);
        records.shrink_to_fit();
        self.records = records;
        let used = offsets.iter().rposition(|&offset| offset != FREE).map_or(0, |last| last + 1);
        offsets.truncate(used);
        offsets.shrink_to_fit();
        self.offsets = offsets;
        self.free.retain(|&id| (id as usize) < used);
        self.free.shrink_to_fit();
        for rows in &mut self.profiles {
            rows.rows.truncate(used);
            rows.rows.shrink_to_fit();
        }
        self.dead = 0;
    }

    /// The target's labels.
    pub(super) fn constants(&self) -> &[Label] {
        &self.constants
    }

    pub(super) const fn symbols(&self) -> &SymbolTable {
        &self.symbols
    }

    pub(super) const fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The metadata of a family; `None` where nothing is known.
    pub(super) fn metadata(&self, family: u32) -> Option<&Metadata> {
        self.families.get(family)
    }

    /// The records, for [`Row::values`].
    pub(super) fn records(&self) -> &[u8] {
        &self.records
    }

    /// The series' own labels and its family.
    pub(super) fn read(&self, id: SeriesId) -> Option<(Row, u32)> {
        let offset = self.offsets.get(id.index()).copied().filter(|&offset| offset != FREE)?;
        Some(self.read_record(offset))
    }

    /// The labels that profile number `profile` makes of the series' own; `None` when it drops the series.
    pub(super) fn row(&self, profile: usize, id: SeriesId, own: Row) -> Option<Row> {
        let rows = &self.profiles[profile];
        match rows.rows.get(id.index()) {
            Some(&(ABSENT | DUPLICATE)) => None,
            None | Some(&SAME) => {
                let shape = rows.shapes.get(own.shape as usize).copied().filter(|&shape| shape != NONE)?;
                Some(Row { shape, values: own.values })
            }
            Some(&offset) => Some(self.read_record(offset).0),
        }
    }

    /// The names and values of a row, in order.
    pub(super) fn pairs(&self, row: Row) -> impl Iterator<Item = (Symbol, Symbol)> {
        let mut at = row.values;
        let mut in_run: &[(Symbol, Symbol)] = &[];
        let mut parts = self.shapes.parts(row.shape).iter();
        std::iter::from_fn(move || {
            if let Some((&pair, rest)) = in_run.split_first() {
                in_run = rest;
                return Some(pair);
            }
            match parts.next()?.kind() {
                PartKind::Run(run) => {
                    let (&first, rest) = self.shapes.run(run).pairs.split_first()?;
                    in_run = rest;
                    Some(first)
                }
                PartKind::Slot(name) => {
                    Some((name, Symbol::from_index(take_number(&self.records, &mut at) as usize)))
                }
            }
        })
    }

    /// The series' own labels.
    pub(super) fn labels(&self, id: SeriesId) -> Option<LabelsBuilder> {
        let (row, _) = self.read(id)?;
        let texts = self.pairs(row).map(|(name, value)| (self.symbols.get(name), self.symbols.get(value)));
        let labels: Vec<Label> = texts.map(|(name, value)| promferry_model::label(name, value)).collect();
        let mut builder = LabelsBuilder::new();
        builder.reset(&labels);
        Some(builder)
    }

    /// The hash of the series' own labels, as [`promferry_model::hash_labels`] counts it.
    pub(super) fn hash(&self, id: SeriesId, seed: u64) -> Option<u64> {
        let (row, _) = self.read(id)?;
        Some(self.hash_row(row, seed))
    }

    /// The hash of the labels under which profile number `profile` sends the series; `None` if it does not.
    pub(super) fn outgoing_hash(&self, profile: usize, id: SeriesId, seed: u64) -> Option<u64> {
        let (own, _) = self.read(id)?;
        Some(self.hash_row(self.row(profile, id, own)?, seed))
    }

    fn hash_row(&self, row: Row, seed: u64) -> u64 {
        let mut hasher = LabelsHasher::new(seed);
        for (name, value) in self.pairs(row) {
            hasher.add(self.symbols.get(name), self.symbols.get(value));
        }
        hasher.finish()
    }

    /// What profile number `profile` makes of a series that is there.
    pub(super) fn outgoing(&self, profile: usize, id: SeriesId) -> Option<Outgoing> {
        let (_, family) = self.read(id)?;
        let metadata = self.metadata(family).map(view).unwrap_or_default();
        let labels = self.labels(id)?;
        Some(self.profiles[profile].profile.outgoing(labels.as_slice(), &self.constants, metadata))
    }

    /// Keeps a series from being sent by profile number `profile`: another leaves under the same labels.
    pub(super) fn set_duplicate(&mut self, profile: usize, id: SeriesId) {
        let rows = &mut self.profiles[profile].rows;
        while rows.len() <= id.index() {
            push_sparing(rows, SAME);
        }
        if rows[id.index()] < DUPLICATE {
            self.dead += 1;
        }
        rows[id.index()] = DUPLICATE;
    }

    /// Whether the series is kept from being sent for that.
    pub(super) fn is_duplicate(&self, profile: usize, id: SeriesId) -> bool {
        self.profiles[profile].rows.get(id.index()) == Some(&DUPLICATE)
    }

    /// Has profile number `profile` send a series after all; false when numbers have run out.
    pub(super) fn unset_duplicate(&mut self, profile: usize, id: SeriesId) -> bool {
        let Some(outgoing) = self.outgoing(profile, id) else { return false };
        self.profiles[profile].rows[id.index()] = ABSENT;
        self.derive(profile, id, &outgoing).is_ok()
    }

    /// Whether the series has exactly these labels.
    pub(super) fn has_labels(&self, id: SeriesId, labels: &[Label]) -> bool {
        let Some((row, _)) = self.read(id) else { return false };
        let mut known = self.pairs(row);
        labels.iter().all(|label| {
            known.next().is_some_and(|(name, value)| {
                self.symbols.get(name) == label.name && self.symbols.get(value) == label.value
            })
        }) && known.next().is_none()
    }

    pub(super) fn contains(&self, id: SeriesId) -> bool {
        self.offsets.get(id.index()).is_some_and(|&offset| offset != FREE)
    }

    /// The ids in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        (0..self.offsets.len() as u32).map(SeriesId::new).filter(|&id| self.contains(id))
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - self.free.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let profiles: usize =
            self.profiles.iter().map(|rows| 4 * (rows.rows.capacity() + rows.shapes.capacity())).sum();
        self.symbols.memory_bytes()
            + self.records.capacity()
            + 4 * (self.offsets.capacity() + self.free.capacity())
            + self.shapes.memory_bytes()
            + self.families.memory_bytes()
            + profiles
    }

    /// An upper bound of what another series with these labels adds, apart from doublings of tables.
    pub(super) fn bytes_for(&self, labels: &[Label]) -> usize {
        let texts: usize = labels.iter().map(|label| label.name.len() + label.value.len() + 30).sum();
        (1 + self.profiles.len()) * texts + 64
    }

    /// Fills the row of a series in a profile, and notes the shape that the series' shape becomes.
    fn derive(&mut self, at: usize, id: SeriesId, outgoing: &Outgoing) -> Result<(), Full> {
        let profile = Arc::clone(&self.profiles[at].profile);
        let Some((own, family)) = self.read(id) else { return Ok(()) };
        let shape = own.shape as usize;
        if self.profiles[at].shapes.get(shape).is_none_or(|&known| known == NONE) {
            let derived = self.shape_with_external(own.shape, &profile)?;
            let shapes = &mut self.profiles[at].shapes;
            if shapes.len() <= shape {
                shapes.resize(shape + 1, NONE);
            }
            // A series without any label is not sent.
            if !self.shapes.parts(derived).is_empty() {
                shapes[shape] = derived;
            }
        }
        if profile.keeps_every_series() {
            if let Some(row) = self.profiles[at].rows.get_mut(id.index()) {
                *row = SAME;
            }
            return Ok(());
        }
        while self.profiles[at].rows.len() <= id.index() {
            push_sparing(&mut self.profiles[at].rows, ABSENT);
        }
        let row = match outgoing {
            Outgoing::Nothing => ABSENT,
            Outgoing::Own => SAME,
            Outgoing::Other(labels) => self.push_record(labels, family, &profile.external_labels)?,
        };
        self.profiles[at].rows[id.index()] = row;
        Ok(())
    }

    fn shape_with_external(&mut self, own: u32, profile: &Profile) -> Result<u32, Full> {
        if profile.external_labels.is_empty() {
            return Ok(own);
        }
        let mut labels: Vec<(Symbol, Option<Symbol>)> = Vec::new();
        for part in self.shapes.parts(own) {
            match part.kind() {
                PartKind::Slot(name) => labels.push((name, None)),
                PartKind::Run(run) => {
                    let pairs = &self.shapes.run(run).pairs;
                    labels.extend(pairs.iter().map(|&(name, value)| (name, Some(value))));
                }
            }
        }
        for external in &profile.external_labels {
            let place = labels.binary_search_by(|&(name, _)| self.symbols.get(name).cmp(&external.name));
            if let Err(at) = place {
                let name = self.symbols.intern(&external.name).ok_or(Full)?;
                let value = self.symbols.intern(&external.value).ok_or(Full)?;
                labels.insert(at, (name, Some(value)));
            }
        }
        self.shapes.intern(&labels, &self.symbols).ok_or(Full)
    }

    fn push_record(&mut self, labels: &[Label], family: u32, more_constants: &[Label]) -> Result<u32, Full> {
        let offset = self.next_offset()?;
        let mut values = Vec::with_capacity(2 * labels.len());
        let mut names = Vec::with_capacity(labels.len());
        for label in labels {
            let name = self.symbols.intern(&label.name).ok_or(Full)?;
            let value = self.symbols.intern(&label.value).ok_or(Full)?;
            let constant = [&self.constants, more_constants].iter().any(|list| {
                list.binary_search_by(|known| known.name.cmp(&label.name))
                    .is_ok_and(|at| list[at].value == label.value)
            });
            if !constant {
                put_varint(&mut values, value.index() as u64);
            }
            names.push((name, constant.then_some(value)));
        }
        let shape = self.shapes.intern(&names, &self.symbols).ok_or(Full)?;
        let mut record = Vec::with_capacity(values.len() + 10);
        put_varint(&mut record, u64::from(shape));
        put_varint(&mut record, u64::from(family));
        record.extend_from_slice(&values);
        extend_sparing(&mut self.records, &record);
        Ok(offset)
    }

    fn next_offset(&self) -> Result<u32, Full> {
        u32::try_from(self.records.len()).ok().filter(|&at| (at as usize) < MAX_RECORDS).ok_or(Full)
    }

    fn read_record(&self, offset: u32) -> (Row, u32) {
        let mut at = offset as usize;
        let shape = take_number(&self.records, &mut at);
        let family = take_number(&self.records, &mut at);
        (Row { shape, values: at }, family)
    }

    fn slots(&self, shape: u32) -> usize {
        self.shapes.parts(shape).iter().filter(|part| matches!(part.kind(), PartKind::Slot(_))).count()
    }

    fn record_len(&self, offset: u32) -> usize {
        let (row, _) = self.read_record(offset);
        let mut at = row.values;
        for _ in 0..self.slots(row.shape) {
            take_number(&self.records, &mut at);
        }
        at - offset as usize
    }

    fn copy_record(
        &self,
        offset: u32,
        to: &mut Vec<u8>,
        shapes: &mut [bool],
        families: &mut [bool],
        symbols: &mut [bool],
    ) -> u32 {
        let (row, family) = self.read_record(offset);
        shapes[row.shape as usize] = true;
        families[family as usize] = true;
        let mut at = row.values;
        for _ in 0..self.slots(row.shape) {
            symbols[take_number(&self.records, &mut at) as usize] = true;
        }
        let copied = to.len() as u32;
        to.extend_from_slice(&self.records[offset as usize..at]);
        copied
    }
}

impl Rows {
    fn of(profile: &Arc<Profile>) -> Self {
        Self { profile: Arc::clone(profile), shapes: Vec::new(), rows: Vec::new() }
    }
}

/// A varint that this arena wrote.
#[inline]
pub(super) fn take_number(records: &[u8], at: &mut usize) -> u32 {
    let mut value = 0u32;
    let mut shift = 0;
    while let Some(&byte) = records.get(*at) {
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    value
}

/// Grows by an eighth instead of doubling: these arrays live as long as the target, many at a time.
fn extend_sparing(to: &mut Vec<u8>, bytes: &[u8]) {
    if to.capacity() - to.len() < bytes.len() {
        to.reserve_exact(bytes.len().max(to.len() / 8 + 64));
    }
    to.extend_from_slice(bytes);
}

fn push_sparing(to: &mut Vec<u32>, item: u32) {
    if to.len() == to.capacity() {
        to.reserve_exact(to.len() / 8 + 16);
    }
    to.push(item);
}
