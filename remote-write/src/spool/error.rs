use std::io;

/// Why the spool could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Another process works in the same directory.
    #[error(
        "the spool is in use by another process{} that holds the lock {path:?}; give each process its own storage path",
        holder.as_ref().map(|holder| format!(" ({holder})")).unwrap_or_default()
    )]
    Locked {
        /// The lock file, relative to the storage's root.
        path: String,
        /// Who holds it, as far as it is known: its number and host, as it sees them itself.
        holder: Option<String>,
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
    /// A damaged cursor does not say what its endpoint waits for.
    #[error(
        "the cursor of {key:?} is damaged: what waits for it is sent by a start with the configuration that it is in"
    )]
    CursorLost {
        /// The endpoint's key.
        key: String,
    },
    /// An endpoint that takes part in this run can't be forgotten.
    #[error("{key:?} is being delivered to; only an endpoint that takes no part can be forgotten")]
    InUse {
        /// The endpoint's key.
        key: String,
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

/// Whether the disk itself is in trouble (full, read-only, failing): that passes or is borne, while any other
/// failure says that something is set up wrongly.
pub(super) fn is_disk_trouble(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    ) || error.raw_os_error() == Some(EIO)
}
