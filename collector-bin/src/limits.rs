//! What the control group and the system allow: memory, CPU, open files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the process may use, as its control group says it; read once at start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of memory, the smallest of the control group's limits and the machine's memory.
    pub memory_bytes: u64,
    /// Whether the memory limit is the control group's.
    pub memory_is_limited: bool,
    /// Cores' worth of CPU time, a fraction under a quota.
    pub cpus: f64,
    /// The share of the memory that may be reserved for data, above 0 and at most 1, where the user says it.
    pub budget_share: Option<f64>,
}

/// The share of the memory limit that is budgeted for data; the rest is for code, stacks and the allocator.
const BUDGET_SHARE: f64 = 0.8;
/// What the process needs before any data is there.
const BASE_BYTES: u64 = 24 * 1024 * 1024;

impl Limits {
    /// The limits of this process.
    pub fn of_process() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::read(Path::new("/proc"), Path::new("/sys/fs/cgroup"), cores)
    }

    /// The limits that `proc` (`self/cgroup`, `self/mountinfo`, `meminfo`) and `cgroup` say, on a machine of
    /// this many cores; cgroup v2, v1, or both in hybrid mode.
    pub fn read(proc: &Path, cgroup: &Path, cores: usize) -> Self {
        let machine = meminfo_total(&proc.join("meminfo"));
        let groups = Groups::read(&proc.join("self/cgroup"));
        let mut memory: Option<u64> = None;
        let mut quota: Option<f64> = None;
        for dir in groups.dirs(cgroup, "") {
            memory = least(memory, number(&dir.join("memory.max")));
            quota = least(quota, v2_quota(&dir.join("cpu.max")));
        }
        for dir in groups.dirs(cgroup, "memory") {
            memory = least(memory, number(&dir.join("memory.limit_in_bytes")));
        }
        for name in ["cpu", "cpu,cpuacct"] {
            for dir in groups.dirs(cgroup, name) {
                quota = least(quota, v1_quota(&dir));
            }
        }
        // Version 1 says "no limit" with a number near 2^63.
        let memory = memory.filter(|&bytes| machine.is_none_or(|machine| bytes < machine));
        Self {
            memory_bytes: memory.or(machine).unwrap_or(1 << 30),
            memory_is_limited: memory.is_some(),
            cpus: quota.map_or(cores as f64, |quota| quota.min(cores as f64)),
            budget_share: None,
        }
    }

    /// Bytes that may be reserved for data. Without a limit it is a quarter of the machine: the collector is
    /// a guest there.
    pub fn budget_bytes(&self) -> usize {
        let share = self.budget_share.unwrap_or(if self.memory_is_limited { BUDGET_SHARE } else { 0.25 });
        let budget = (self.memory_bytes as f64 * share) as u64;
        usize::try_from(budget.saturating_sub(BASE_BYTES).max(BASE_BYTES / 2)).unwrap_or(usize::MAX)
    }

    /// How many threads may use the CPU at once.
    pub fn workers(&self) -> usize {
        (self.cpus.ceil() as usize).max(1)
    }
}

/// Raises the soft limit of open files to the hard one: a connection a target, and segments. Returns the
/// limit that is now in force.
///
/// # Errors
/// What the system answered.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE)?;
    if soft < hard {
        rlimit::setrlimit(rlimit::Resource::NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// `/proc/self/cgroup`: the group's path in each hierarchy; the unified one has no name.
struct Groups(Vec<(String, PathBuf)>);

impl Groups {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        let groups = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, group) = (fields.next()?, fields.next()?);
            Some((controllers.to_owned(), PathBuf::from(group.trim_start_matches('/'))))
        });
        Self(groups.collect())
    }

    /// The group's directories from the innermost to the root: a limit may be set on any of them. Inside a
    /// container the path may be the host's, which is not there: then only the root is looked at.
    fn dirs(&self, root: &Path, controller: &str) -> Vec<PathBuf> {
        let mount = root.join(controller);
        let group = self.0.iter().find(|(names, _)| {
            names == controller || (!controller.is_empty() && names.split(',').any(|name| name == controller))
        });
        let mut dirs = Vec::new();
        let mut dir = group.map(|(_, path)| mount.join(path)).filter(|dir| dir.is_dir());
        while let Some(inner) = dir.filter(|dir| dir.starts_with(&mount) && *dir != mount) {
            dir = inner.parent().map(Path::to_path_buf);
            dirs.push(inner);
        }
        dirs.push(mount);
        dirs
    }
}

fn least<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b < a { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `cpu.max`: quota and period in microseconds, or `max`.
fn v2_quota(path: &Path) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.split_whitespace();
    let quota: f64 = fields.next()?.parse().ok()?;
    let period: f64 = fields.next()?.parse().ok()?;
    (period > 0.0).then_some(quota / period)
}

fn v1_quota(dir: &Path) -> Option<f64> {
    let quota: i64 = fs::read_to_string(dir.join("cpu.cfs_quota_us")).ok()?.trim().parse().ok()?;
    let period = number(&dir.join("cpu.cfs_period_us"))?;
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

fn meminfo_total(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn limits(files: &[(&str, &str)]) -> Limits {
        let dir = tree(files);
        Limits::read(&dir.path().join("proc"), &dir.path().join("cgroup"), 4)
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");

    #[test]
    fn version_2_counts_the_tightest_limit_up_the_tree() {
        let limits = limits(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/kubepods/pod1/c1\n"),
            ("cgroup/kubepods/pod1/c1/memory.max", "max\n"),
            ("cgroup/kubepods/pod1/c1/cpu.max", "25000 100000\n"),
            ("cgroup/kubepods/pod1/memory.max", "268435456\n"),
            ("cgroup/kubepods/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(
            limits,
            Limits { memory_bytes: 268_435_456, memory_is_limited: true, cpus: 0.25, budget_share: None }
        );
        assert_eq!(limits.workers(), 1);
        assert_eq!(limits.budget_bytes(), 214_748_364 - BASE_BYTES as usize);
    }

    #[test]
    fn version_2_in_a_container_sees_only_its_root() {
        let limits = limits(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/../../host/path\n"),
            ("cgroup/memory.max", "536870912\n"),
            ("cgroup/cpu.max", "150000 100000\n"),
        ]);
        assert_eq!(
            limits,
            Limits { memory_bytes: 536_870_912, memory_is_limited: true, cpus: 1.5, budget_share: None }
        );
        assert_eq!(limits.workers(), 2);
    }

    #[test]
    fn version_1_has_a_tree_a_controller() {
        let limits = limits(&[
            MEMINFO,
            ("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n"),
            ("cgroup/memory/job/memory.limit_in_bytes", "104857600\n"),
            ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n"),
            ("cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(
            limits,
            Limits { memory_bytes: 104_857_600, memory_is_limited: true, cpus: 0.5, budget_share: None }
        );
    }

    #[test]
    fn without_limits_the_machine_counts() {
        let limits = limits(&[MEMINFO, ("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(
            limits,
            Limits { memory_bytes: 8_192_000_000, memory_is_limited: false, cpus: 4.0, budget_share: None }
        );
    }

    #[test]
    fn a_share_may_be_said() {
        let limits = limits(&[MEMINFO, ("cgroup/memory.max", "1000000000\n")]);
        let said = Limits { budget_share: Some(0.5), ..limits };
        assert_eq!(said.budget_bytes(), 500_000_000 - BASE_BYTES as usize);
        assert!(limits.budget_bytes() > said.budget_bytes());
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let raised = raise_open_files().unwrap();
        assert_eq!(rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap(), (raised, raised));
    }
}
