use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files under one root, as the spool uses them: named by paths relative to it, written and read at offsets.
///
/// Only the spool's thread calls it, so it may block. A write that returned is seen by every later read and
/// survives the end of the process; only what was synced survives the loss of the machine.
pub trait Storage: Send + 'static {
    /// An open file.
    type File: Send;

    /// Takes the exclusive lock that this path stands for and keeps it until the storage is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it.
    fn lock(&mut self, path: &str) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&mut self, directory: &str) -> io::Result<Vec<String>>;

    /// Creates a directory; an existing one is fine.
    fn create_directory(&mut self, directory: &str) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_directory(&mut self, directory: &str) -> io::Result<()>;

    /// Creates an empty file, or empties an existing one, for reading and writing.
    fn create(&mut self, path: &str) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open(&mut self, path: &str) -> io::Result<Self::File>;

    /// The file's length in bytes.
    fn len(&mut self, file: &Self::File) -> io::Result<u64>;

    /// Reads at `offset` until the buffer is full or the file ends; returns how many bytes were read.
    fn read_at(&mut self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at `offset`. After an error any part of them may have been written.
    fn write_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Makes the file's content durable.
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;

    /// Makes the directory's entries durable.
    fn sync_directory(&mut self, directory: &str) -> io::Result<()>;

    /// Renames a file, replacing what is there.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, path: &str) -> io::Result<()>;

    /// Bytes that can still be written.
    fn free_space(&mut self) -> io::Result<u64>;

    /// Tells that the file's content is not needed in memory soon.
    fn release_cache(&mut self, file: &Self::File);
}

/// A directory of the file system.
#[derive(Debug)]
pub struct DiskStorage {
    root: PathBuf,
    lock: Option<File>,
}

impl DiskStorage {
    /// Storage under this directory, which is created where it is missing.
    ///
    /// # Errors
    /// When the directory can't be created.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root, lock: None })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }
}

impl Storage for DiskStorage {
    type File = File;

    fn lock(&mut self, path: &str) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(self.path(path))?;
        match file.try_lock() {
            Ok(()) => {
                self.lock = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
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
        fs::create_dir_all(self.path(directory))
    }

    fn remove_directory(&mut self, directory: &str) -> io::Result<()> {
        fs::remove_dir(self.path(directory))
    }

    fn create(&mut self, path: &str) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(self.path(path))
    }

    fn open(&mut self, path: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(path))
    }

    fn len(&mut self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
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
        // Advice only: without it the pages go when something else needs the memory.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
}
