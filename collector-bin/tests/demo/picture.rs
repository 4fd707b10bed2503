//! The status page while the demo runs: what is on it, and that a browser has nothing to complain of.

use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Demo;

/// What the page shows of the demo, whatever its looks.
const CONTENT: [&str; 9] = [
    "shop",
    "ray-via-gateway",
    "/node/worker-1/metrics",
    "receiver",
    "web identity",
    "until",
    "Targets",
    "Spool",
    "up",
];

async fn page(address: &str, path: &str) -> (u16, String) {
    let http = promferry_http_client::Http::new(&Default::default(), Default::default()).unwrap();
    let request = http::Request::get(format!("http://{address}{path}")).body(bytes::Bytes::new()).unwrap();
    let response = promferry_http_client::Connection::new(http).send(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().read_to_end(16 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| told(Command::new(name).arg("--version"), Duration::from_secs(30)).is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_is_there_while_it_runs() {
    let mut demo = Demo::start(&["demo", "--fast", "--seconds=60"]);
    let address = demo.address();
    demo.until("4/4 up");
    let (status, text) = page(&address, "/").await;
    assert_eq!(status, 200);
    for content in CONTENT {
        assert!(text.contains(content), "{content}: {text}");
    }
    assert_eq!(page(&address, "/-/ready").await.0, 200);
}

#[test]
fn a_browser_shows_the_status_page_without_errors() {
    let Some(chromium) = chromium() else {
        return eprintln!("SKIPPED the status page in a browser: chromium is not installed");
    };
    let mut demo = Demo::start(&["demo", "--fast", "--seconds=300"]);
    let address = demo.address();
    demo.until("4/4 up");
    let profile = tempfile::tempdir().unwrap();
    let mut browser = browser(chromium, profile.path());
    browser.arg("--dump-dom").arg(format!("http://{address}/"));
    let limit = Duration::from_secs(120);
    let (shown, log) = told(&mut browser, limit).unwrap_or_else(|| panic!("no page within {limit:?}"));
    for content in CONTENT {
        assert!(shown.contains(content), "{content}: {shown}{log}");
    }
    let errors: Vec<_> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert_eq!(errors, [""; 0]);
}

/// Chromium without a window, in a profile of its own.
fn browser(chromium: &str, profile: &Path) -> Command {
    let mut command = Command::new(chromium);
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
    command.args(["--no-first-run", "--disable-dev-shm-usage", "--virtual-time-budget=2000"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command
}

/// What a command says to standard output and to standard error. `None` where it is not there, fails, or has not ended by
/// the limit: then it is killed with all that it started.
fn told(command: &mut Command, limit: Duration) -> Option<(String, String)> {
    // Files, since what it starts may hold pipes open.
    let (mut output, mut errors) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let (stdout, stderr) = (output.try_clone().unwrap(), errors.try_clone().unwrap());
    command.process_group(0).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut process = command.spawn().ok()?;
    let end = Instant::now() + limit;
    let ended = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status.success(),
            None if Instant::now() > end => break false,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if !ended {
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", process.id())]).output();
        let _ = process.wait();
        return None;
    }
    let [output, errors] = [&mut output, &mut errors].map(|file| {
        let mut text = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    Some((output, errors))
}
