//! CPU time and memory of a process, as the kernel counts them.

use serde::{Deserialize, Serialize};
use std::{fs, io};

/// Clock ticks a second in /proc: fixed by the kernel's interface on x86-64 and arm64.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading of a process. Memory is in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User CPU time since the process started, seconds (10 ms steps).
    pub user_seconds: f64,
    /// System CPU time since the process started, seconds.
    pub system_seconds: f64,
    /// Resident memory.
    pub rss: u64,
    /// Of that, anonymous memory: what the process itself allocated.
    pub anonymous: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// Reads /proc; an error when the process is gone.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self::parse(&stat, &status))
    }

    /// User and system CPU time together, seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    fn parse(stat: &str, status: &str) -> Self {
        // The second field is the program's name in brackets and may itself hold blanks and brackets.
        let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
        let ticks = |index: usize| {
            after_name
                .split_ascii_whitespace()
                .nth(index)
                .and_then(|field| field.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        Self {
            user_seconds: ticks(11) / TICKS_PER_SECOND,
            system_seconds: ticks(12) / TICKS_PER_SECOND,
            rss: number("VmRSS") * 1024,
            anonymous: number("RssAnon") * 1024,
            peak: number("VmHWM") * 1024,
            threads: number("Threads"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1 1";
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t1024 kB\nRssAnon:\t 512 kB\nThreads:\t3\n";
        let usage = Usage::parse(stat, status);
        let expected = Usage {
            user_seconds: 2.5,
            system_seconds: 0.5,
            rss: 1 << 20,
            anonymous: 512 << 10,
            peak: 2 << 20,
            threads: 3,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn this_process_is_seen_to_work() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut total = 0u64;
        while Usage::of(std::process::id()).unwrap().cpu_seconds() <= before.cpu_seconds() {
            total = (0..1_000_000).fold(total, |sum, number| std::hint::black_box(sum ^ number));
        }
        assert!(before.rss > 1 << 20 && before.threads >= 1 && before.peak >= before.rss);
    }
}
