//! What becomes of data that waits to be delivered, for each event and each place where the spool may lie.
//!
//! `docs/promise.md` holds the same table for people, and a test compares the two.

use std::fmt;

use promferry_remote_write::spool::FsyncPolicy;

use crate::storage_location::StorageLocation;

/// Something that happens to the process, its pod or its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process is killed or crashes; the container goes on, or there is none.
    ProcessKilled,
    /// The container is started anew in the same pod: a crash, a failed liveness probe.
    ContainerRestarted,
    /// The kernel kills for want of memory: the container is started anew.
    OutOfMemory,
    /// The pod is deleted and another takes its place: an eviction, a drained node, Fargate's patching.
    PodReplaced,
    /// A new version or configuration is rolled out: each pod is replaced.
    Rollout,
    /// The node, the microVM or the machine is gone without a signal.
    NodeLost,
}

/// What becomes of what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The next start delivers it.
    Kept,
    /// The next start delivers it where it is on the same node; otherwise as [`Promise::Flushed`].
    KeptOnNode,
    /// SIGTERM comes first: it is sent for up to 20 s, the rest is lost.
    Flushed,
    /// The next start delivers what was synced to the volume.
    Synced,
    /// It is lost.
    Lost,
    /// It does not happen there.
    NotThere,
}

impl Event {
    /// All events, the frequent ones first.
    pub const ALL: [Self; 6] = [
        Self::ProcessKilled,
        Self::ContainerRestarted,
        Self::OutOfMemory,
        Self::PodReplaced,
        Self::Rollout,
        Self::NodeLost,
    ];
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessKilled => "process killed",
            Self::ContainerRestarted => "container restarted",
            Self::OutOfMemory => "OOM kill",
            Self::PodReplaced => "pod replaced",
            Self::Rollout => "rollout",
            Self::NodeLost => "node lost",
        })
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::KeptOnNode => "kept on the same node",
            Self::Flushed => "sent for up to 20 s, the rest lost",
            Self::Synced => "kept as far as it was synced",
            Self::Lost => "lost",
            Self::NotThere => "–",
        })
    }
}

impl fmt::Display for StorageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ContainerLayer => f.write_str("the container's own layer"),
            Self::EmptyDir => f.write_str("an emptyDir"),
            Self::MemoryEmptyDir => f.write_str("an emptyDir in memory"),
            Self::NodeDirectory => f.write_str("a directory of the node"),
            Self::Volume { file_system } => write!(f, "a volume ({file_system})"),
            Self::HostDisk => f.write_str("a disk of this machine"),
            Self::HostMemory => f.write_str("memory of this machine (tmpfs)"),
            Self::Unknown => f.write_str("a place that the mounts do not tell"),
        }
    }
}

/// What becomes of data that waits at `location` when `event` happens.
pub fn promise(location: &StorageLocation, event: Event) -> Promise {
    use Event::{ContainerRestarted, NodeLost, OutOfMemory, PodReplaced, ProcessKilled, Rollout};
    use StorageLocation as At;
    match (location, event) {
        (_, ProcessKilled) => Promise::Kept,
        // Nothing is known: nothing more is promised.
        (At::ContainerLayer | At::Unknown, ContainerRestarted | OutOfMemory) => Promise::Lost,
        (At::ContainerLayer | At::Unknown, PodReplaced | Rollout) => Promise::Flushed,
        (At::EmptyDir | At::MemoryEmptyDir, PodReplaced | Rollout) => Promise::Flushed,
        (At::ContainerLayer | At::EmptyDir | At::MemoryEmptyDir | At::Unknown, NodeLost) => Promise::Lost,
        (
            At::EmptyDir | At::MemoryEmptyDir | At::NodeDirectory | At::Volume { .. },
            ContainerRestarted | OutOfMemory,
        ) => Promise::Kept,
        (At::NodeDirectory, PodReplaced | Rollout) => Promise::KeptOnNode,
        (At::NodeDirectory, NodeLost) => Promise::Lost,
        (At::Volume { .. }, PodReplaced | Rollout) => Promise::Kept,
        (At::Volume { .. } | At::HostDisk, NodeLost) => Promise::Synced,
        (At::HostDisk | At::HostMemory, OutOfMemory | Rollout) => Promise::Kept,
        (At::HostDisk | At::HostMemory, ContainerRestarted | PodReplaced) => Promise::NotThere,
        (At::HostMemory, NodeLost) => Promise::Lost,
    }
}

/// The promise in one sentence, as it is logged at start.
pub fn sentence(location: &StorageLocation, fsync: FsyncPolicy) -> String {
    let with = |wanted: Promise| {
        let events = Event::ALL.into_iter().filter(|event| promise(location, *event) == wanted);
        let events: Vec<_> = events.map(|event| event.to_string()).collect();
        (!events.is_empty()).then(|| format!("{wanted}: {}", events.join(", ")))
    };
    let order = [Promise::Kept, Promise::KeptOnNode, Promise::Synced, Promise::Flushed, Promise::Lost];
    let parts: Vec<_> = order.into_iter().filter_map(with).collect();
    let fsync = match fsync {
        FsyncPolicy::Never => "the system decides when it is synced (--storage.agent.fsync=never)".to_owned(),
        FsyncPolicy::Interval(interval) => format!("synced every {}", humantime::format_duration(interval)),
        FsyncPolicy::Always => "synced before a scrape counts as done".to_owned(),
    };
    format!("what waits to be delivered lies in {location}; {}; {fsync}", parts.join("; "))
}

/// What an operator should change, if anything.
pub fn advice(location: &StorageLocation) -> Option<&'static str> {
    match location {
        StorageLocation::ContainerLayer => Some(
            "the spool is lost when the container restarts: mount an emptyDir or a volume and point \
             --storage.agent.path to it",
        ),
        StorageLocation::MemoryEmptyDir => Some(
            "the spool takes the memory that the pod's limit counts: an outage may end in an OOM kill; use an \
             emptyDir without medium: Memory, or a smaller --storage.agent.max-bytes",
        ),
        _ => None,
    }
}

/// The table of `docs/promise.md`.
pub fn table() -> String {
    let locations = [
        StorageLocation::ContainerLayer,
        StorageLocation::EmptyDir,
        StorageLocation::MemoryEmptyDir,
        StorageLocation::NodeDirectory,
        StorageLocation::Volume { file_system: "any".to_owned() },
        StorageLocation::HostDisk,
        StorageLocation::HostMemory,
    ];
    let mut table = String::from("| the spool lies in |");
    Event::ALL.iter().for_each(|event| table.push_str(&format!(" {event} |")));
    table.push_str("\n|---|");
    Event::ALL.iter().for_each(|_| table.push_str("---|"));
    for location in &locations {
        table.push_str(&format!("\n| {location} |"));
        Event::ALL.iter().for_each(|event| table.push_str(&format!(" {} |", promise(location, *event))));
    }
    table.push('\n');
    table
}
