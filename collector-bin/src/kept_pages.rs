//! Pages put aside for whoever looks into a panic.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Keeps the pages on which scraping panicked, for whoever will look into it: the last three, each cut at
/// 1 MiB, readable by the owner alone. Pages may hold secrets, so they are never logged.
#[derive(Clone, Debug)]
pub struct KeptPages {
    dir: PathBuf,
}

const KEPT: usize = 3;
const MAX_BYTES: usize = 1 << 20;

impl KeptPages {
    /// Keeps pages in `pages/` under the storage path.
    pub fn new(storage_path: &Path) -> Self {
        Self { dir: storage_path.join("pages") }
    }

    /// Keeps `page` and returns where; the oldest beyond three goes.
    ///
    /// # Errors
    /// What the system answered.
    pub fn keep(&self, page: &[u8], name: &str) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        let mut kept = self.list()?;
        let next = kept.last().map_or(0, |(number, _)| number + 1);
        while kept.len() >= KEPT {
            fs::remove_file(kept.remove(0).1)?;
        }
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(80).collect();
        let path = self.dir.join(format!("{next:06}-{name}"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&page[..page.len().min(MAX_BYTES)])?;
        Ok(path)
    }

    fn list(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.split('-').next()?.parse().ok());
            kept.extend(number.map(|number: u64| (number, path)));
        }
        kept.sort();
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_last_three_are_kept_cut_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let pages = KeptPages::new(dir.path());
        for at in 0..5u8 {
            pages.keep(&[b'0' + at], "http://10.0.0.1:80/metrics").unwrap();
        }
        let large = pages.keep(&vec![b'x'; 2 << 20], "large").unwrap();
        assert_eq!(fs::metadata(&large).unwrap().len(), 1 << 20);
        assert_eq!(fs::metadata(&large).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = pages.list().unwrap();
        let contents: Vec<_> = kept.iter().map(|(_, path)| fs::read(path).unwrap()[0]).collect();
        assert_eq!(contents, b"34x");
    }
}
