//! Programs started beside the runner, which never outlive it.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A program that is killed when this is dropped, and by the kernel when the thread that started it is gone.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program; what it prints is appended to `log`.
    pub fn start(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> io::Result<Self> {
        let log = File::options().append(true).create(true).open(log)?;
        let mut command = tied_to_this_process(program);
        let command = command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: command.spawn()? })
    }

    /// Starts a program and gives its standard output.
    pub fn start_piped(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<(Self, std::process::ChildStdout)> {
        let mut command = tied_to_this_process(program);
        let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no pipe to the child"))?;
        Ok((Self { child }, output))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// SIGTERM, and waits for its end; kills it when it takes longer than `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> io::Result<Stopped> {
        let start = Instant::now();
        // A shell's own kill: sending a signal from here would need unsafe code.
        Command::new("sh").args(["-c", &format!("kill -TERM {}", self.pid())]).status()?;
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Stopped { after: start.elapsed(), status: Some(status) });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill()?;
        Ok(Stopped { after: start.elapsed(), status: None })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.kill();
    }
}

/// How a program ended after SIGTERM.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    /// How long it took.
    pub after: Duration,
    /// Its exit status; nothing when it had to be killed.
    pub status: Option<ExitStatus>,
}

/// An address of 127.0.0.1 on which nobody listens now, for a program to listen on: none of those that the system hands
/// out to whoever asks for any port or connects (32768 to 60999, unless it was told otherwise). What this process listens
/// on itself is a [`HeldPort`](crate::port::HeldPort).
pub fn free_address() -> io::Result<SocketAddr> {
    const PORTS: Range<u16> = 20_000..32_000;
    // Somewhere else in each process, so that two at the same time do not meet.
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) >> 1));
    for _ in PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u64;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, PORTS.start + step as u16)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on every port from 20000 to 31999"))
}

/// util-linux' setpriv, where it is there, has the kernel kill the program when its parent dies.
fn tied_to_this_process(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args([OsString::from("--pdeathsig"), "KILL".into(), "--".into(), program.into()]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_address_is_none_that_the_system_hands_out() {
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let handed_out: Vec<u16> = range.split_whitespace().map(|port| port.parse().unwrap()).collect();
        let free: Vec<u16> = (0..20).map(|_| free_address().unwrap().port()).collect();
        // A machine whose system hands out all ports has no others.
        if handed_out[0] >= 32_000 {
            assert!(free.iter().all(|port| *port < handed_out[0]), "{free:?}, not {handed_out:?}");
        }
    }
}
