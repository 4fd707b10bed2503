//! The status page while the demo runs: what is on it, and that a browser has nothing to complain of.

use std::path::Path;
use std::process::Command;

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
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
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
    let mut demo = Demo::start(&["demo", "--fast", "--seconds=120"]);
    let address = demo.address();
    demo.until("4/4 up");
    let profile = tempfile::tempdir().unwrap();
    let output =
        browser(chromium, profile.path()).arg("--dump-dom").arg(format!("http://{address}/")).output();
    let output = output.unwrap();
    let (shown, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
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
