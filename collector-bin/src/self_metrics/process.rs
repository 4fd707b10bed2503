use std::time::Duration;

use promferry_model::{MemoryBudget, Purpose};

use super::{Family, Page, counter, gauge};
use crate::pipeline::Pipeline;

pub(super) fn write(page: &mut Page, pipeline: &Pipeline) {
    let process = Process {
        budget: pipeline.budget().clone(),
        cpus: pipeline.limits().cpus,
        timer_lag: pipeline.heartbeat().take_worst(),
        stat: Stat::read(),
    };
    page.write(FAMILIES, &[(Vec::new(), &process)]);
}

struct Process {
    budget: MemoryBudget,
    cpus: f64,
    timer_lag: Duration,
    stat: Option<Stat>,
}

const FAMILIES: &[Family<Process>] = &[
    gauge("promferry_build_info", "The version that runs.", |_, points| {
        points.value_of(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    }),
    gauge("promferry_memory_budget_bytes", "Bytes that data may take.", |process, points| {
        points.value(process.budget.limit() as f64);
    }),
    gauge("promferry_memory_reserved_bytes", "Bytes reserved of the budget.", |process, points| {
        for &purpose in &Purpose::ALL {
            let used = process.budget.used_by(purpose);
            points.value_of(&[("purpose", purpose.as_str())], used as f64);
        }
    }),
    gauge("promferry_memory_reserved_bytes_max", "The most reserved at once.", |process, points| {
        points.value(process.budget.peak() as f64);
    }),
    gauge("promferry_cpu_limit_cores", "Cores that the process may use.", |process, points| {
        points.value(process.cpus);
    }),
    gauge(
        "promferry_timer_lag_seconds",
        "How late the latest timer was since the last scrape of this page.",
        |process, points| points.value(process.timer_lag.as_secs_f64()),
    ),
    counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        |process, points| points.value(process.stat.as_ref().map_or(0.0, |stat| stat.cpu_seconds)),
    ),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", |_, points| {
        points.value(resident_bytes().unwrap_or_default() as f64);
    }),
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", |process, points| {
        points.value(process.stat.as_ref().map_or(0.0, |stat| stat.virtual_bytes));
    }),
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        |process, points| points.value(process.stat.as_ref().map_or(0.0, |stat| stat.started_seconds)),
    ),
    gauge("process_open_fds", "Number of open file descriptors.", |_, points| {
        points.value(std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64);
    }),
    gauge("process_max_fds", "Maximum number of open file descriptors.", |_, points| {
        let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
        points.value(limit as f64);
    }),
];

/// `/proc/self/stat`, as proc(5) counts its fields.
struct Stat {
    cpu_seconds: f64,
    virtual_bytes: f64,
    started_seconds: f64,
}

/// `USER_HZ`, 100 on every Linux of ours.
const TICKS_PER_SECOND: f64 = 100.0;

impl Stat {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the name in parentheses, which may have anything in it, comes field 3.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            virtual_bytes: field(23)?,
            started_seconds: boot + field(22)? / TICKS_PER_SECOND,
        })
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?;
    Some(kilobytes.trim().parse::<u64>().ok()? * 1024)
}
