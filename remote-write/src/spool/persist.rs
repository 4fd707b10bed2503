use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::core::SpoolCore;
use super::cursor::CursorRecord;
use super::error::{SpoolError, storage_error};
use super::log::{Log, RELEASE_AFTER};
use super::options::FsyncPolicy;
use super::recovery::LOCK_FILE;
use super::segment::{Body, Segment};
use super::stats::StorageState;
use super::storage::Storage;
use super::time::millis;

/// Where a log's directory keeps the log's key.
pub(super) const LOG_KEY_FILE: &str = "key";

/// Something that is being made durable in the background.
pub(super) struct Syncing {
    what: Synced,
    answer: Receiver<io::Result<()>>,
}

enum Synced {
    Segment { log: usize, first_sequence: u64 },
    Cursor { endpoint: usize },
}

/// What is wrong and was said aloud.
#[derive(Debug, Default)]
pub(super) struct Warned {
    disk: Option<Warning>,
    recovered: Option<Warning>,
    full: Option<Warning>,
    damaged: Option<Warning>,
}

/// When something was wrong, by the steady clock in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Warning {
    said: i64,
    last: i64,
}

/// What is wrong again after this long, in milliseconds, began anew.
const BEGINS_ANEW_AFTER: i64 = 60_000;
/// What goes on being wrong is said again this often.
const WARN_INTERVAL: i64 = 3_600_000;

impl<S: Storage> SpoolCore<S> {
    /// Adds to an endpoint's cursor file. What can't be written is written later, with everything else.
    pub(super) fn write_cursor(&mut self, endpoint: usize, records: &[CursorRecord]) {
        let due = self.disk_is_due();
        let known = &self.endpoints[endpoint];
        if known.forgotten || (known.rewrite && !due) {
            return;
        }
        if known.rewrite {
            self.rewrite_cursor(endpoint);
            return;
        }
        // A disk without room for a second file still has what is set aside for this one.
        if known.file_len > self.options.cursor_file_bytes && due && self.replace_cursor(endpoint) {
            return;
        }
        let known = &mut self.endpoints[endpoint];
        let mut bytes = Vec::new();
        for record in records {
            record.encode_into(&mut bytes);
        }
        let Some(file) = &known.file else {
            known.rewrite = true;
            return;
        };
        let fsync = self.options.fsync;
        let written = self.storage.write_at(file, known.file_len, &bytes).and_then(|()| match fsync {
            FsyncPolicy::Always => self.storage.sync(file),
            _ => Ok(()),
        });
        match written {
            Ok(()) => {
                known.file_len += bytes.len() as u64;
                known.unsynced = fsync != FsyncPolicy::Always;
            }
            Err(error) => {
                known.rewrite = true;
                let error = storage_error("write", &known.path)(error);
                self.note_failure(&error);
            }
        }
    }

    /// Writes the cursor files that miss something.
    pub(super) fn write_cursors(&mut self) {
        for endpoint in 0..self.endpoints.len() {
            let known = &mut self.endpoints[endpoint];
            if std::mem::take(&mut known.refused_unwritten) {
                let record = CursorRecord::Refused { dropped: known.refused.clone() };
                self.write_cursor(endpoint, &[record]);
            } else if known.rewrite {
                self.rewrite_cursor(endpoint);
            }
        }
    }

    /// Writes an endpoint's cursor file anew because it misses something.
    fn rewrite_cursor(&mut self, endpoint: usize) {
        self.endpoints[endpoint].rewrite = true;
        self.replace_cursor(endpoint);
    }

    /// Replaces an endpoint's cursor file with what still matters; says whether that went well.
    pub(super) fn replace_cursor(&mut self, endpoint: usize) -> bool {
        let path = self.endpoints[endpoint].path.clone();
        let bytes = self.endpoints[endpoint].encode();
        let allocate = 2 * self.options.cursor_file_bytes;
        let replaced = self
            .make_writable(&path)
            .and_then(|()| replace(&mut self.storage, &path, &bytes, self.options.fsync, allocate));
        match replaced {
            Ok(Replaced { file, unsynced }) => {
                if let Some(error) = unsynced {
                    self.note_failure(&error);
                }
                let known = &mut self.endpoints[endpoint];
                known.file = Some(file);
                known.file_len = bytes.len() as u64;
                known.rewrite = false;
                known.refused_unwritten = false;
                known.unsynced = false;
                true
            }
            Err(error) => {
                self.note_failure(&error);
                false
            }
        }
    }

