//! `/-/reload` and `/-/quit`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use promferry_bench::peers::Peer;
use promferry_bench::process::{Process, free_address};
use promferry_collector::cli::WebArgs;

use crate::collector::until;
use crate::site::{Client, Site, flags};

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = Client::default().ask(method, &format!("http://{address}{path}")).await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_only_when_enabled() {
    let site = Site::start(flags()).await;
    for path in ["/-/reload", "/-/quit"] {
        for method in ["POST", "PUT"] {
            assert_eq!(
                ask(site.address(), method, path).await,
                (403, "Lifecycle API is not enabled.".to_owned()),
                "{method} {path}"
            );
        }
    }
    let counts = (site.asked.reloads.load(Ordering::Relaxed), site.asked.quits.load(Ordering::Relaxed));
    assert_eq!(counts, (0, 0));

    let site = Site::start(WebArgs { lifecycle: true, ..flags() }).await;
    for path in ["/-/reload", "/-/quit"] {
        let answer = ask(site.address(), "GET", path).await;
        assert_eq!(answer, (405, "Only POST or PUT requests allowed".to_owned()), "{path}");
    }
    assert_eq!(ask(site.address(), "POST", "/-/reload").await, (200, String::new()));
    assert_eq!(ask(site.address(), "PUT", "/-/reload").await, (200, String::new()));
    *site.asked.failure.lock().unwrap() = Some("a.yml:1:1: no".to_owned());
    assert_eq!(
        ask(site.address(), "POST", "/-/reload").await,
        (500, "failed to reload config: a.yml:1:1: no\n".to_owned())
    );
    assert_eq!(
        ask(site.address(), "POST", "/-/quit").await,
        (200, "Requesting termination... Goodbye!".to_owned())
    );
    assert_eq!(
        ask(site.address(), "PUT", "/-/quit").await,
        (200, "Termination already in progress.".to_owned())
    );
    let counts = (site.asked.reloads.load(Ordering::Relaxed), site.asked.quits.load(Ordering::Relaxed));
    assert_eq!(counts, (3, 1));
}

/// Prometheus on a port of its own.
async fn prometheus(program: &Path, folder: &Path, flags: &[&str]) -> (Process, SocketAddr) {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let address = free_address().unwrap();
    let mut arguments = vec![
        "--agent".to_owned(),
        format!("--config.file={}", config.display()),
        format!("--storage.agent.path={}", folder.join("data").display()),
        format!("--web.listen-address={address}"),
    ];
    arguments.extend(flags.iter().map(ToString::to_string));
    let process = Process::start(program, arguments, &folder.join("log")).unwrap();
    until("Prometheus is ready", async || {
        let answer = Client::default().get(address, "/prom/-/ready").await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    (process, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_answers_the_same() {
    let Some(program) = Peer::Prometheus.or_skip("the answers of the lifecycle") else { return };
    for is_enabled in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut their_flags = vec!["--web.route-prefix=/prom"];
        if is_enabled {
            their_flags.push("--web.enable-lifecycle");
        }
        let (_process, theirs) = prometheus(&program, folder.path(), &their_flags).await;
        let args = WebArgs { lifecycle: is_enabled, route_prefix: Some("/prom".to_owned()), ..flags() };
        let site = Site::start(args).await;
        for (method, path) in [
            ("GET", "/prom/-/reload"),
            ("GET", "/prom/-/quit"),
            ("PUT", "/prom/-/reload"),
            ("POST", "/prom/-/reload"),
            ("POST", "/-/reload"),
            ("GET", "/-/ready"),
            ("GET", "/metrics"),
            ("GET", "/nothing"),
            ("GET", "/prom/nothing"),
            ("POST", "/prom/-/quit"),
        ] {
            let (ours, theirs) = (ask(site.address(), method, path).await, ask(theirs, method, path).await);
            assert_eq!(ours, theirs, "{method} {path}");
        }
        // Where they lead to is written otherwise: with the slash that follows at once.
        for path in ["/", "/prom/-/ready", "/prom/-/healthy"] {
            let ours = ask(site.address(), "GET", path).await.0;
            let answer = Client::default().get(theirs, path).await;
            // It may be about to quit.
            if let Ok(answer) = answer {
                assert!(answer.status == ours || answer.status == 503, "{path}");
            }
        }
    }
}
