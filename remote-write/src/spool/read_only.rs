use std::io;

use super::storage::Storage;

/// A storage that is looked at and not changed: whatever would write fails, and no lock is taken.
///
/// A [`SpoolCore`](super::SpoolCore) that is opened on it shows what a process would find that opened the spool
/// now, also while another works in it.
#[derive(Debug)]
pub struct ReadOnly<S>(S);

impl<S: Storage> ReadOnly<S> {
    /// Looks at this storage.
    pub fn new(storage: S) -> Self {
        Self(storage)
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl<S: Storage> Storage for ReadOnly<S> {
    type File = S::File;

    fn lock(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock_holder(&mut self, path: &str) -> Option<String> {
        self.0.lock_holder(path)
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn create_directory(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove_directory(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn create(&mut self, _: &str) -> io::Result<S::File> {
        refused()
    }

    fn open(&mut self, path: &str) -> io::Result<S::File> {
        self.0.open(path)
    }

    fn len(&mut self, file: &S::File) -> io::Result<u64> {
        self.0.len(file)
    }

    fn read_at(&mut self, file: &S::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(file, offset, buffer)
    }

    fn write_at(&mut self, _: &S::File, _: u64, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn truncate(&mut self, _: &S::File, _: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&mut self, _: &S::File) -> io::Result<()> {
        refused()
    }

    fn sync_directory(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn rename(&mut self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&mut self, _: &str) -> io::Result<()> {
        refused()
    }

    fn free_space(&mut self) -> io::Result<u64> {
        self.0.free_space()
    }

    fn release_cache(&mut self, _: &S::File) {}
}
