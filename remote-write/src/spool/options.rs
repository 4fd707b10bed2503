use std::time::Duration;

/// How the spool keeps what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Bytes all logs together may take, divided evenly between them; `None` is half of the space that is
    /// free when the spool is opened, at most 4 GiB.
    pub max_bytes: Option<u64>,
    /// Bytes after which a segment is closed and the next begun (16 MiB). Less where the quota is small, so
    /// that a full log loses an eighth of itself at most. So much is set aside on the disk when one is begun.
    pub segment_bytes: u64,
    /// When written data is made durable against the loss of the machine.
    pub fsync: FsyncPolicy,
    /// How long to wait before the disk is tried again after it failed (1 s).
    pub retry_interval: Duration,
    /// Bytes after which a cursor file is rewritten with what still matters (256 KiB). Twice as much is
    /// set aside on the disk for each.
    pub cursor_file_bytes: u64,
    /// How long the backlog of an endpoint that takes no part is kept, by the age of its samples (24 h).
    pub abandoned_after: Duration,
    /// Records of closed segments whose place is remembered for reading (32,768, 40 bytes each).
    pub index_records: usize,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_bytes: None,
            segment_bytes: 16 << 20,
            fsync: FsyncPolicy::Never,
            retry_interval: Duration::from_secs(1),
            cursor_file_bytes: 256 << 10,
            abandoned_after: Duration::from_secs(24 * 60 * 60),
            index_records: 32 << 10,
        }
    }
}

impl SpoolOptions {
    /// The most that is taken of a disk when nothing is said: 4 GiB.
    pub const DEFAULT_MAX_BYTES: u64 = 4 << 30;
}

/// When written data is made durable against the loss of the machine. What was written always survives the
/// end of the process, whichever way it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// When the operating system pleases.
    #[default]
    Never,
    /// At least this often.
    Interval(Duration),
    /// Before an append or a settlement is acknowledged.
    Always,
}

/// How one endpoint's backlog is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    /// Samples older than this are dropped as `too_old` instead of being sent; `None` keeps them.
    pub sample_age_limit: Option<Duration>,
}
