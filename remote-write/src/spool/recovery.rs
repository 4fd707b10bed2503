use std::collections::BTreeSet;
use std::io;

use promferry_model::{MemoryBudget, Timestamp};

use super::core::{CURSOR_DIRECTORY, SpoolCore, cursor_path, key_hash, log_directory};
use super::cursor::{self, CURSOR_HEADER, CursorRecord};
use super::endpoint::{Amount, Attachment, Endpoint};
use super::error::{SpoolError, is_disk_trouble, storage_error};
use super::ledger::Reason;
use super::log::Log;
use super::options::SpoolOptions;
use super::persist::{LOG_KEY_FILE, SET_ASIDE_SUFFIX, Warned};
use super::record::HEADER_LEN;
use super::segment::{Body, HeaderFound, SEGMENT_HEADER_LEN, Segment, SegmentHeader, scan};
use super::spread::Spread;
use super::stats::{RecoveryReport, StorageState};
use super::storage::Storage;
use super::time::Time;
use crate::{Counts, LaneSet};

/// What is taken of a disk that is as good as full: it may empty.
const MIN_MAX_BYTES: u64 = 1 << 20;
/// The lock file, at the storage's root.
pub(super) const LOCK_FILE: &str = "lock";
pub(super) const SEGMENT_SUFFIX: &str = ".segment";
pub(super) const CURSOR_SUFFIX: &str = ".cursor";
pub(super) const LOG_PREFIX: &str = "log-";
pub(super) const CURSOR_HEADER_LEN: usize = CURSOR_HEADER.len() + 4;

