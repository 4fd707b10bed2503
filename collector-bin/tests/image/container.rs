//! A container of the image, as Kubernetes starts one: its root file system read-only, a uid that is nobody's, no
//! capability, process 1, and nothing mounted but `/proc`, `/dev` and what a test gives it. The network is the test's own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use promferry_bench::http_call;
use promferry_bench::process::Process;
use tempfile::TempDir;

use crate::collector::LIMIT;
use crate::layout::Layout;
use crate::network::{as_nobody, is_real_root};

/// What a manifest says of a container.
pub(crate) struct Container {
    root: PathBuf,
    command: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    mounts: Vec<[String; 3]>,
    working_directory: String,
    folder: TempDir,
}

/// A container that runs.
pub(crate) struct Running {
    process: Process,
    container: Container,
}

impl Container {
    /// Of an image, with its entrypoint and its command.
    pub(crate) fn of(image: &Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nobody comes in here, too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            root: image.unpack(&folder.path().join("bundle")),
            command: image.strings("Entrypoint"),
            arguments: image.strings("Cmd"),
            environment: Vec::new(),
            mounts: Vec::new(),
            working_directory: image.config["config"]["WorkingDir"].as_str().unwrap().to_owned(),
            folder,
        }
    }

    /// Kubernetes' `command` without `args`: replaces the image's entrypoint and its command.
    pub(crate) fn command(mut self, command: &[impl ToString]) -> Self {
        self.command = command.iter().map(ToString::to_string).collect();
        self.arguments.clear();
        self
    }

    /// Kubernetes' `args`: replaces the image's command.
    pub(crate) fn arguments(mut self, arguments: &[impl ToString]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Mounts a file with this text.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        let file = self.folder.path().join("files").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::create_dir_all(self.inside(path).parent().unwrap()).unwrap();
        fs::write(self.inside(path), "").unwrap();
        self.mount("--ro-bind", &file, path)
    }

    /// Mounts an empty folder that uid 65534 can write to, as an emptyDir of its group.
    pub(crate) fn volume(self, path: &str) -> Self {
        let volume = self.folder.path().join("volumes").join(path.trim_start_matches('/'));
        fs::create_dir_all(&volume).unwrap();
        self.give(&volume);
        fs::create_dir_all(self.inside(path)).unwrap();
        self.mount("--bind", &volume, path)
    }

    /// Lets the image's own folder be written to, as it is where the root file system is not read-only.
    pub(crate) fn writable(self, path: &str) -> Self {
        let of_image = self.inside(path);
        self.give(&of_image);
        self.mount("--bind", &of_image, path)
    }

    pub(crate) fn start(self) -> Running {
        let process = self.spawn();
        Running { process, container: self }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn mount(mut self, how: &str, from: &Path, to: &str) -> Self {
        self.mounts.push([how.to_owned(), from.display().to_string(), to.to_owned()]);
        self
    }

    /// Outside of a user namespace, in which there is one uid only, a folder has to be given to who is to write to it.
    fn give(&self, folder: &Path) {
        if is_real_root() {
            chown(folder, Some(65534), Some(65534)).unwrap();
        }
    }

    fn spawn(&self) -> Process {
        let [status, log] = ["status", "log"].map(|name| self.folder.path().join(name));
        // Its own descriptor, since bubblewrap closes it before the program starts.
        let mut words: Vec<String> =
            ["-c", "exec 3>\"$0\" && exec \"$@\""].into_iter().map(str::to_owned).collect();
        words.push(status.display().to_string());
        words.extend(as_nobody());
        words.extend(
            [
                "bwrap --unshare-user --uid 65534 --gid 65534 --unshare-ipc --unshare-pid --unshare-uts --as-pid-1",
                "--cap-drop ALL --new-session --die-with-parent --json-status-fd 3 --clearenv --ro-bind",
            ]
            .into_iter()
            .flat_map(str::split_whitespace)
            .map(str::to_owned),
        );
        words.extend([self.root.display().to_string(), "/".to_owned()]);
        words.extend(["--proc", "/proc", "--dev", "/dev"].map(str::to_owned));
        words.extend(self.mounts.iter().flatten().cloned());
        for (name, value) in &self.environment {
            words.extend(["--setenv".to_owned(), name.clone(), value.clone()]);
        }
        words.extend(["--chdir".to_owned(), self.working_directory.clone(), "--".to_owned()]);
        words.extend(self.command.iter().chain(&self.arguments).cloned());
        Process::start(Path::new("sh"), words, &log).unwrap()
    }
}

impl Running {
    /// Where the image's pages are, unless its arguments say otherwise.
    pub(crate) const PAGES: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.container.folder.path().join("log")).unwrap_or_default()
    }

    /// What lies below a mounted volume, with paths from there.
    pub(crate) fn volume(&self, path: &str) -> PathBuf {
        self.container.folder.path().join("volumes").join(path.trim_start_matches('/'))
    }

    /// A path of the image's own root file system, as it is called outside.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.container.inside(path)
    }

    /// A page's text; nothing where there is no answer or another status than 200.
    pub(crate) async fn page(&self, path: &str) -> Option<String> {
        let (status, body) = http_call::call(Self::PAGES, Method::GET, path, &[], Bytes::new()).await.ok()?;
        (status == 200).then(|| String::from_utf8_lossy(&body).into_owned())
    }

    /// Waits until it is ready; fails with its log when it ends before.
    pub(crate) async fn until_ready(&mut self) {
        let start = Instant::now();
        while self.page("/-/ready").await.is_none() {
            assert!(self.process.is_running() && start.elapsed() < LIMIT, "not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for something that it causes; fails with its log.
    pub(crate) async fn until(&self, what: &str, met: impl AsyncFn() -> bool) {
        let start = Instant::now();
        while !met().await {
            assert!(start.elapsed() < LIMIT, "never happened: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn until_said(&self, said: &str) {
        self.until(said, async || self.log().contains(said)).await;
    }

    /// The process inside, as it is called outside.
    pub(crate) fn pid(&self) -> u64 {
        self.status("child-pid").unwrap()
    }

    /// SIGTERM, as Kubernetes sends it; the exit code.
    pub(crate) async fn terminate(&mut self) -> u64 {
        // A shell's own kill: sending a signal from here would need unsafe code.
        let kill = format!("kill -TERM {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
        self.exit_code().await
    }

    /// Waits for its end.
    pub(crate) async fn exit_code(&mut self) -> u64 {
        let start = Instant::now();
        while self.process.is_running() {
            assert!(start.elapsed() < LIMIT, "it does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.status("exit-code").unwrap()
    }

    /// Starts it again on what it left behind.
    pub(crate) fn restart(&mut self) {
        self.process = self.container.spawn();
    }

    /// A number that bubblewrap said.
    fn status(&self, key: &str) -> Option<u64> {
        let said = fs::read_to_string(self.container.folder.path().join("status")).unwrap();
        said.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?[key].as_u64())
    }
}