    /// Before anything is written: takes the lock where that was not possible before, and sees that a file that
    /// had to be set aside and could not be is not written over.
    pub(super) fn make_writable(&mut self, path: &str) -> Result<(), SpoolError> {
        if !self.locked {
            self.storage.create_directory(".").map_err(storage_error("create", "."))?;
            self.storage.lock(LOCK_FILE).map_err(storage_error("lock", LOCK_FILE))?;
            self.locked = true;
        }
        if let Some(at) = self.keep.iter().position(|kept| kept == path) {
            let aside = self.set_aside_path(path);
            let renamed = self.storage.rename(path, &aside);
            renamed.map_err(storage_error("rename", path))?;
            self.keep.remove(at);
        }
        Ok(())
    }

    /// A path under which a file that is not understood is left alone. Nothing that was set aside before has it.
    pub(super) fn set_aside_path(&mut self, path: &str) -> String {
        let mut aside = format!("{path}{SET_ASIDE_SUFFIX}");
        let mut number = 1;
        while !matches!(self.storage.open(&aside), Err(error) if error.kind() == io::ErrorKind::NotFound)
            && number < MAX_SET_ASIDE
        {
            number += 1;
            aside = format!("{path}.{number}{SET_ASIDE_SUFFIX}");
        }
        aside
    }

    /// Creates a log's directory and writes the key into it.
    pub(super) fn write_log_key(&mut self, log: usize) -> Result<(), SpoolError> {
        let (directory, key) = (self.logs[log].directory.clone(), self.logs[log].key.clone());
        let path = format!("{directory}/{LOG_KEY_FILE}");
        self.make_writable(&path)?;
        self.storage.create_directory(&directory).map_err(storage_error("create", &directory))?;
        let replaced = replace(&mut self.storage, &path, key.as_bytes(), self.options.fsync, 0)?;
        replaced.unsynced.map_or(Ok(()), Err)?;
        if self.options.fsync != FsyncPolicy::Never {
            self.storage.sync_directory(".").map_err(storage_error("sync", "."))?;
        }
        self.logs[log].key_unwritten = false;
        Ok(())
    }

    pub(super) fn remove_log_directory(&mut self, log: usize) {
        let known = &mut self.logs[log];
        let path = format!("{}/{LOG_KEY_FILE}", known.directory);
        // Something set aside may still lie there; then the directory stays.
        let _ = self.storage.remove(&path);
        let _ = self.storage.remove_directory(&known.directory);
        known.key.clear();
    }

    pub(super) fn sync_cursors(&mut self) {
        for endpoint in 0..self.endpoints.len() {
            let known = &mut self.endpoints[endpoint];
            if let (true, Some(file)) = (known.unsynced, &known.file) {
                match self.storage.sync(file) {
                    Ok(()) => known.unsynced = false,
                    Err(error) => {
                        let error = storage_error("sync", &known.path)(error);
                        self.note_failure(&error);
                    }
                }
            }
        }
    }

    /// Makes everything durable that is written.
    pub(super) fn sync_all(&mut self) {
        for log in 0..self.logs.len() {
            let known = &mut self.logs[log];
            if !known.unsynced {
                continue;
            }
            let Some(Segment { first_sequence, body: Body::Disk(Some(file)), .. }) = known.segments.back()
            else {
                continue;
            };
            match self.storage.sync(file) {
                Ok(()) => known.unsynced = false,
                Err(error) => {
                    // After a failed sync nobody knows what of the file is durable: nothing more goes there.
                    known.growing = false;
                    known.unsynced = false;
                    let path = known.segment_path(*first_sequence);
                    self.note_failure(&storage_error("sync", &path)(error));
                }
            }
        }
        self.sync_cursors();
    }

