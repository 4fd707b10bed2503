use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::storage::Storage;

/// Files in memory, for a sender that has no disk or wants none: what waits is lost with the process.
///
/// [`SpoolOptions::max_bytes`](super::SpoolOptions::max_bytes) bounds what it may take; without it that is
/// [`SpoolOptions::DEFAULT_MAX_BYTES`](super::SpoolOptions::DEFAULT_MAX_BYTES).
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: BTreeMap<String, MemoryFile>,
}

/// A file of a [`MemoryStorage`].
#[derive(Clone, Debug, Default)]
pub struct MemoryFile(Arc<Mutex<Vec<u8>>>);

impl MemoryStorage {
    /// Storage without a file.
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, path: &str) -> io::Result<MemoryFile> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    type File = MemoryFile;

    fn lock(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&mut self, directory: &str) -> io::Result<Vec<String>> {
        let prefix = if directory == "." { String::new() } else { format!("{directory}/") };
        let below = self.files.keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut names: Vec<_> =
            below.map(|path| path.split_once('/').map_or(path, |(name, _)| name).to_owned()).collect();
        names.dedup();
        Ok(names)
    }

    fn create_directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove_directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&mut self, path: &str) -> io::Result<MemoryFile> {
        let file = MemoryFile::default();
        self.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn open(&mut self, path: &str) -> io::Result<MemoryFile> {
        self.find(path)
    }

    fn len(&mut self, file: &MemoryFile) -> io::Result<u64> {
        Ok(file.content().len() as u64)
    }

    fn read_at(&mut self, file: &MemoryFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = file.content();
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&mut self, file: &MemoryFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::StorageFull)?;
        let mut content = file.content();
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset..end].copy_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, file: &MemoryFile, length: u64) -> io::Result<()> {
        file.content().truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn sync(&mut self, _: &MemoryFile) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let file = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn free_space(&mut self) -> io::Result<u64> {
        Ok(u64::MAX / 2)
    }

    fn release_cache(&mut self, _: &MemoryFile) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_directory_of_files() {
        let mut storage = MemoryStorage::new();
        assert_eq!(storage.open("a/x").unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = storage.create("a/x.new").unwrap();
        storage.write_at(&file, 2, b"cd").unwrap();
        storage.write_at(&file, 0, b"ab").unwrap();
        storage.rename("a/x.new", "a/x").unwrap();
        storage.create("b/y").unwrap();
        storage.create("a/z").unwrap();
        assert_eq!(storage.list(".").unwrap(), ["a", "b"]);
        assert_eq!(storage.list("a").unwrap(), ["x", "z"]);
        let again = storage.open("a/x").unwrap();
        let mut buffer = [0; 8];
        let read = storage.read_at(&again, 1, &mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"bcd");
        storage.truncate(&again, 1).unwrap();
        assert_eq!(storage.len(&file).unwrap(), 1);
        storage.remove("a/x").unwrap();
        assert!(storage.remove("a/x").is_err());
        assert_eq!(storage.read_at(&again, 9, &mut buffer).unwrap(), 0);
    }
}
