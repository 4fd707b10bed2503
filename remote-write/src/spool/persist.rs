use super::core::SpoolCore;
use super::cursor::CursorRecord;
use super::error::{SpoolError, storage_error};
use super::log::Log;
use super::options::FsyncPolicy;
use super::segment::{Body, Segment};
use super::stats::StorageState;
use super::storage::Storage;

/// Where a log's directory keeps the log's key.
pub(super) const LOG_KEY_FILE: &str = "key";

impl<S: Storage> SpoolCore<S> {
    /// Adds to an endpoint's cursor file. What can't be written is written later, with everything else.
    pub(super) fn write_cursor(&mut self, endpoint: usize, records: &[CursorRecord]) {
        let known = &mut self.endpoints[endpoint];
        if known.rewrite && self.now < self.retry_at {
            return;
        }
        if known.rewrite || known.file_len > self.options.cursor_file_bytes {
            self.rewrite_cursor(endpoint);
            return;
        }
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

    /// Replaces an endpoint's cursor file with what still matters.
    fn rewrite_cursor(&mut self, endpoint: usize) {
        let known = &mut self.endpoints[endpoint];
        known.rewrite = true;
        let bytes = known.encode();
        match replace(&mut self.storage, &known.path, &bytes, self.options.fsync) {
            Ok(file) => {
                known.file = Some(file);
                known.file_len = bytes.len() as u64;
                known.rewrite = false;
                known.refused_unwritten = false;
                known.unsynced = false;
            }
            Err(error) => self.note_failure(&error),
        }
    }

    pub(super) fn write_log_key(&mut self, log: usize, key: &str) -> Result<(), SpoolError> {
        let known = &self.logs[log];
        let directory = known.directory.clone();
        self.storage.create_directory(&directory).map_err(storage_error("create", &directory))?;
        let path = format!("{directory}/{LOG_KEY_FILE}");
        replace(&mut self.storage, &path, key.as_bytes(), self.options.fsync)?;
        if self.options.fsync != FsyncPolicy::Never {
            self.storage.sync_directory(".").map_err(storage_error("sync", "."))?;
        }
        self.logs[log].key = key.to_owned();
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

    /// Remembers that the disk failed and leaves it alone for a while.
    pub(super) fn note_failure(&mut self, error: &SpoolError) {
        self.retry_at = self.now.saturating_add(self.options.retry_interval);
        self.disk_full = error.is_disk_full();
        match &mut self.state {
            StorageState::Healthy => {
                self.state = StorageState::Degraded { since: self.now, error: error.to_string() };
            }
            StorageState::Degraded { error: last, .. } => *last = error.to_string(),
        }
    }

    /// The disk does well again once nothing is left to be written.
    pub(super) fn note_recovery(&mut self) {
        if self.state != StorageState::Healthy
            && self.now >= self.retry_at
            && !self.logs.iter().any(Log::has_memory_tail)
            && !self.endpoints.iter().any(|endpoint| endpoint.rewrite)
        {
            self.state = StorageState::Healthy;
            self.disk_full = false;
        }
    }
}

/// Writes a file whole: whoever opens it finds the old content or the new.
pub(super) fn replace<S: Storage>(
    storage: &mut S,
    path: &str,
    bytes: &[u8],
    fsync: FsyncPolicy,
) -> Result<S::File, SpoolError> {
    let new = format!("{path}.new");
    let file = storage.create(&new).map_err(storage_error("create", &new))?;
    storage.write_at(&file, 0, bytes).map_err(storage_error("write", &new))?;
    if fsync != FsyncPolicy::Never {
        storage.sync(&file).map_err(storage_error("sync", &new))?;
    }
    storage.rename(&new, path).map_err(storage_error("rename", &new))?;
    if fsync != FsyncPolicy::Never {
        let directory = path.rsplit_once('/').map_or(".", |(directory, _)| directory);
        storage.sync_directory(directory).map_err(storage_error("sync", directory))?;
    }
    Ok(file)
}

/// The path under which a file that is not understood is left alone.
pub(super) fn set_aside_path(path: &str) -> String {
    format!("{path}.set-aside")
}
