//! A disk in memory that fails on demand: for tests that enumerate crashes.
//!
//! ```
//! use promferry_model::{MemoryBudget, Timestamp};
//! use promferry_remote_write::spool::sim::SimDisk;
//! use promferry_remote_write::spool::{SpoolCore, SpoolOptions};
//!
//! let disk = SimDisk::new();
//! let now = Timestamp::from_millis(0);
//! let open = || SpoolCore::open(disk.storage(), SpoolOptions::default(), MemoryBudget::unlimited(), now);
//! let (mut spool, _) = open().unwrap();
//! disk.crash_after(0);
//! spool.open_log("v1").unwrap();
//! drop(spool);
//! disk.restart();
//! let (spool, _) = open().unwrap();
//! assert!(spool.stats().logs.is_empty()); // nothing of it had reached the disk
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use promferry_model::Rng;

use super::storage::Storage;

/// The machine's disk: outlives the processes that work on it ([`SimStorage`]), and decides what they see.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Content>,
    /// What processes see.
    entries: BTreeMap<String, usize>,
    /// What survives the loss of the machine.
    durable_entries: BTreeMap<String, usize>,
    /// How the former differ from the latter, in order.
    unsynced_entries: Vec<EntryChange>,
    directories: BTreeSet<String>,
    locks: BTreeSet<String>,
    calls: u64,
    renames: u64,
    crash_after: Option<u64>,
    torn: bool,
    crashed: bool,
    failures: BTreeMap<u64, io::ErrorKind>,
    writes_fail: Option<io::ErrorKind>,
    capacity: Option<u64>,
    /// Files whose reading fails, each from this byte on.
    unreadable: BTreeMap<String, u64>,
    no_allocation: bool,
    /// Syncs are acknowledged and not done.
    syncs_lie: bool,
    /// How long the next call that writes takes.
    stall: Option<Duration>,
    panics: BTreeSet<u64>,
    released: Vec<String>,
}

#[derive(Debug, Default)]
struct Content {
    path: String,
    /// What is set aside for it.
    allocated: u64,
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Truncate(u64),
}

/// A name that came to be, is another file's now, or is gone: whole or not at all.
#[derive(Clone, Debug)]
struct EntryChange {
    directory: String,
    path: String,
    file: Option<usize>,
    /// The name that a renamed file had.
    from: Option<String>,
}

impl SimDisk {
    /// An empty disk that works.
    pub fn new() -> Self {
        Self::default()
    }

    /// What one process sees of it; dropping it ends the process.
    pub fn storage(&self) -> SimStorage {
        SimStorage { disk: self.clone(), locks: Vec::new() }
    }

    /// Calls that were made so far.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Files that were renamed so far.
    pub fn renames(&self) -> u64 {
        self.disk().renames
    }

    /// Files whose page cache was given back since this was last asked for.
    pub fn take_released(&self) -> Vec<String> {
        std::mem::take(&mut self.disk().released)
    }

    /// Whether the crash that was asked for has happened.
    pub fn crashed(&self) -> bool {
        self.disk().crashed
    }

    /// The next `calls` calls take effect; all later ones fail and change nothing.
    pub fn crash_after(&self, calls: u64) {
        let mut disk = self.disk();
        disk.crash_after = Some(disk.calls + calls);
        disk.torn = false;
    }

    /// The same, but if the call after those is a write, half of it takes effect.
    pub fn crash_within(&self, calls: u64) {
        self.crash_after(calls);
        self.disk().torn = true;
    }

    /// The call after the next `calls` fails and changes nothing; those after it work.
    pub fn fail_call(&self, calls: u64, kind: io::ErrorKind) {
        let mut disk = self.disk();
        let call = disk.calls + calls + 1;
        disk.failures.insert(call, kind);
    }

