//! Where a directory really lies: in a container's own layer, an emptyDir, a volume or on a host's disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What kind of storage holds a directory; what that survives is in [`promise`](crate::promise).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageLocation {
    /// The container's writable layer: thrown away with the container.
    ContainerLayer,
    /// A Kubernetes `emptyDir` on the node's disk: lives as long as the pod.
    EmptyDir,
    /// A Kubernetes `emptyDir` with `medium: Memory`, or another tmpfs of a container: memory of the pod.
    MemoryEmptyDir,
    /// A directory of the node that is mounted into the container (`hostPath`, a local or a Docker volume).
    NodeDirectory,
    /// A file system of its own that is mounted into the container: a persistent volume.
    Volume {
        /// The file system: `ext4`, `xfs`, `nfs4`.
        file_system: String,
    },
    /// A disk of the machine; the process is in no container.
    HostDisk,
    /// Memory of the machine (tmpfs); the process is in no container.
    HostMemory,
    /// The mounts do not tell.
    Unknown,
}

impl StorageLocation {
    /// Where this directory, or the nearest one above it that exists, lies for this process.
    pub fn of(directory: &Path) -> Self {
        match fs::read_to_string("/proc/self/mountinfo") {
            Ok(mountinfo) => Self::read(&mountinfo, &resolved(directory), is_in_container()),
            Err(_) => Self::Unknown,
        }
    }

    /// The same, from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). `directory` is absolute and free
    /// of symbolic links; `in_container` says that there are signs of a container.
    pub fn read(mountinfo: &str, directory: &Path, in_container: bool) -> Self {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let root_is_overlay = mounts.iter().any(|mount| mount.point == Path::new("/") && mount.is_overlay());
        let in_container = in_container || root_is_overlay;
        let holding = mounts.iter().filter(|mount| directory.starts_with(&mount.point));
        // Of mounts on one point the last one is seen.
        let Some(mount) = holding.max_by_key(|mount| mount.point.components().count()) else {
            return Self::Unknown;
        };
        let kubernetes = |kind: &str| mount.root.contains(&format!("/kubernetes.io~{kind}/"));
        let is_memory = matches!(mount.file_system.as_str(), "tmpfs" | "ramfs");
        match () {
            () if is_memory && (in_container || kubernetes("empty-dir")) => Self::MemoryEmptyDir,
            () if is_memory => Self::HostMemory,
            () if kubernetes("empty-dir") => Self::EmptyDir,
            () if mount.is_overlay() => Self::ContainerLayer,
            () if !in_container => Self::HostDisk,
            // Other snapshotters than overlayfs give a container a disk of its own as its root.
            () if mount.point == Path::new("/") => Self::ContainerLayer,
            () if mount.root == "/" || kubernetes("csi") || mount.is_network() => {
                Self::Volume { file_system: mount.file_system.clone() }
            }
            () => Self::NodeDirectory,
        }
    }
}

/// One line of `mountinfo`.
struct Mount {
    /// Which directory of the file system is mounted.
    root: String,
    point: PathBuf,
    file_system: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let file_system = file_system.split(' ').next()?.to_owned();
        Some(Self { root, point: point.into(), file_system })
    }

    fn is_overlay(&self) -> bool {
        matches!(self.file_system.as_str(), "overlay" | "aufs" | "fuse.fuse-overlayfs")
    }

    fn is_network(&self) -> bool {
        let network = ["nfs", "cifs", "ceph", "9p", "fuse.", "lustre", "glusterfs"];
        network.iter().any(|name| self.file_system.starts_with(name))
    }
}

/// Spaces, tabs, newlines and backslashes stand as three octal digits behind a backslash.
fn unescape(field: &str) -> String {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match digits {
            Some(digits) => {
                text.push(
                    digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &after[3..];
            }
            None => {
                text.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The directory without symbolic links, as far as it exists.
fn resolved(directory: &Path) -> PathBuf {
    let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let mut missing = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        match existing.canonicalize() {
            Ok(found) => return missing.iter().rev().fold(found, |path, name| path.join(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return absolute,
        }
        let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) else { return absolute };
        missing.push(name.to_owned());
        existing = parent;
    }
}

/// What Kubernetes, Docker, Podman and ECS leave behind in a container.
fn is_in_container() -> bool {
    let variables = ["KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4", "container"];
    let files = ["/.dockerenv", "/run/.containerenv"];
    variables.iter().any(|name| std::env::var_os(name).is_some())
        || files.iter().any(|file| Path::new(file).exists())
}
