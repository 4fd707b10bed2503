//! A running `promferry` of its own for each test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use promferry_bench::process::{Process, Stopped, free_address};
use promferry_bench::sink::Sink;

/// No wait in a test is longer: what has not happened by then is taken for never.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Whether the long forms of the tests run: more kills, more load, absolute times printed.
pub(crate) fn is_full_tier() -> bool {
    std::env::var("PROMFERRY_TIER").is_ok_and(|tier| tier == "full")
}

pub(crate) struct Collector {
    process: Process,
    folder: PathBuf,
    address: String,
}

impl Collector {
    /// Starts the program with this configuration; its storage is in `folder`, which a later start may share.
    pub(crate) fn start(folder: &Path, config: &str) -> Self {
        Self::start_under(folder, config, None)
    }

    /// The same, inside the control group whose `cgroup.procs` this is.
    pub(crate) fn start_under(folder: &Path, config: &str, group: Option<&Path>) -> Self {
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = free_address().unwrap().to_string();
        let program = env!("CARGO_BIN_EXE_promferry");
        let mut arguments = vec![
            "run".to_owned(),
            format!("--config.file={}", file.display()),
            format!("--storage.agent.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=debug".to_owned(),
        ];
        let log = folder.join("log");
        let process = match group {
            None => Process::start(Path::new(program), &arguments, &log).unwrap(),
            Some(group) => {
                let script = format!("echo $$ > {}; exec {program} \"$@\"", group.display());
                arguments.splice(0..0, ["-c".to_owned(), script, "sh".to_owned()]);
                Process::start(Path::new("sh"), &arguments, &log).unwrap()
            }
        };
        Self { process, folder: folder.to_owned(), address }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    pub(crate) async fn terminate(&mut self) -> Stopped {
        self.process.terminate(LIMIT).await.unwrap()
    }

    /// Everything it has logged, earlier runs in the same folder included.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A page of its own, with this `Accept`.
    pub(crate) async fn page(&self, path: &str, accept: &str) -> Option<(u16, String, Vec<u8>)> {
        let http = promferry_http_client::Http::new(&Default::default(), Default::default()).unwrap();
        let request = http::Request::get(format!("http://{}{path}", self.address)).header("accept", accept);
        let request = request.body(bytes::Bytes::new()).unwrap();
        let response = promferry_http_client::Connection::new(http).send(request).await.ok()?;
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let body = response.into_body().read_to_end(256 << 20).await.ok()?;
        Some((status, content_type, body.to_vec()))
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let page = self.page(path, "*/*").await;
        page.map(|(_, _, body)| String::from_utf8(body).unwrap()).unwrap_or_default()
    }

    /// The sum of the values of a metric of its own page, over all its labels that contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        sum(&self.text("/metrics").await, name, label)
    }

    /// `accepted = delivered + dropped + pending`, as its own page says.
    pub(crate) async fn assert_balanced(&self) {
        let page = self.text("/metrics").await;
        let count = |name| sum(&page, name, "");
        let accepted = count("promferry_remote_samples_accepted_total");
        let delivered = count("prometheus_remote_storage_samples_total");
        let dropped = count("prometheus_remote_storage_samples_dropped_total");
        let pending = count("prometheus_remote_storage_samples_pending");
        assert_eq!(accepted, delivered + dropped + pending, "{delivered} + {dropped} + {pending}");
    }

    pub(crate) async fn until_ready(&self) {
        until("it is ready", async || self.page("/-/ready", "*/*").await.is_some_and(|page| page.0 == 200))
            .await;
    }
}

fn sum(page: &str, name: &str, label: &str) -> f64 {
    let lines =
        page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits until `met` says yes.
pub(crate) async fn until(what: &str, met: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !met().await {
        assert!(start.elapsed() < LIMIT, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One job over these targets, written to the sink.
pub(crate) fn config(targets: &[std::net::SocketAddr], sink: &Sink, interval: &str) -> String {
    let targets: Vec<_> = targets.iter().map(|address| format!("'{address}'")).collect();
    format!(
        "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, external_labels: {{cluster: test}}}}\n\
         scrape_configs:\n- job_name: farm\n  static_configs: [{{targets: [{}]}}]\n\
         remote_write:\n- url: {}\n  queue_config: {{batch_send_deadline: 500ms}}\n",
        targets.join(", "),
        sink.url()
    )
}

/// Runs `promferry` to its end: its exit code, standard output and standard error.
pub(crate) fn output(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_promferry")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}
