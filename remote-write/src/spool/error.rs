use std::io;

/// Why the spool could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Another process works in the same directory.
    #[error(
        "the spool is in use by another process (it holds the lock {path:?}); give each process its own storage path"
    )]
    Locked {
        /// The lock file, relative to the storage's root.
        path: String,
    },
    /// The storage failed.
    #[error("the spool could not {action} {path:?}: {source}")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The file or directory, relative to the storage's root.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Two logs or endpoints whose keys have the same hash.
    #[error("{second:?} can't be kept beside {first:?}: their file names are equal")]
    KeyCollision {
        /// What is there.
        first: String,
        /// What was to be added.
        second: String,
    },
    /// A log or endpoint of another spool.
    #[error("the spool knows no such {what}")]
    Unknown {
        /// `log` or `endpoint`.
        what: &'static str,
    },
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

impl SpoolError {
    /// Whether space on the disk was wanting.
    pub(super) fn is_disk_full(&self) -> bool {
        let kind = match self {
            Self::Storage { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Says what was tried with which file.
pub(super) fn storage_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |source| SpoolError::Storage { action, path, source }
}
