//! `/-/reload` and `/-/quit`.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use promferry_bench::process::free_address;
use promferry_collector::cli::WebArgs;

use crate::collector::{Collector, until};
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

#[tokio::test(flavor = "multi_thread")]
async fn the_process_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address().unwrap();
    let script = format!("exec \"$@\" --web.enable-lifecycle --web.listen-address={address}");
    let mut collector = Collector::start_by(folder.path(), "scrape_configs: []\n", Some(&script));
    collector.until_ready().await;
    assert_eq!(ask(address, "POST", "/-/reload").await.0, 200);
    let answer = ask(address, "PUT", "/-/quit").await;
    assert_eq!(answer, (200, "Requesting termination... Goodbye!".to_owned()));
    until("it has ended", async || Client::default().get(address, "/-/healthy").await.is_err()).await;
    let stopped = collector.terminate().await;
    assert_eq!(stopped.status.unwrap().code(), Some(0), "{}", collector.log());
}
