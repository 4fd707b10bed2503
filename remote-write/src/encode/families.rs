use std::sync::Arc;

use hashbrown::HashTable;
use promferry_model::{Metadata, MetadataView};
use xxhash_rust::xxh3::xxh3_64;

use super::context::{MetadataPool, view};

/// The metric families of a target by number; 0 is for series without metadata.
#[derive(Debug)]
pub(super) struct Families {
    list: Vec<Option<Arc<Metadata>>>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
}

impl Families {
    pub(super) fn new() -> Self {
        Self { list: vec![None], free: Vec::new(), by_name: HashTable::new() }
    }

    pub(super) fn set(&mut self, metadata: &MetadataView<'_>, pool: &MetadataPool) -> u32 {
        if *metadata == MetadataView::default() {
            return 0;
        }
        let hash = xxh3_64(metadata.family.as_bytes());
        let list = &self.list;
        let same =
            |&at: &u32| list[at as usize].as_ref().is_some_and(|known| known.family == metadata.family);
        if let Some(&known) = self.by_name.find(hash, same) {
            if list[known as usize].as_deref().map(view) != Some(*metadata) {
                self.list[known as usize] = Some(pool.intern(metadata));
            }
            return known;
        }
        let new = Some(pool.intern(metadata));
        let at = match self.free.pop() {
            Some(at) => {
                self.list[at as usize] = new;
                at
            }
            None => {
                self.list.push(new);
                self.list.len() as u32 - 1
            }
        };
        let list = &self.list;
        self.by_name.insert_unique(hash, at, |&at| name_hash(list, at));
        at
    }

    /// What is known of a family.
    pub(super) fn get(&self, family: u32) -> Option<&Metadata> {
        self.list[family as usize].as_deref()
    }

    /// One more than the largest number given out.
    pub(super) fn numbers(&self) -> usize {
        self.list.len()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        for at in 1..self.list.len() as u32 {
            if self.list[at as usize].is_some() && !keep(at) {
                let hash = name_hash(&self.list, at);
                if let Ok(entry) = self.by_name.find_entry(hash, |&known| known == at) {
                    entry.remove();
                }
                self.list[at as usize] = None;
                self.free.push(at);
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        8 * self.list.capacity() + 4 * self.free.capacity() + 5 * self.by_name.capacity()
    }
}

fn name_hash(list: &[Option<Arc<Metadata>>], at: u32) -> u64 {
    xxh3_64(list[at as usize].as_ref().map_or(&[][..], |known| known.family.as_bytes()))
}
