//! Networks of a test's own, and who reaches whom in them.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use promferry_bench::process::Process;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::collector::{LIMIT, is_full_tier};
use crate::inside;

/// The programs that a [`Network`] is made with.
pub(crate) const NETWORK: &[&str] = &["ip", "unshare", "nsenter", "sh"];

/// What a [`Network`] does, once each.
const ATTEMPT: &str = "unshare --net sleep 20 & holder=$!
tries=0
while [ \"$(readlink /proc/$holder/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do
  tries=$((tries + 1)); [ $tries -lt 100 ] || { echo 'unshare --net does nothing' >&2; exit 1; }; sleep 0.1
done
ip link add name attempt type veth peer name eth0 netns $holder
ip address add 10.99.0.1/24 dev attempt
ip link set attempt up
inside() { nsenter --net=/proc/$holder/ns/net -- \"$@\"; }
inside ip link set lo up
inside ip address add 10.99.0.2/24 dev eth0
inside ip link set eth0 up
inside ip route add local 10.99.0.128/25 dev lo
inside sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
kill $holder";

/// The collector, its receiver and the test are at 10.77.0.1. A gateway at 10.77.0.2 can be reached from there; workers
/// behind it, each a /24 of which every address is its own, only by the gateway:
///
/// ```text
/// collector 10.77.0.1 ── 10.77.0.2 gateway 10.88.1.1 ── 10.88.1.0/24 worker 1
///                                          10.88.2.1 ── 10.88.2.0/24 worker 2
/// ```
pub(crate) struct Network {
    pub(crate) gateway: Namespace,
    pub(crate) workers: Vec<Namespace>,
}

/// A network namespace, which ends with this.
pub(crate) struct Namespace {
    holder: Process,
}

/// Runs `scene` in a network that has nothing but a loopback, with an `/etc` and a `/run` that may be written to and a
/// process tree that ends with it: this program runs itself there, for the one test whose name is `test`, with its
/// modules. `programs` are needed for it. Skips, said aloud, where that can't be; the full tier has to be able to.
pub(crate) fn in_own_network(test: &str, programs: &[&str], scene: impl AsyncFnOnce()) {
    if inside::is_inside() {
        return inside::run(scene());
    }
    for program in ["bwrap"].iter().chain(programs) {
        if !is_there(program) {
            return skip(test, &format!("{program} is not installed"));
        }
    }
    // Wherever the test's own etc comes from, what is there is left as it is.
    let folder = tempfile::tempdir().unwrap();
    if let Err(reason) = inside::attempt(sandbox(&folder).arg("true")) {
        return skip(test, &reason);
    }
    if programs.contains(&"nsenter")
        && let Err(reason) = inside::attempt(sandbox(&folder).args(["sh", "-ec", ATTEMPT]))
    {
        return skip(test, &format!("no networks of its own: {reason}"));
    }
    inside::run_again(sandbox(&folder), test);
}

/// Says that a test does not run; in the full tier, which has to run it, it fails.
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(!is_full_tier(), "{test}: {reason}");
    eprintln!("SKIPPED {test}: {}", reason.trim());
}

/// Gives names to addresses, as a name server would, in place of those it gave before.
pub(crate) fn call(names: &[(&str, &str)]) {
    let lines: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    fs::write("/etc/hosts", format!("127.0.0.1 localhost\n{lines}")).unwrap();
}

/// Writes a file, and makes its folder.
pub(crate) fn put(path: &str, text: &str) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Whether somebody answers there.
pub(crate) async fn answers(address: &str) -> bool {
    let connected = TcpStream::connect(address.parse::<SocketAddr>().unwrap());
    matches!(tokio::time::timeout(Duration::from_secs(2), connected).await, Ok(Ok(_)))
}

/// Gives the loopback these addresses too: the API server's proxies take none of 127.0.0.0/8.
pub(crate) fn add_addresses(addresses: &[String]) {
    for address in addresses {
        ip(&format!("address add {address}/32 dev lo"));
    }
}

impl Network {
    pub(crate) fn new(workers: usize) -> Self {
        let network =
            Self { gateway: Namespace::new(), workers: (0..workers).map(|_| Namespace::new()).collect() };
        network.gateway.join(None, "collector", "10.77.0.1/24", "10.77.0.2/24");
        network.gateway.forward(false);
        for (number, worker) in (1..).zip(&network.workers) {
            let [ours, its] = [1, 2].map(|host| format!("10.88.{number}.{host}/24"));
            worker.join(Some(&network.gateway), &format!("worker{number}"), &ours, &its);
            worker.run("ip", &format!("route add local 10.88.{number}.128/25 dev lo"));
            worker.run("ip", &format!("route add default via 10.88.{number}.1"));
        }
        network
    }

    /// Whether the gateway lets the collector through to the workers.
    pub(crate) fn let_through(&self, is_open: bool) {
        self.gateway.forward(is_open);
        let change = if is_open { "add" } else { "delete" };
        ip(&format!("route {change} 10.88.0.0/16 via 10.77.0.2"));
    }
}

impl Namespace {
    fn new() -> Self {
        let log = Path::new("/dev/null");
        let holder = Process::start(Path::new("unshare"), ["--net", "sleep", "infinity"], log).unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let namespace = Self { holder };
        let started = Instant::now();
        // It is the parent's until unshare has run.
        while fs::metadata(namespace.file()).map_or(own, |file| file.ino()) == own {
            assert!(started.elapsed() < LIMIT, "unshare --net does nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        namespace.run("ip", "link set lo up");
        namespace
    }

    /// The arguments of `nsenter` that run a command in it.
    pub(crate) fn enter(&self, command: &[&str]) -> Vec<String> {
        let mut words = vec![format!("--net={}", self.file().display()), "--".to_owned()];
        words.extend(command.iter().map(ToString::to_string));
        words
    }

    /// Runs a command in it to its end.
    fn run(&self, program: &str, arguments: &str) {
        let words: Vec<&str> = [program].into_iter().chain(arguments.split_whitespace()).collect();
        to_its_end(Command::new("nsenter").args(self.enter(&words)));
    }

    /// Whether it passes on what is for others.
    fn forward(&self, is_on: bool) {
        let set = format!("echo {} >/proc/sys/net/ipv4/ip_forward", u8::from(is_on));
        to_its_end(Command::new("nsenter").args(self.enter(&["sh", "-c", &set])));
    }

    fn file(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.pid()).into()
    }

    /// A cable between it and another one, or the network of the test.
    fn join(&self, other: Option<&Self>, called: &str, other_address: &str, address: &str) {
        let cable = format!("link add name {called} type veth peer name eth0 netns {}", self.holder.pid());
        let other_end =
            [cable, format!("address add {other_address} dev {called}"), format!("link set {called} up")];
        for arguments in &other_end {
            match other {
                Some(other) => other.run("ip", arguments),
                None => ip(arguments),
            }
        }
        self.run("ip", &format!("address add {address} dev eth0"));
        self.run("ip", "link set eth0 up");
    }
}

fn ip(arguments: &str) {
    to_its_end(Command::new("ip").args(arguments.split_whitespace()));
}

fn to_its_end(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_there(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// bubblewrap. Who is not root becomes root of a user namespace.
fn sandbox(folder: &TempDir) -> Command {
    let mut command = Command::new("bwrap");
    if !inside::is_root() {
        command.args(["--unshare-user", "--uid", "0", "--gid", "0"]);
    }
    command.args([
        "--cap-add",
        "ALL",
        "--unshare-net",
        "--unshare-pid",
        "--unshare-ipc",
        "--die-with-parent",
    ]);
    command.args(["--dev-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/run", "--tmpfs", "/etc"]);
    // What is in /etc stays there; what is added is the test's own.
    let entries: BTreeMap<_, _> = fs::read_dir("/etc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // A link whose end is missing or hidden by the new /run is missing there.
        .filter_map(|path| path.canonicalize().ok().map(|end| (path, end)))
        .filter(|(path, _)| path != Path::new("/etc/hosts"))
        .collect();
    for (path, end) in &entries {
        command.arg("--ro-bind-try").arg(end).arg(path);
    }
    command.arg("--chdir").arg(folder.path());
    command
}