    /// Begins to make everything durable that is written, without waiting for it where the storage can do that.
    pub(super) fn start_syncs(&mut self) {
        for (log, known) in self.logs.iter_mut().enumerate().filter(|(_, known)| known.unsynced) {
            let Some(Segment { first_sequence, body: Body::Disk(Some(file)), .. }) = known.segments.back()
            else {
                continue;
            };
            // Those that were begun are still answered.
            let Some(answer) = self.storage.sync_in_background(file) else { return self.sync_all() };
            // What is written from here on is for the next time.
            known.unsynced = false;
            self.syncing
                .push(Syncing { what: Synced::Segment { log, first_sequence: *first_sequence }, answer });
        }
        for (endpoint, known) in self.endpoints.iter_mut().enumerate().filter(|(_, known)| known.unsynced) {
            let Some(file) = &known.file else { continue };
            let Some(answer) = self.storage.sync_in_background(file) else { continue };
            known.unsynced = false;
            self.syncing.push(Syncing { what: Synced::Cursor { endpoint }, answer });
        }
    }

    /// Takes the answers of what was begun in the background.
    pub(super) fn finish_syncs(&mut self) {
        for Syncing { what, answer } in std::mem::take(&mut self.syncing) {
            match answer.try_recv() {
                Ok(Ok(())) => {}
                Err(TryRecvError::Empty) => self.syncing.push(Syncing { what, answer }),
                Ok(Err(source)) => self.note_failed_sync(&what, source),
                Err(TryRecvError::Disconnected) => {
                    self.note_failed_sync(&what, io::Error::other("the thread that syncs has ended"));
                }
            }
        }
    }

    fn note_failed_sync(&mut self, what: &Synced, source: io::Error) {
        let path = match what {
            Synced::Segment { log, first_sequence } => {
                let known = &mut self.logs[*log];
                // After a failed sync nobody knows what of the file is durable: nothing more goes there.
                if known.segments.back().is_some_and(|last| last.first_sequence == *first_sequence) {
                    known.growing = false;
                }
                known.segment_path(*first_sequence)
            }
            Synced::Cursor { endpoint } => {
                let known = &mut self.endpoints[*endpoint];
                known.rewrite = !known.forgotten;
                known.path.clone()
            }
        };
        self.note_failure(&storage_error("sync", &path)(source));
    }

    /// Gives back the page cache of segments that were closed or read a while ago.
    pub(super) fn release_caches(&mut self) {
        let steady = self.time.steady();
        for segment in self.logs.iter_mut().flat_map(|log| &mut log.segments) {
            if segment.release_at.is_some_and(|at| steady >= at) {
                segment.release_at = None;
                if let Body::Disk(Some(file)) = &segment.body {
                    self.storage.release_cache(file);
                }
            }
        }
    }

    /// Notes that a segment was read from: what that brought into the page cache is given back.
    pub(super) fn note_read(&mut self, log: usize, at: usize) {
        let steady = self.time.steady();
        let known = &mut self.logs[log];
        let growing = known.growing && at + 1 == known.segments.len();
        if let Some(segment) = known.segments.get_mut(at).filter(|_| !growing) {
            segment.release_at.get_or_insert(steady + RELEASE_AFTER);
        }
    }

    /// Whether the disk may be tried, or tried again.
    pub(super) fn disk_is_due(&self) -> bool {
        self.time.steady() >= self.retry_at
    }

    /// Remembers that the disk failed and leaves it alone for a while.
    pub(super) fn note_failure(&mut self, error: &SpoolError) {
        let interval = i64::try_from(millis(self.options.retry_interval)).unwrap_or(i64::MAX);
        self.retry_at = self.time.steady().saturating_add(interval);
        self.disk_full = error.is_disk_full();
        if self.is_time_to_warn(|warned| &mut warned.disk) {
            let held: u64 = self.logs.iter().map(Log::memory_bytes).sum();
            tracing::error!(
                "{error}; what the disk does not take is kept in memory ({held} bytes so far) and lost if the \
                 process ends; it is written when the disk takes it"
            );
        }
        match &mut self.state {
            StorageState::Healthy => {
                self.state = StorageState::Degraded { since: self.time.now(), error: error.to_string() };
            }
            StorageState::Degraded { error: last, .. } => *last = error.to_string(),
        }
    }