impl<S: Storage> SpoolCore<S> {
    /// Opens the spool that is in the storage, or begins one, and finds out what an earlier run left in it.
    ///
    /// Bodies are not read: what is damaged in them is found when they are fetched.
    ///
    /// # Errors
    /// [`SpoolError::Locked`] when another process works in it, [`SpoolError::Storage`] when directories can't
    /// be created or listed or a file can't be read.
    pub fn open(
        mut storage: S,
        options: SpoolOptions,
        budget: MemoryBudget,
        now: Timestamp,
    ) -> Result<(Self, RecoveryReport), SpoolError> {
        let mut trouble = None;
        let locked = match storage.lock(LOCK_FILE) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let holder = storage.lock_holder(LOCK_FILE);
                return Err(SpoolError::Locked { path: LOCK_FILE.to_owned(), holder });
            }
            // It is taken before anything is written.
            Err(error) if is_disk_trouble(&error) => {
                trouble = Some(storage_error("lock", LOCK_FILE)(error));
                false
            }
            Err(error) => return Err(storage_error("lock", LOCK_FILE)(error)),
        };
        match storage.create_directory(CURSOR_DIRECTORY) {
            Err(error) if !is_disk_trouble(&error) => {
                return Err(storage_error("create", CURSOR_DIRECTORY)(error));
            }
            Err(error) => trouble = Some(storage_error("create", CURSOR_DIRECTORY)(error)),
            Ok(()) => {}
        }
        let mut core = Self {
            storage,
            options,
            budget,
            logs: Vec::new(),
            endpoints: Vec::new(),
            max_bytes: 0,
            state: StorageState::Healthy,
            time: Time::new(now),
            // A lock that was had where nothing can be created may not be the one that others take: it is taken again
            // before anything is written.
            locked: locked && trouble.is_none(),
            disk_full: false,
            retry_at: i64::MIN,
            reads: 0,
            synced_at: 0,
            syncing: Vec::new(),
            keep: Vec::new(),
            warned: Warned::default(),
            spread: Spread::new(),
            spread_unwritten: false,
            backlog: LaneSet::EMPTY,
            lost_cursors: BTreeSet::new(),
            appended: false,
            settle_mismatches: 0,
            buffer: Vec::new(),
        };
        if let Some(error) = &trouble {
            core.note_failure(error);
        }
        let mut report = RecoveryReport::default();
        core.read_cursors(&mut report)?;
        core.link_parked();
        core.read_logs(&mut report)?;
        core.max_bytes = match core.options.max_bytes {
            Some(bytes) => bytes,
            None => {
                let used: u64 = core.logs.iter().map(Log::bytes).sum();
                let free = core.storage.free_space().unwrap_or(SpoolOptions::DEFAULT_MAX_BYTES);
                ((free + used) / 2).clamp(MIN_MAX_BYTES, SpoolOptions::DEFAULT_MAX_BYTES)
            }
        };
        core.balance(&mut report);
        for endpoint in 0..core.endpoints.len() {
            // Those whose cursor is lost are brought together when they attach.
            let parked = core.endpoints[endpoint].parked.map(|parked| &core.endpoints[parked].path);
            if parked.is_some_and(|path| !core.lost_cursors.contains(path)) {
                core.account_for_parked(endpoint);
            }
        }
        core.hold_unclaimed(&mut report);
        core.read_spread();
        for endpoint in 0..core.endpoints.len() {
            core.retire(endpoint);
        }
        for log in 0..core.logs.len() {
            core.drop_decided_segments(log);
        }
        core.write_cursors();
        for endpoint in core.endpoints.iter().filter(|endpoint| !endpoint.is_parked()) {
            let ledger = core.whole_ledger(endpoint);
            report.endpoints.push((endpoint.key.clone(), ledger.pending));
        }
        Ok((core, report))
    }

    fn read_cursors(&mut self, report: &mut RecoveryReport) -> Result<(), SpoolError> {
        let names = self.list(CURSOR_DIRECTORY)?;
        for name in names.iter().filter(|name| name.ends_with(CURSOR_SUFFIX)) {
            let path = format!("{CURSOR_DIRECTORY}/{name}");
            let (file, bytes) = match self.read_whole(&path) {
                Ok(read) => read,
                Err(error) => {
                    self.pass_over_unreadable(&path, error, report)?;
                    self.note_lost_cursor(&path, report);
                    continue;
                }
            };
            let header = bytes.get(..CURSOR_HEADER_LEN).unwrap_or(&bytes);
            let ours = header.starts_with(&CURSOR_HEADER);
            let intact = header.len() == CURSOR_HEADER_LEN
                && header[CURSOR_HEADER.len()..]
                    == crc32c::crc32c(&header[..CURSOR_HEADER.len()]).to_le_bytes();
            let found = cursor::scan(bytes.get(CURSOR_HEADER_LEN..).unwrap_or_default());
            if (intact && !ours) || (!intact && found.records.is_empty() && !bytes.is_empty()) {
                self.set_aside(&path, report);
                self.note_lost_cursor(&path, report);
                continue;
            }
            report.damaged += found.damaged + u64::from(!intact);
            if found.records.is_empty() {
                // A name that came to last without what it stands for.
                self.note_lost_cursor(&path, report);
                continue;
            }
            let last_named =
                found.records.iter().filter_map(CursorRecord::attachment).max().unwrap_or_default();
            let mut endpoint = Endpoint::new(String::new(), path.clone());
            for record in found.records {
                apply(&mut endpoint, record);
            }
            if !endpoint.key.is_empty() && cursor_path(&endpoint.key) != path {
                // Another endpoint's: what it says is not about this one.
                self.set_aside(&path, report);
                self.note_lost_cursor(&path, report);
                continue;
            }
            let last_known = endpoint.attachments.last().map_or(endpoint.retired.attachment, |last| last.id);
            if last_known < last_named.max(1) {
                // Where its last attachment begins is damaged: what it had settled of that means nothing.
                self.note_lost_cursor(&path, report);
                endpoint.next_attachment = endpoint.next_attachment.max(last_named + 1);
            }
            let lost = self.lost_cursors.contains(&path);
            endpoint.damaged = !intact || found.damaged > 0;
            endpoint.file = Some(file);
            // What follows the last good record is written over; where more than that is wrong, everything.
            endpoint.file_len = (CURSOR_HEADER_LEN + found.end) as u64;
            // A lost one stays as it is until its endpoint attaches.
            let damaged = !intact || found.damaged > 0 || endpoint.file_len != bytes.len() as u64;
            endpoint.rewrite = damaged && !lost;
            self.endpoints.push(endpoint);
        }
        // Those that an earlier start has set aside, and whose endpoints have not attached since.
        for name in names.iter().filter(|name| name.ends_with(SET_ASIDE_SUFFIX)) {
            let Some((name, _)) = name.split_once(CURSOR_SUFFIX) else { continue };
            let name = format!("{name}{CURSOR_SUFFIX}");
            if !names.contains(&name) {
                self.note_lost_cursor(&format!("{CURSOR_DIRECTORY}/{name}"), report);
            }
        }
        Ok(())
    }

    fn read_logs(&mut self, report: &mut RecoveryReport) -> Result<(), SpoolError> {
        let names = self.list(".")?;
        let hash = |name: &String| u64::from_str_radix(name.strip_prefix(LOG_PREFIX)?, 16).ok();
        let mut hashes: Vec<u64> = names.iter().filter_map(hash).collect();
        hashes.retain(|hash| names.contains(&log_directory(*hash)));
        // How much of a parked queue counts is seen from what is left of its endpoint's own log.
        hashes.sort_by_key(|hash| self.parked_queue(*hash).is_some());
        for hash in hashes {
            self.read_log(hash, log_directory(hash), report)?;
        }
        Ok(())
    }

    fn read_log(
        &mut self,
        hash: u64,
        directory: String,
        report: &mut RecoveryReport,
    ) -> Result<(), SpoolError> {
        let path = format!("{directory}/{LOG_KEY_FILE}");
        // A key that is damaged or missing is written again when the log is opened by its key.
        let key = match self.read_whole(&path) {
            Ok((_, bytes)) => String::from_utf8(bytes).ok().filter(|key| key_hash(key) == hash),
            Err(_) => None,
        };
        // Without its key the log is found by its directory's name.
        let mut log = Log::new(key.unwrap_or_default(), hash, directory);
        let number = self.logs.len();
        for endpoint in &mut self.endpoints {
            for attachment in &mut endpoint.attachments {
                if key_hash(&attachment.log_key) == hash {
                    attachment.log = Some(number);
                }
            }
        }
        let files = self.read_segment_headers(&mut log, report)?;
        let limit = self.parked_limit(hash);
        let mut files = files.into_iter().peekable();
        while let Some(found) = files.next() {
            let end = files.peek().map(|next| next.first_sequence);
            if self.read_segment(number, &mut log, found, (end, limit), report)? {
                // What a crash left half parked goes on behind the limit.
                for SegmentFile { path, length, first_sequence, .. } in files.by_ref() {
                    report.torn_bytes += length;
                    if let Err(error) = self.storage.remove(&path) {
                        log.next_sequence = log.next_sequence.max(first_sequence + 1);
                        self.note_failure(&storage_error("remove", &path)(error));
                    }
                }
            }
        }
        self.logs.push(log);
        Ok(())
    }

    fn read_segment_headers(
        &mut self,
        log: &mut Log<S::File>,
        report: &mut RecoveryReport,
    ) -> Result<Vec<SegmentFile<S::File>>, SpoolError> {
        let names = self.list(&log.directory)?;
        let mut files = Vec::new();
        for name in names {
            let Some(number) = name.strip_suffix(SEGMENT_SUFFIX) else { continue };
            let Ok(named) = u64::from_str_radix(number, 16) else { continue };
            let path = format!("{}/{name}", log.directory);
            let mut header = [0; SEGMENT_HEADER_LEN];
            let opened = self.read_start(&path, &mut header);
            let (file, length, read) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    self.pass_over_unreadable(&path, error, report)?;
                    log.next_sequence = log.next_sequence.max(named + 1);
                    continue;
                }
            };
            let decoded = SegmentHeader::decode(&header);
            let foreign = read == SEGMENT_HEADER_LEN && decoded == HeaderFound::Overwritten;
            let header = match decoded {
                // Shorter than that, its creation was cut off.
                _ if read < SEGMENT_HEADER_LEN => None,
                HeaderFound::Valid(header)
                    if header.log_hash == log.hash && header.first_sequence == named =>
                {
                    Some(header)
                }
                HeaderFound::Damaged | HeaderFound::Overwritten => {
                    report.damaged += 1;
                    None
                }
                HeaderFound::Valid(_) | HeaderFound::Unknown => {
                    if !self.set_aside(&path, report) {
                        // A new segment must not take its name.
                        log.next_sequence = log.next_sequence.max(named + 1);
                    }
                    continue;
                }
            };
            files.push(SegmentFile { path, file, length, first_sequence: named, header, foreign });
        }
        // By number: names are sorted, but only as long as all are of one length.
        files.sort_by_key(|file| file.first_sequence);
        Ok(files)
    }

    /// Reads the segment that ends before the sequence `end` where another follows it. Says whether the log
    /// ends with it although others follow: it holds more than `limit`.
    fn read_segment(
        &mut self,
        number: usize,
        log: &mut Log<S::File>,
        found: SegmentFile<S::File>,
        (end, limit): (Option<u64>, Option<Counts>),
        report: &mut RecoveryReport,
    ) -> Result<bool, SpoolError> {
        let SegmentFile { path, file, length, first_sequence, header, foreign } = found;
        let accepted = header.map_or(log.accepted, |header| header.accepted_before);
        let sequences = first_sequence..end.unwrap_or(u64::MAX);
        let scanned = scan(&mut self.storage, &file, length, sequences, accepted, end.is_none(), limit)
            .map_err(storage_error("read", &path))?;
        let end = end.filter(|_| !scanned.beyond_limit);
        report.damaged += scanned.damaged;
        report.records += scanned.records.len() as u64;
        let unreadable = scanned.unreadable && end.is_none();
        if unreadable {
            // What can't be read is not torn: it may be readable one day. What comes next takes no number that it
            // may have.
            report.damaged += 1;
            let unread = length.saturating_sub(scanned.end) / HEADER_LEN as u64 + 1;
            let next = scanned.records.last().map_or(first_sequence, |last| last.sequence + 1);
            log.next_sequence = log.next_sequence.max(next + unread);
            tracing::error!("the end of the spool's {path:?} can't be read: what is in it is left alone");
        } else if foreign && scanned.records.is_empty() {
            if !self.set_aside(&path, report) {
                // A new segment must not take its name.
                log.next_sequence = log.next_sequence.max(first_sequence + 1);
            }
            return Ok(scanned.beyond_limit);
        } else if header.is_none() && scanned.records.is_empty() {
            // Nothing of a scrape is in it.
            if length > 0 {
                tracing::warn!(
                    "the spool's {path:?} of {length} bytes holds no complete scrape and is removed"
                );
            }
            report.torn_bytes += length;
            if let Err(error) = self.storage.remove(&path) {
                // A segment of this name replaces it.
                self.note_failure(&storage_error("remove", &path)(error));
            }
            return Ok(scanned.beyond_limit);
        }
        let mut grows = end.is_none() && header.is_some() && !unreadable;
        if end.is_none() && !unreadable && length > scanned.end {
            report.torn_bytes += length - scanned.end;
            if let Err(error) = self.storage.truncate(&file, scanned.end) {
                // The next segment's first sequence tells where this one ends.
                self.note_failure(&storage_error("truncate", &path)(error));
                grows = false;
            }
        }
        report.segments += 1;
        let now = self.time.now().as_millis();
        log.accepted = scanned.accepted;
        let mut segment = Segment::new(first_sequence, accepted, Body::Disk(Some(file)));
        for meta in scanned.records {
            segment.push(meta, scanned.min_timestamp);
            segment.latest_past = segment.latest_past.max(meta.max_timestamp.min(now));
            let amount = Amount { records: 1, bytes: meta.body_len.into(), counts: meta.counts() };
            for attachment in self.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.attachments) {
                if attachment.log != Some(number) || !attachment.covers(meta.sequence) {
                    continue;
                }
                let state = &mut attachment.lanes[meta.lane.index()];
                if meta.sequence > state.settled {
                    state.unfetched.add(amount);
                    segment.undecided += 1;
                }
            }
        }
        segment.bytes = scanned.end;
        segment.unreadable = scanned.unreadable;
        log.next_sequence = log.next_sequence.max(segment.end_sequence);
        if end.is_some() {
            segment.close(&mut self.storage);
        } else {
            log.growing = grows;
        }
        log.segments.push_back(segment);
        Ok(scanned.beyond_limit)
    }

    /// Brings logs and cursors together: where a cursor knows of more than the log holds, the log goes on
    /// after that; where the log accepted more than the cursor and the records account for, it was lost.
    fn balance(&mut self, report: &mut RecoveryReport) {
        for (number, log) in self.logs.iter_mut().enumerate() {
            let (mut next_sequence, mut accepted) = (log.next_sequence, log.accepted);
            for attachment in self.endpoints.iter().flat_map(|endpoint| &endpoint.attachments) {
                if attachment.log != Some(number) {
                    continue;
                }
                next_sequence = next_sequence.max(attachment.start);
                accepted = most(accepted, attachment.start_accepted);
                for lane in &attachment.lanes {
                    next_sequence = next_sequence.max(lane.settled + 1);
                }
                match attachment.end {
                    Some((end, counts)) => {
                        next_sequence = next_sequence.max(end);
                        accepted = most(accepted, counts);
                    }
                    None => {
                        let known = attachment.delivered()
                            + attachment.dropped().total()
                            + attachment.pending().counts;
                        accepted = most(accepted, attachment.start_accepted + known);
                    }
                }
            }
            if (next_sequence, accepted) != (log.next_sequence, log.accepted) {
                (log.next_sequence, log.accepted) = (next_sequence, accepted);
                log.growing = false;
            }
        }
        for number in 0..self.endpoints.len() {
            let endpoint = &mut self.endpoints[number];
            let mut records = Vec::new();
            for attachment in &mut endpoint.attachments {
                let known =
                    attachment.delivered() + attachment.dropped().total() + attachment.pending().counts;
                let Some(log) = attachment.log else {
                    // The log is gone and with it what was not settled; how much nobody knows unless it ended.
                    let end = attachment.end.get_or_insert((u64::MAX, attachment.start_accepted + known));
                    let missing = (end.1 - attachment.start_accepted) - known;
                    report.lost += missing;
                    attachment.lost.add(&Reason::CORRUPT, missing);
                    endpoint.rewrite = true;
                    continue;
                };
                let accepted = attachment.accepted(self.logs[log].accepted);
                let missing = accepted - known;
                if !missing.is_zero() {
                    report.lost += missing;
                    attachment.lost.add(&Reason::CORRUPT, missing);
                    records.push(CursorRecord::Lost {
                        attachment: attachment.id,
                        dropped: attachment.lost.clone(),
                    });
                }
                // More than was accepted can only come of a damaged cursor file: it was accepted.
                let surplus = known - accepted;
                if !surplus.is_zero() {
                    attachment.start_accepted = attachment.start_accepted - surplus;
                    endpoint.rewrite = true;
                }
            }
            if !records.is_empty() {
                self.write_cursor(number, &records);
            }
        }
    }

    pub(super) fn read_whole(&mut self, path: &str) -> Result<(S::File, Vec<u8>), SpoolError> {
        let file = self.storage.open(path).map_err(storage_error("open", path))?;
        let length = self.storage.len(&file).map_err(storage_error("read", path))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = self.storage.read_at(&file, 0, &mut bytes).map_err(storage_error("read", path))?;
        bytes.truncate(read);
        Ok((file, bytes))
    }

    fn read_start(
        &mut self,
        path: &str,
        header: &mut [u8; SEGMENT_HEADER_LEN],
    ) -> Result<(S::File, u64, usize), SpoolError> {
        let file = self.storage.open(path).map_err(storage_error("open", path))?;
        let length = self.storage.len(&file).map_err(storage_error("read", path))?;
        let read = self.storage.read_at(&file, 0, header).map_err(storage_error("read", path))?;
        Ok((file, length, read))
    }

    /// The names in a directory; none where a disk in trouble did not let it be created.
    fn list(&mut self, directory: &str) -> Result<Vec<String>, SpoolError> {
        match self.storage.list(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed.map_err(storage_error("list", directory)),
        }
    }

    /// Leaves a file alone that the disk does not give back: it may be readable one day.
    fn pass_over_unreadable(
        &mut self,
        path: &str,
        error: SpoolError,
        report: &mut RecoveryReport,
    ) -> Result<(), SpoolError> {
        match error {
            SpoolError::Storage { source, .. } if is_disk_trouble(&source) => {
                tracing::error!("the spool's {path:?} can't be read and is set aside: {source}");
                report.damaged += 1;
                self.set_aside(path, report);
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Renames a file that is not understood; says whether that went well. Where it did not, the file is kept
    /// from being written over.
    fn set_aside(&mut self, path: &str, report: &mut RecoveryReport) -> bool {
        let aside = self.set_aside_path(path);
        match self.storage.rename(path, &aside) {
            Ok(()) => {
                report.set_aside.push(aside);
                true
            }
            Err(error) => {
                self.note_failure(&storage_error("rename", path)(error));
                self.keep.push(path.to_owned());
                report.set_aside.push(path.to_owned());
                false
            }
        }
    }
}

struct SegmentFile<F> {
    path: String,
    file: F,
    length: u64,
    first_sequence: u64,
    /// `None` where it is damaged.
    header: Option<SegmentHeader>,
    /// Whether nothing but its name says that it is ours.
    foreign: bool,
}

/// The larger of each kind.
fn most(a: Counts, b: Counts) -> Counts {
    Counts {
        samples: a.samples.max(b.samples),
        histograms: a.histograms.max(b.histograms),
        exemplars: a.exemplars.max(b.exemplars),
    }
}

/// Takes a record of the cursor file in.
fn apply<F>(endpoint: &mut Endpoint<F>, record: CursorRecord) {
    match record {
        CursorRecord::Endpoint { key } => endpoint.key = key,
        CursorRecord::Attach { attachment, log, sequence, accepted, previous_end } => {
            if attachment <= endpoint.retired.attachment || endpoint.attachment(attachment).is_some() {
                return;
            }
            endpoint.next_attachment = endpoint.next_attachment.max(attachment + 1);
            if let Some(previous) = endpoint.attachments.last_mut() {
                previous.end = previous.end.or(previous_end);
            }
            let new = Attachment::new(attachment, log, sequence, accepted);
            endpoint.attachments.push(Attachment { previous_end, ..new });
        }
        CursorRecord::End { attachment, sequence, accepted } => {
            if let Some(at) = endpoint.attachment(attachment) {
                endpoint.attachments[at].end = Some((sequence, accepted));
            }
        }
        CursorRecord::Lane { attachment, lane, sequence, delivered, dropped } => {
            if let Some(at) = endpoint.attachment(attachment) {
                let state = &mut endpoint.attachments[at].lanes[lane.index()];
                state.settled = sequence;
                state.next = sequence + 1;
                state.delivered = delivered;
                state.dropped = dropped;
            }
        }
        CursorRecord::Lost { attachment, dropped } => {
            if let Some(at) = endpoint.attachment(attachment) {
                endpoint.attachments[at].lost = dropped;
            }
        }
        CursorRecord::Retired { attachment, accepted, delivered, dropped } => {
            endpoint.attachments.retain(|a| a.id > attachment);
            endpoint.next_attachment = endpoint.next_attachment.max(attachment + 1);
            let retired = &mut endpoint.retired;
            (retired.attachment, retired.accepted) = (attachment, accepted);
            (retired.delivered, retired.dropped) = (delivered, dropped);
        }
        CursorRecord::Refused { dropped } => endpoint.refused = dropped,
        CursorRecord::Protocol(choice) => endpoint.protocol = Some(choice),
    }
}
