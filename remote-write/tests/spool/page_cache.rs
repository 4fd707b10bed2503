//! What is sealed leaves the page cache, which counts against a container's memory.

use std::fs::File;
use std::io::IoSliceMut;
use std::time::Duration;

use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::LaneSet;
use promferry_remote_write::spool::sim::SimDisk;
use promferry_remote_write::spool::{DiskStorage, EndpointOptions, SpoolCore, SpoolOptions, Storage as _};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::world::{fragment, id_of};

const PAGE: u64 = 4096;

/// Whether a page of the file is in memory; nothing where the file system does not tell. Asking may bring it there,
/// and those behind it: it can be asked once.
fn is_cached(file: &File, page: u64) -> Option<bool> {
    let mut byte = [0];
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], page * PAGE, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(Errno::OPNOTSUPP) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_is_released_leaves_memory_although_it_was_only_just_written() {
    const PAGES: u64 = 1024;
    let directory = tempfile::tempdir().unwrap();
    let mut storage = DiskStorage::new(directory.path()).unwrap();
    let file = storage.create("segment").unwrap();
    storage.write_at(&file, 0, &vec![7; (PAGES * PAGE) as usize]).unwrap();
    let Some(before) = is_cached(&file, PAGES - 1) else {
        eprintln!("SKIPPED: this file system does not tell what it has in memory");
        return;
    };
    assert!(before, "what was just written is in memory");
    storage.release_cache(&file);
    // What the background does is done in order.
    let barrier = storage.create("barrier").unwrap();
    storage.sync_in_background(&barrier).unwrap().recv().unwrap().unwrap();
    assert_eq!((is_cached(&file, 0), is_cached(&file, PAGES / 2)), (Some(false), Some(false)));
    let mut back = vec![0; (PAGES * PAGE) as usize];
    assert_eq!(storage.read_at(&file, 0, &mut back).unwrap(), back.len());
    assert!(back.iter().all(|byte| *byte == 7));
}

#[test]
fn segments_are_released_a_while_after_they_are_sealed_and_after_they_are_read() {
    let disk = SimDisk::new();
    let options = SpoolOptions { segment_bytes: 1_500, ..SpoolOptions::default() };
    let now = |seconds| Timestamp::from_millis(1_000_000).saturating_add(Duration::from_secs(seconds));
    let (mut core, _) = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), now(0)).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    for id in 0..18 {
        core.append_all(now(0), &[(log, vec![fragment(id, 1)])]).unwrap();
    }
    let mut segments: Vec<String> =
        disk.files().into_keys().filter(|path| path.ends_with(".segment")).collect();
    let _growing = segments.pop();
    assert_eq!(segments.len(), 4);
    core.maintain(now(5));
    // What is soon delivered and removed need not be written back at all.
    assert!(disk.take_released().is_empty());
    core.maintain(now(11));
    assert_eq!(disk.take_released(), segments, "all but the growing one");
    core.maintain(now(30));
    assert!(disk.take_released().is_empty(), "once is enough");
    core.fetch(now(30), endpoint, LaneSet::ALL, 700).unwrap();
    core.maintain(now(41));
    assert_eq!(disk.take_released(), segments[..1], "what was read is given back again");
}

#[test]
fn where_records_are_is_not_remembered_beyond_the_bound_while_nothing_is_read() {
    let disk = SimDisk::new();
    let options = SpoolOptions { segment_bytes: 1_500, index_records: 6, ..SpoolOptions::default() };
    let now = |seconds| Timestamp::from_millis(1_000_000).saturating_add(Duration::from_secs(seconds));
    let (mut core, _) = SpoolCore::open(disk.storage(), options, MemoryBudget::unlimited(), now(0)).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("away", log, EndpointOptions::default()).unwrap();
    for id in 0..18 {
        core.append_all(now(0), &[(log, vec![fragment(id, 1)])]).unwrap();
    }
    let mut segments: Vec<String> =
        disk.files().into_keys().filter(|path| path.ends_with(".segment")).collect();
    let _growing = segments.pop();
    assert_eq!(segments.len(), 4);
    // A segment whose index is forgotten is closed, which gives back its page cache before its time.
    core.maintain(now(1));
    assert_eq!(disk.take_released(), segments[..3], "all that are beyond the bound");
    let fetched = core.fetch(now(2), endpoint, LaneSet::ALL, usize::MAX).unwrap();
    let ids: Vec<u32> = fetched.iter().map(|stored| id_of(&stored.fragment)).collect();
    assert_eq!(ids, (0..18).collect::<Vec<_>>());
}
