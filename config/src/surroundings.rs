use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The files that a configuration names and that are read while it is read: `scrape_config_files`.
pub trait Files {
    /// The paths that a pattern (`jobs/*.yml`) stands for, sorted; none if there is no such file.
    ///
    /// # Errors
    /// The pattern is malformed, or a folder cannot be listed.
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;

    /// The whole text of a file.
    ///
    /// # Errors
    /// The file cannot be read, is no UTF-8 or is longer than anything that somebody wrote on purpose.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether a file with a credential or a certificate can be read now; nothing of it is kept. Unless it is
    /// implemented, every file is taken for readable.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn check_readable(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Ok(())
    }
}

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFiles;

impl Files for DiskFiles {
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern
            .to_str()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the pattern is not UTF-8"))?;
        let paths =
            glob::glob(pattern).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        paths.map(|path| path.map_err(Into::into)).collect()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            let reason = format!("it is longer than {MAX_FILE_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Ok(text)
    }

    fn check_readable(&self, path: &Path) -> io::Result<()> {
        // A folder can be opened too.
        io::Read::read(&mut std::fs::File::open(path)?, &mut [0]).map(drop)
    }
}

/// A job of a thousand lines takes some 40 KB.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// No files: whatever is included is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn matching(&self, _pattern: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Environment variables, where a configuration refers to them. A closure will do:
/// `|name: &str| std::env::var(name).ok()`.
pub trait Env {
    /// The variable's value, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Env for F {
    fn variable(&self, name: &str) -> Option<String> {
        self(name)
    }
}
