use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

use super::error::is_disk_trouble;
use super::storage::Storage;

/// A directory of the file system.
#[derive(Debug)]
pub struct DiskStorage {
    root: PathBuf,
    lock: Option<Lock>,
    /// Whether the directory is memory: setting space aside would take it at once.
    in_memory: bool,
    /// Does what may take long and nobody waits for; started when first needed.
    background: Option<mpsc::SyncSender<Background>>,
}

/// The lock that this process has.
#[derive(Debug)]
struct Lock {
    _file: File,
    /// Whether it is the one that every process takes where files can be created.
    is_final: bool,
}

/// Work for the background thread.
#[derive(Debug)]
enum Background {
    /// Writes the file back and gives up its page cache: only pages that are written back can be given up.
    Release(File),
    Sync(File, mpsc::Sender<io::Result<()>>),
}

/// What may wait in the background; beyond that page cache is not given up.
const MAX_BACKGROUND: usize = 64;
/// Permissions of what is created.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// The type of a file system in memory, as statfs(2) tells it.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

impl DiskStorage {
    /// Storage under this directory, which is created where it is missing, for its owner alone.
    ///
    /// A disk that is full or read-only is no error here: the spool then begins in memory, and the directory is
    /// created when the disk allows it.
    ///
    /// # Errors
    /// When the directory can't be created for another reason: a missing permission, say, or a file of that name.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        match private_directory(&root) {
            Err(error) if !is_disk_trouble(&error) => return Err(error),
            _ => {}
        }
        Ok(Self::at(root))
    }

    /// Storage in a directory that is there already.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn existing(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        if fs::metadata(&root)?.is_dir() {
            Ok(Self::at(root))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn at(root: PathBuf) -> Self {
        let in_memory = rustix::fs::statfs(&root).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC);
        Self { root, lock: None, in_memory, background: None }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    fn in_background(&mut self, work: Background) -> bool {
        if self.background.is_none() {
            let (work, queue) = mpsc::sync_channel(MAX_BACKGROUND);
            let thread = thread::Builder::new().name("spool-sync".to_owned());
            if thread.spawn(move || do_in_background(&queue)).is_ok() {
                self.background = Some(work);
            }
        }
        self.background.as_ref().is_some_and(|background| background.try_send(work).is_ok())
    }
}

/// Ends when the storage is dropped.
fn do_in_background(queue: &mpsc::Receiver<Background>) {
    while let Ok(work) = queue.recv() {
        match work {
            Background::Release(file) => {
                // Advice only: what fails here costs memory that the system takes back when it needs it.
                let _ = file.sync_data();
                let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
            }
            Background::Sync(file, answer) => {
                // Nobody may wait any more.
                let _ = answer.send(file.sync_data());
            }
        }
    }
}

impl Storage for DiskStorage {
    type File = File;

    fn lock(&mut self, path: &str) -> io::Result<()> {
        if self.lock.as_ref().is_some_and(|lock| lock.is_final) {
            return Ok(());
        }
        let path = self.path(path);
        let opened =
            OpenOptions::new().create(true).truncate(false).write(true).mode(PRIVATE_FILE).open(&path);
        let mut is_final = true;
        let file = match opened {
            Ok(file) => file,
            // What it had until now is as good as it was.
            Err(error) if self.lock.is_some() => return Err(error),
            // Nothing can be created: an older lock file will do, and so will the directory.
            Err(error) if is_disk_trouble(&error) => File::open(&path)
                .or_else(|_| {
                    is_final = false;
                    File::open(&self.root)
                })
                .map_err(|_| error)?,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {
                // Whose it is helps a second process to say so, and nothing depends on it.
                let _ = file.set_len(0).and_then(|()| file.write_all_at(holder().as_bytes(), 0));
                self.lock = Some(Lock { _file: file, is_final });
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn lock_holder(&mut self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned()).filter(|holder| !holder.is_empty())
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(directory))? {
            // A name that isn't UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_directory(&mut self, directory: &str) -> io::Result<()> {
        private_directory(&self.path(directory))
    }

    fn remove_directory(&mut self, directory: &str) -> io::Result<()> {
        fs::remove_dir(self.path(directory))
    }

    fn create(&mut self, path: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true).mode(PRIVATE_FILE);
        options.open(self.path(path))
    }

    fn open(&mut self, path: &str) -> io::Result<File> {
        let path = self.path(path);
        match OpenOptions::new().read(true).write(true).open(&path) {
            // What can't be written can still be delivered.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                File::open(&path)
            }
            opened => opened,
        }
    }

    fn len(&mut self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn allocate(&mut self, file: &File, length: u64) -> io::Result<()> {
        if self.in_memory || length == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read_at(&mut self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn truncate(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_in_background(&mut self, file: &File) -> Option<mpsc::Receiver<io::Result<()>>> {
        let (answer, answered) = mpsc::channel();
        let file = file.try_clone().ok()?;
        self.in_background(Background::Sync(file, answer)).then_some(answered)
    }

    fn sync_directory(&mut self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn free_space(&mut self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn release_cache(&mut self, file: &File) {
        if !self.in_memory
            && let Ok(file) = file.try_clone()
        {
            self.in_background(Background::Release(file));
        }
    }
}

/// Creates a directory, and those above it, that nobody else may read: what is in it names an organisation's inside.
fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)
}

/// This process, as a second one is told of it.
fn holder() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("process {}\n", std::process::id()),
        host => format!("process {} on {host}\n", std::process::id()),
    }
}
