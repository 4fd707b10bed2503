//! What is sealed leaves the page cache, which counts against a container's memory.

use std::fs::File;
use std::io::IoSliceMut;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use promferry_model::{MemoryBudget, Timestamp};
use promferry_remote_write::spool::{DiskStorage, EndpointOptions, SpoolCore, SpoolOptions};
use promferry_remote_write::{Fragment, LaneSet};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::world::fragment;

const PAGE: u64 = 4096;
const SEGMENT: u64 = 1 << 20;

/// How many of the file's pages are in memory; nothing where the file system does not tell.
fn cached_pages(path: &Path) -> Option<(u64, u64)> {
    let file = File::open(path).unwrap();
    let pages = file.metadata().unwrap().len().div_ceil(PAGE);
    let mut cached = 0;
    for page in 0..pages {
        let mut byte = [0];
        match preadv2(&file, &mut [IoSliceMut::new(&mut byte)], page * PAGE, ReadWriteFlags::NOWAIT) {
            Ok(_) => cached += 1,
            Err(Errno::AGAIN) => {}
            Err(Errno::OPNOTSUPP) => return None,
            Err(error) => panic!("{error}"),
        }
    }
    Some((cached, pages))
}

fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path.extension().is_some_and(|extension| extension == "segment") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn sealed_segments_leave_the_page_cache_and_so_do_those_that_were_read() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::new(directory.path()).unwrap();
    let options =
        SpoolOptions { segment_bytes: SEGMENT, max_bytes: Some(1 << 30), ..SpoolOptions::default() };
    let mut now = Timestamp::from_millis(1_000_000);
    let (mut core, _) = SpoolCore::open(storage, options, MemoryBudget::unlimited(), now).unwrap();
    let log = core.open_log("x").unwrap();
    let endpoint = core.attach("amp", log, EndpointOptions::default()).unwrap();
    for id in 0..200 {
        let body = Bytes::from(vec![id as u8; 40 << 10]);
        let scrape = Fragment { raw_len: body.len() as u32, body, ..fragment(id, 1) };
        core.append_all(now, &[(log, vec![scrape])]).unwrap();
    }
    let files = segments(directory.path());
    assert!(files.len() >= 7, "{files:?}");
    let Some((before, pages)) = cached_pages(&files[0]) else {
        eprintln!("SKIPPED: this file system does not tell what it has in memory");
        return;
    };
    assert!(before * 2 > pages, "what was just written is in memory: {before} of {pages} pages");
    let (last, sealed) = files.split_last().unwrap();
    let mut until_released = |core: &mut SpoolCore<DiskStorage>, what: &str| {
        // Not at once: what is delivered soon need not be written back at all.
        for _ in 0..12 {
            now = now.saturating_add(Duration::from_secs(1));
            core.maintain(now);
        }
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            let (cached, all) = sealed
                .iter()
                .filter_map(|path| cached_pages(path))
                .fold((0, 0), |(cached, all), (c, a)| (cached + c, all + a));
            if cached * 20 < all {
                eprintln!("{what}: {cached} of {all} pages of sealed segments are in memory");
                return now;
            }
            assert!(Instant::now() < limit, "{what}: {cached} of {all} pages are still in memory");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let now = until_released(&mut core, "written");
    let (cached, pages) = cached_pages(last).unwrap();
    assert!(cached * 2 > pages, "the growing one stays: {cached} of {pages}");
    let fetched = core.fetch(now, endpoint, LaneSet::ALL, usize::MAX).unwrap();
    assert_eq!(fetched.len(), 200);
    let (cached, pages) = cached_pages(&sealed[0]).unwrap();
    assert!(cached * 2 > pages, "what was just read is in memory: {cached} of {pages}");
    until_released(&mut core, "read");
}
