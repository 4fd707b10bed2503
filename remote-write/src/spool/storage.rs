use std::io;
use std::sync::mpsc;

/// Files under one root, as the spool uses them: named by paths relative to it, written and read at offsets.
///
/// Only the spool's thread calls it, so it may block. A write that returned is seen by every later read and
/// survives the end of the process; only what was synced survives the loss of the machine.
pub trait Storage: Send + 'static {
    /// An open file.
    type File: Send;

    /// Takes the exclusive lock that this path stands for and keeps it until the storage is dropped; having it
    /// already is fine.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process holds it.
    fn lock(&mut self, path: &str) -> io::Result<()>;

    /// Who holds the lock, as far as it is known: for the error that a second process gets.
    fn lock_holder(&mut self, path: &str) -> Option<String> {
        let _ = path;
        None
    }

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

    /// Sets space aside for the file's first `length` bytes without changing its length, so that a disk without
    /// room is found before anything is written. Does nothing where the file system has no such thing.
    fn allocate(&mut self, file: &Self::File, length: u64) -> io::Result<()> {
        let _ = (file, length);
        Ok(())
    }

    /// Reads at `offset` until the buffer is full or the file ends; returns how many bytes were read.
    fn read_at(&mut self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at `offset`. After an error any part of them may have been written.
    fn write_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `length` bytes.
    fn truncate(&mut self, file: &Self::File, length: u64) -> io::Result<()>;

    /// Makes the file's content durable.
    fn sync(&mut self, file: &Self::File) -> io::Result<()>;

    /// Begins to make the file's content durable and does not wait for it: the answer comes through the channel.
    /// `None` where that can't be done; then [`sync`](Self::sync) has to do.
    fn sync_in_background(&mut self, file: &Self::File) -> Option<mpsc::Receiver<io::Result<()>>> {
        let _ = file;
        None
    }

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
