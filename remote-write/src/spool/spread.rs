//! Which targets' series are spread over several lanes: kept while anything of theirs may wait, so that a target
//! that is another size after a restart does not overtake what it left.

use std::collections::BTreeSet;

use super::core::SpoolCore;
use super::persist::{Replaced, replace};
use super::storage::Storage;
use crate::{Lane, LaneSet};

/// Hashes of targets, each followed by its CRC-32C, little-endian: a damaged one costs itself.
const SPREAD_FILE: &str = "spread";
const ENTRY_LEN: usize = 12;

impl<S: Storage> SpoolCore<S> {
    /// The targets that are known to be spread, and the lanes in which something waited when the spool was opened.
    pub fn spread_targets(&self) -> (Vec<u64>, LaneSet) {
        (self.spread.iter().copied().collect(), self.backlog)
    }

    /// Whether cursors were lost: until their endpoints attach nobody knows what waits for them.
    fn holds_anything(&self) -> bool {
        self.logs.iter().any(|log| log.held_from.is_some())
    }

    /// Of the lanes in which something waited when the spool was opened, those in which some of that still does.
    pub(super) fn remaining_backlog(&self) -> LaneSet {
        if self.holds_anything() {
            return self.backlog;
        }
        let attachments = || self.endpoints.iter().flat_map(|endpoint| &endpoint.attachments);
        let remains = |lane: &Lane| {
            attachments().any(|attachment| {
                let found_until = attachment.log.map_or(0, |log| self.logs[log].found_until);
                attachment.lanes[lane.index()].first_undecided() < found_until
            })
        };
        self.backlog.iter().filter(remains).collect()
    }

    /// Remembers that the series of the target with this hash are spread over several lanes from now on.
    pub fn note_spread(&mut self, target: u64) {
        if self.spread.insert(target) {
            self.spread_unwritten = true;
            self.write_spread();
        }
    }

    /// Takes in what an earlier run noted. Where nothing waits it means nothing any more.
    pub(super) fn read_spread(&mut self) {
        let waits = |lane: &Lane| {
            let mut attachments = self.endpoints.iter().flat_map(|endpoint| &endpoint.attachments);
            attachments.any(|attachment| {
                let state = &attachment.lanes[lane.index()];
                state.unfetched.records > 0 || !state.open.is_empty()
            })
        };
        self.backlog = match self.holds_anything() {
            true => LaneSet::ALL,
            false => Lane::all().filter(waits).collect(),
        };
        for log in &mut self.logs {
            log.found_until = log.next_sequence;
        }
        // Whatever is wrong with the file: then these targets are decided about anew.
        let Ok((_, bytes)) = self.read_whole(SPREAD_FILE) else { return };
        if self.backlog.is_empty() {
            let _ = self.storage.remove(SPREAD_FILE);
            return;
        }
        self.spread = bytes.chunks_exact(ENTRY_LEN).filter_map(read_entry).collect();
    }

    /// Writes what is not written yet, now or, where the disk does not take it, when it is called again.
    pub(super) fn write_spread(&mut self) {
        if !self.spread_unwritten || !self.disk_is_due() {
            return;
        }
        let mut bytes = Vec::with_capacity(self.spread.len() * ENTRY_LEN);
        for target in &self.spread {
            bytes.extend(target.to_le_bytes());
            bytes.extend(crc32c::crc32c(&target.to_le_bytes()).to_le_bytes());
        }
        let written = self
            .make_writable(SPREAD_FILE)
            .and_then(|()| replace(&mut self.storage, SPREAD_FILE, &bytes, self.options.fsync, 0));
        match written {
            Ok(Replaced { unsynced: None, .. }) => self.spread_unwritten = false,
            Ok(Replaced { unsynced: Some(error), .. }) | Err(error) => self.note_failure(&error),
        }
    }
}

fn read_entry(entry: &[u8]) -> Option<u64> {
    let (hash, crc) = entry.split_first_chunk()?;
    (crc == crc32c::crc32c(hash).to_le_bytes()).then(|| u64::from_le_bytes(*hash))
}

pub(super) type Spread = BTreeSet<u64>;
