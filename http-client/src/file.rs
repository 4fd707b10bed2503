//! Files of the configuration that are read again when they change.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::io_reason;
use crate::{Error, Secret};

/// More than any credential or bundle of certificates needs (the system's bundle is 0.2 MB).
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What tells one content of a file from the next without reading it.
///
/// A symlink is followed, so the swap of a Kubernetes volume's `..data` shows as another inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// Written so lately that a second write could leave the same times: not to be relied on.
    settled: bool,
}

impl Stamp {
    pub(crate) fn of(key: &'static str, path: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(|error| file_error(key, path, &error))?;
        Ok(Self::from(&metadata))
    }

    /// Whether what was read under `self` is still what is in the file, of which `now` is the stamp.
    pub(crate) fn still_holds(&self, now: &Self) -> bool {
        self.settled && Self { settled: true, ..*now } == *self
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        // File systems stamp with the kernel's tick, some network ones with whole seconds.
        let settled = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .is_some_and(|age| age > Duration::from_secs(2));
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            settled,
        }
    }
}

/// Reads a whole file of the configuration as text.
pub(crate) fn read_text(key: &'static str, path: &Path) -> Result<String, Error> {
    let fail = |error| file_error(key, path, &error);
    let mut text = String::new();
    let mut file = std::fs::File::open(path).map_err(fail)?.take(MAX_FILE_BYTES + 1);
    file.read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let reason = format!("it is longer than {MAX_FILE_BYTES} bytes");
        return Err(Error::File { key, path: path.to_owned(), reason });
    }
    Ok(text)
}

fn file_error(key: &'static str, path: &Path, error: &std::io::Error) -> Error {
    Error::File { key, path: path.to_owned(), reason: io_reason(error) }
}

/// A credential: inline, in a file, or none.
pub(crate) enum Credential {
    None,
    Inline(Arc<str>),
    File { key: &'static str, path: PathBuf, cache: Mutex<Option<(Stamp, Arc<str>)>> },
}

impl Credential {
    pub(crate) fn new(inline: &str, key: &'static str, file: &Path) -> Self {
        if !inline.is_empty() {
            Self::Inline(inline.into())
        } else if !file.as_os_str().is_empty() {
            Self::File { key, path: file.to_owned(), cache: Mutex::new(None) }
        } else {
            Self::None
        }
    }

    pub(crate) fn secret(inline: &Secret, key: &'static str, file: &Path) -> Self {
        Self::new(inline.expose(), key, file)
    }

    /// The credential as it is now; white space around a file's content is not part of it (as in Prometheus).
    pub(crate) fn read(&self) -> Result<Arc<str>, Error> {
        match self {
            Self::None => Ok("".into()),
            Self::Inline(text) => Ok(text.clone()),
            Self::File { key, path, cache } => {
                let now = Stamp::of(key, path)?;
                let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((stamp, text)) = &*cache
                    && stamp.still_holds(&now)
                {
                    return Ok(text.clone());
                }
                let text: Arc<str> = read_text(key, path)?.trim().into();
                *cache = Some((now, text.clone()));
                Ok(text)
            }
        }
    }
}