    /// The disk does well again once nothing is left to be written.
    pub(super) fn note_recovery(&mut self) {
        if self.disk_is_due()
            && !self.logs.iter().any(Log::has_memory_tail)
            && !self.endpoints.iter().any(|endpoint| endpoint.rewrite)
            && let StorageState::Degraded { error, .. } = std::mem::take(&mut self.state)
        {
            self.disk_full = false;
            if self.is_time_to_warn(|warned| &mut warned.recovered) {
                tracing::info!(
                    "the spool is written to disk again, nothing is left in memory; what had failed: {error}"
                );
            }
        }
    }

    /// Says that the log had to give up its oldest data.
    pub(super) fn warn_of_full_log(&mut self, log: usize, bytes: u64) {
        if self.is_time_to_warn(|warned| &mut warned.full) {
            let quota = self.quota(log);
            tracing::error!(
                "the spool is full: the oldest {bytes} bytes of log {:?} are dropped undelivered, for it may take \
                 {quota} bytes; samples are lost until its endpoints take them faster than they are scraped",
                self.logs[log].key
            );
        }
    }

    /// Says that something stored can't be read back.
    pub(super) fn warn_of_damage(&mut self, path: &str, records: u64, why: &str) {
        if self.is_time_to_warn(|warned| &mut warned.damaged) {
            tracing::error!("the spool has lost {records} or more records of {path:?}: {why}");
        }
    }

    fn is_time_to_warn(&mut self, which: impl FnOnce(&mut Warned) -> &mut Option<Warning>) -> bool {
        let steady = self.time.steady();
        let known = which(&mut self.warned);
        let due = known.is_none_or(|known| {
            steady >= known.last.saturating_add(BEGINS_ANEW_AFTER)
                || steady >= known.said.saturating_add(WARN_INTERVAL)
        });
        let said = known.filter(|_| !due).map_or(steady, |known| known.said);
        *known = Some(Warning { said, last: steady });
        due
    }
}

/// A file that has taken the place of another.
pub(super) struct Replaced<F> {
    pub(super) file: F,
    /// Why its new name may not outlive the machine. The file is in its place all the same.
    pub(super) unsynced: Option<SpoolError>,
}

/// Writes a file whole: whoever opens it finds the old content or the new.
pub(super) fn replace<S: Storage>(
    storage: &mut S,
    path: &str,
    bytes: &[u8],
    fsync: FsyncPolicy,
    allocate: u64,
) -> Result<Replaced<S::File>, SpoolError> {
    let new = format!("{path}.new");
    let file = storage.create(&new).map_err(storage_error("create", &new))?;
    storage.allocate(&file, allocate).map_err(storage_error("set space aside for", &new))?;
    storage.write_at(&file, 0, bytes).map_err(storage_error("write", &new))?;
    // Whatever the policy: a machine that is lost may otherwise leave the new name with nothing behind it, and with
    // it all that was known for long.
    storage.sync(&file).map_err(storage_error("sync", &new))?;
    storage.rename(&new, path).map_err(storage_error("rename", &new))?;
    let mut unsynced = None;
    if fsync != FsyncPolicy::Never {
        let directory = path.rsplit_once('/').map_or(".", |(directory, _)| directory);
        unsynced = storage.sync_directory(directory).map_err(storage_error("sync", directory)).err();
    }
    Ok(Replaced { file, unsynced })
}

/// How the names of files end that are not understood and left alone.
pub(super) const SET_ASIDE_SUFFIX: &str = ".set-aside";
/// Files of one name that are set aside beside each other; from then on the last one gives way.
const MAX_SET_ASIDE: u32 = 100;