    /// All writes, creations and syncs fail, until `None` is set.
    pub fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        self.disk().writes_fail = kind;
    }

    /// What the files may hold together, in bytes; a write beyond that is cut short and fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Reading this file fails from now on, as on a disk with a bad spot.
    pub fn fail_reads(&self, path: &str) {
        self.fail_reads_from(path, 0);
    }

    /// Reading anything of this file that lies behind so many bytes fails from now on.
    pub fn fail_reads_from(&self, path: &str, offset: u64) {
        self.disk().unreadable.insert(path.to_owned(), offset);
    }

    /// Reading this file works again.
    pub fn heal_reads(&self, path: &str) {
        self.disk().unreadable.remove(path);
    }

    /// Everything that was written so far is durable, as it is a while after it was written.
    pub fn write_back(&self) {
        let mut disk = self.disk();
        for content in &mut disk.files {
            content.unsynced.clear();
            content.durable = content.now.clone();
        }
        disk.unsynced_entries.clear();
        disk.durable_entries = disk.entries.clone();
    }

    /// Syncs are acknowledged from now on and not done, as on a disk that keeps what it was given in a cache.
    pub fn lie_about_syncs(&self) {
        self.disk().syncs_lie = true;
    }

    /// Space can't be set aside, as on some network file systems: then writes find a disk that is full.
    pub fn without_allocation(&self) {
        self.disk().no_allocation = true;
    }

    /// The call after the next `calls` panics: a fault of the program and not of the disk.
    pub fn panic_at(&self, calls: u64) {
        let mut disk = self.disk();
        let call = disk.calls + calls + 1;
        disk.panics.insert(call);
    }

    /// The next call that writes takes so long, as on a disk that stalls.
    pub fn stall(&self, time: Duration) {
        self.disk().stall = Some(time);
    }

    /// The process ended, however: everything that was written is there.
    pub fn restart(&self) {
        let mut disk = self.disk();
        disk.crash_after = None;
        disk.crashed = false;
        disk.failures.clear();
        disk.panics.clear();
        disk.locks.clear();
    }

    /// The machine was lost: of what was not synced each change is, by chance, there, not there or half there,
    /// whatever the order in which they were made.
    pub fn lose_machine(&self, rng: &mut impl Rng) {
        self.restart();
        let mut disk = self.disk();
        let mut lost = BTreeSet::new();
        for change in std::mem::take(&mut disk.unsynced_entries) {
            // Changes of one name are kept in their order, those of others in any.
            let names = || std::iter::once(&change.path).chain(&change.from);
            if rng.next_u64().is_multiple_of(3) || names().any(|name| lost.contains(name)) {
                lost.extend(names().cloned());
            } else {
                apply_entry(&mut disk.durable_entries, &change);
            }
        }
        disk.entries = disk.durable_entries.clone();
        for content in &mut disk.files {
            for change in std::mem::take(&mut content.unsynced) {
                match (rng.next_u64() % 3, change) {
                    (0, _) => {}
                    (1, Change::Write { offset, bytes }) => {
                        let cut = rng.next_u64() as usize % (bytes.len() + 1);
                        write(&mut content.durable, offset, &bytes[..cut]);
                    }
                    (_, Change::Write { offset, bytes }) => write(&mut content.durable, offset, &bytes),
                    (_, Change::Truncate(length)) => content.durable.resize(length as usize, 0),
                }
            }
            content.now = content.durable.clone();
        }
    }

    /// All files with their contents.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.disk();
        disk.entries.iter().map(|(path, &file)| (path.clone(), disk.files[file].now.clone())).collect()
    }

    /// Replaces a file, durably; creates it and its directory where they are missing.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let file = disk.files.len();
        let (now, durable) = (bytes.to_vec(), bytes.to_vec());
        disk.files.push(Content { path: path.to_owned(), now, durable, ..Content::default() });
        disk.entries.insert(path.to_owned(), file);
        disk.durable_entries.insert(path.to_owned(), file);
        if let Some((directory, _)) = path.rsplit_once('/') {
            disk.directories.insert(directory.to_owned());
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one process sees of a [`SimDisk`].
#[derive(Debug)]
pub struct SimStorage {
    disk: SimDisk,
    locks: Vec<String>,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile(usize);

/// What a call may do.
enum Allowed {
    Everything,
    /// Half of it takes effect, then it fails.
    Half(io::Error),
}

impl Disk {
    /// Counts a call and says whether it may go on.
    fn call(&mut self, writes: bool) -> io::Result<Allowed> {
        self.calls += 1;
        assert!(!self.panics.remove(&self.calls), "a panic that was asked for");
        if let Some(time) = self.stall.take_if(|_| writes) {
            std::thread::sleep(time);
        }
        let crash = || io::Error::other("the simulated machine has crashed");
        if self.crash_after.is_some_and(|last| self.calls > last) {
            let half = self.torn && !self.crashed;
            self.crashed = true;
            return if half { Ok(Allowed::Half(crash())) } else { Err(crash()) };
        }
        if let Some(kind) = self.failures.remove(&self.calls) {
            return Err(kind.into());
        }
        match self.writes_fail {
            Some(kind) if writes => Err(kind.into()),
            _ => Ok(Allowed::Everything),
        }
    }

    /// A call that is done whole or not at all.
    fn whole_call(&mut self, writes: bool) -> io::Result<()> {
        match self.call(writes)? {
            Allowed::Everything => Ok(()),
            Allowed::Half(error) => Err(error),
        }
    }

    fn change_entry(&mut self, path: &str, file: Option<usize>, from: Option<&str>) {
        let directory = path.rsplit_once('/').map_or(".", |(directory, _)| directory).to_owned();
        let change = EntryChange { directory, path: path.to_owned(), file, from: from.map(str::to_owned) };
        apply_entry(&mut self.entries, &change);
        self.unsynced_entries.push(change);
    }

    fn find(&self, path: &str) -> io::Result<usize> {
        self.entries.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        self.entries.values().map(|&file| self.files[file].taken()).sum()
    }
}

impl Storage for SimStorage {
    type File = SimFile;

    fn lock(&mut self, path: &str) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(false)?;
        if self.locks.iter().any(|held| held == path) {
            return Ok(());
        }
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.locks.push(path.to_owned());
        Ok(())
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let mut disk = self.disk.disk();
        disk.whole_call(false)?;
        if directory == "." {
            return Ok(disk.directories.iter().cloned().collect());
        }
        let prefix = format!("{directory}/");
        Ok(disk.entries.keys().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    fn create_directory(&mut self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        disk.directories.insert(directory.to_owned());
        Ok(())
    }

    fn remove_directory(&mut self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        let prefix = format!("{directory}/");
        if disk.entries.keys().any(|path| path.starts_with(&prefix)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.directories.remove(directory);
        Ok(())
    }

    fn create(&mut self, path: &str) -> io::Result<SimFile> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        let file = disk.files.len();
        disk.files.push(Content { path: path.to_owned(), ..Content::default() });
        disk.change_entry(path, Some(file), None);
        Ok(SimFile(file))
    }

    fn open(&mut self, path: &str) -> io::Result<SimFile> {
        let mut disk = self.disk.disk();
        disk.whole_call(false)?;
        disk.find(path).map(SimFile)
    }

    fn len(&mut self, file: &SimFile) -> io::Result<u64> {
        let mut disk = self.disk.disk();
        disk.whole_call(false)?;
        Ok(disk.files[file.0].now.len() as u64)
    }

    fn allocate(&mut self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        if disk.no_allocation {
            return Ok(());
        }
        let more = length.saturating_sub(disk.files[file.0].taken());
        if disk.capacity.is_some_and(|capacity| disk.used() + more > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = &mut disk.files[file.0];
        content.allocated = content.allocated.max(length);
        Ok(())
    }

    fn read_at(&mut self, file: &SimFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        const EIO: i32 = 5;
        let mut disk = self.disk.disk();
        disk.whole_call(false)?;
        let end = offset + buffer.len() as u64;
        if disk.unreadable.get(&disk.files[file.0].path).is_some_and(|&from| end > from) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let content = disk.files[file.0].now.get(offset as usize..).unwrap_or_default();
        let read = content.len().min(buffer.len());
        buffer[..read].copy_from_slice(&content[..read]);
        Ok(read)
    }

    fn write_at(&mut self, file: &SimFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let allowed = disk.call(true)?;
        let mut fits = bytes.len();
        if let Some(capacity) = disk.capacity {
            let grows = (offset + bytes.len() as u64).saturating_sub(disk.files[file.0].taken());
            let over = (disk.used() + grows).saturating_sub(capacity).min(grows);
            fits -= (over as usize).min(fits);
        }
        if matches!(allowed, Allowed::Half(_)) {
            fits = fits.min(bytes.len() / 2);
        }
        let content = &mut disk.files[file.0];
        write(&mut content.now, offset, &bytes[..fits]);
        content.unsynced.push(Change::Write { offset, bytes: bytes[..fits].to_vec() });
        match allowed {
            Allowed::Half(error) => Err(error),
            Allowed::Everything if fits < bytes.len() => Err(io::ErrorKind::StorageFull.into()),
            Allowed::Everything => Ok(()),
        }
    }

    fn truncate(&mut self, file: &SimFile, length: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        let content = &mut disk.files[file.0];
        content.now.resize(length as usize, 0);
        content.allocated = 0;
        content.unsynced.push(Change::Truncate(length));
        Ok(())
    }

    fn sync(&mut self, file: &SimFile) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        if disk.syncs_lie {
            return Ok(());
        }
        let content = &mut disk.files[file.0];
        content.unsynced.clear();
        content.durable = content.now.clone();
        Ok(())
    }

    fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        if disk.syncs_lie {
            return Ok(());
        }
        let disk = &mut *disk;
        disk.unsynced_entries.retain(|change| {
            let synced = change.directory == directory;
            if synced {
                apply_entry(&mut disk.durable_entries, change);
            }
            !synced
        });
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        let file = disk.find(from)?;
        disk.files[file].path = to.to_owned();
        disk.change_entry(to, Some(file), Some(from));
        disk.renames += 1;
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let mut disk = self.disk.disk();
        disk.whole_call(true)?;
        disk.find(path)?;
        disk.change_entry(path, None, None);
        Ok(())
    }

    fn free_space(&mut self) -> io::Result<u64> {
        let mut disk = self.disk.disk();
        disk.whole_call(false)?;
        Ok(disk.capacity.map_or(1 << 40, |capacity| capacity.saturating_sub(disk.used())))
    }

    fn release_cache(&mut self, file: &SimFile) {
        let mut disk = self.disk.disk();
        let path = disk.files[file.0].path.clone();
        disk.released.push(path);
    }
}

impl Content {
    /// What it takes of the disk.
    fn taken(&self) -> u64 {
        self.allocated.max(self.now.len() as u64)
    }
}

impl Drop for SimStorage {
    fn drop(&mut self) {
        let mut disk = self.disk.disk();
        for lock in &self.locks {
            disk.locks.remove(lock);
        }
    }
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..end].copy_from_slice(bytes);
}

fn apply_entry(entries: &mut BTreeMap<String, usize>, change: &EntryChange) {
    if let Some(from) = &change.from {
        entries.remove(from);
    }
    match change.file {
        Some(file) => entries.insert(change.path.clone(), file),
        None => entries.remove(&change.path),
    };
}
