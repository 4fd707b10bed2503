//! Memory of a process, read again and again.

use promferry_bench::proc::Usage;
use serde::{Deserialize, Serialize};
use std::{fs, io, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Time between two readings.
const STEP: Duration = Duration::from_millis(500);

/// What a process took over a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Resident bytes, mean.
    pub(crate) rss_mean: f64,
    /// Resident bytes, the most that was ever resident since its start.
    pub(crate) rss_peak: u64,
    /// Anonymous resident bytes, mean.
    pub(crate) anonymous_mean: f64,
    /// CPU seconds of that time.
    pub(crate) cpu_seconds: f64,
    /// CPU seconds from its start until then.
    pub(crate) cpu_seconds_before: f64,
    /// How long it was, seconds.
    pub(crate) seconds: f64,
}

/// Reads a process while this is not finished.
#[derive(Debug)]
pub(crate) struct Sampler {
    pid: u32,
    began: Instant,
    before: Usage,
    readings: JoinHandle<io::Result<Vec<Usage>>>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Sampler {
    pub(crate) fn start(pid: u32) -> io::Result<Self> {
        let before = Usage::of(pid)?;
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let readings = tokio::spawn(async move {
            let mut readings = Vec::new();
            loop {
                readings.push(Usage::of(pid)?);
                tokio::select! {
                    () = sleep(STEP) => {}
                    _ = &mut stopped => return Ok(readings),
                }
            }
        });
        Ok(Self { pid, began: Instant::now(), before, readings, stop })
    }

    pub(crate) async fn finish(self) -> io::Result<Taken> {
        let after = Usage::of(self.pid)?;
        let seconds = self.began.elapsed().as_secs_f64();
        // It ends by itself only with an error, which is what is read next.
        let _ = self.stop.send(());
        let readings = self.readings.await.map_err(io::Error::other)??;
        let mean =
            |of: &dyn Fn(&Usage) -> u64| readings.iter().map(of).sum::<u64>() as f64 / readings.len() as f64;
        Ok(Taken {
            rss_mean: mean(&|usage| usage.rss),
            rss_peak: after.peak,
            anonymous_mean: mean(&|usage| usage.anonymous),
            cpu_seconds: after.cpu_seconds() - self.before.cpu_seconds(),
            cpu_seconds_before: self.before.cpu_seconds(),
            seconds,
        })
    }
}

/// Resident bytes of a process by what they are of, largest first: `heap and anonymous`, `stack`, a file's name.
pub(crate) fn mappings(pid: u32) -> io::Result<Vec<(String, u64)>> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut sums = std::collections::BTreeMap::<String, u64>::new();
    let mut of = String::new();
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match fields.next() {
            Some("Rss:") => {
                let kilobytes: u64 = fields.next().and_then(|number| number.parse().ok()).unwrap_or(0);
                *sums.entry(of.clone()).or_default() += kilobytes * 1024;
            }
            // A mapping begins with its addresses; the sixth field is its name.
            Some(addresses) if !addresses.ends_with(':') => {
                of = match fields.nth(4) {
                    None | Some("[heap]") => "heap and anonymous".to_owned(),
                    Some(name) if name.starts_with("[anon") => "heap and anonymous".to_owned(),
                    Some(name) => name.rsplit('/').next().unwrap_or(name).to_owned(),
                };
            }
            _ => {}
        }
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    sums.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_sum_up_to_what_is_resident() {
        let sum: u64 = mappings(std::process::id()).unwrap().iter().map(|(_, bytes)| bytes).sum();
        let rss = Usage::of(std::process::id()).unwrap().rss;
        assert!(sum.abs_diff(rss) < 16 << 20, "{sum} and {rss}");
    }
}
