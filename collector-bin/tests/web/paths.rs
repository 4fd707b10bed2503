//! Where the pages lie.

use std::sync::atomic::Ordering;

use promferry_collector::cli::WebArgs;

use crate::site::{Client, Site, flags, get};

#[tokio::test(flavor = "multi_thread")]
async fn the_route_prefix_holds_everywhere() {
    let by_prefix = WebArgs { route_prefix: Some("/prom".to_owned()), ..flags() };
    let by_url = WebArgs { external_url: Some("https://a.example/prom/".to_owned()), ..flags() };
    for args in [by_prefix, by_url] {
        let site = Site::start(WebArgs { lifecycle: true, ..args }).await;
        assert_eq!(site.urls, [format!("http://{}/prom/", site.address())]);
        for (path, expected) in [
            ("/prom/", (200, "Promferry ")),
            ("/prom/status?state=down", (200, "Promferry state=down")),
            ("/prom/metrics", (200, "metrics")),
            ("/prom/api/v1/targets?state=any", (200, "targets state=any")),
            ("/prom/-/healthy", (200, "Promferry is Healthy.\n")),
            ("/prom/-/ready", (200, "Promferry is Ready.\n")),
            ("/prom/other", (404, "404 page not found\n")),
        ] {
            let answer = get(&site, path).await;
            assert_eq!((answer.status, answer.body.as_str()), expected, "{path}");
            if let Some(below) = path.strip_prefix("/prom").filter(|below| *below != "/") {
                assert_eq!(get(&site, below).await.status, 404, "{below}");
            }
        }
        for path in ["/", "/prom"] {
            let answer = get(&site, path).await;
            assert_eq!(
                (answer.status, answer.headers["location"].to_str().unwrap()),
                (302, "/prom/"),
                "{path}"
            );
        }
        let reload = format!("http://{}/prom/-/reload", site.address());
        assert_eq!(Client::default().ask("POST", &reload).await.unwrap().status, 200);
    }
    // What an operator always gives.
    let site = Site::start(WebArgs { route_prefix: Some("/".to_owned()), ..flags() }).await;
    assert_eq!(get(&site, "/metrics").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_listen_addresses() {
    let args = WebArgs { listen_addresses: vec!["127.0.0.1:0".to_owned(); 3], ..flags() };
    let site = Site::start(args).await;
    assert_eq!((site.addresses.len(), site.urls.len()), (3, 3));
    for address in &site.addresses {
        assert_eq!(Client::default().get(*address, "/metrics").await.unwrap().status, 200);
    }
    // One that is taken is said by name.
    let taken = site.addresses[1].to_string();
    let args = WebArgs { listen_addresses: vec!["127.0.0.1:0".to_owned(), taken.clone()], ..flags() };
    let error = Site::try_start(args).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("can't listen on {taken}: ")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_title_and_methods() {
    let site = Site::start(WebArgs { page_title: "A title".to_owned(), ..flags() }).await;
    assert_eq!(get(&site, "/").await.body, "A title ");
    site.ready.store(false, Ordering::Release);
    let answer = get(&site, "/-/ready").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "Service Unavailable"));
    assert_eq!(get(&site, "/-/healthy").await.status, 200);
    let url = format!("http://{}/metrics", site.address());
    let answer = Client::default().ask("DELETE", &url).await.unwrap();
    assert_eq!((answer.status, answer.headers["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    let answer = Client::default().ask("HEAD", &url).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}
