//! Whose certificates are trusted, where the image has none.

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;

use crate::collector::config_to;
use crate::container::Container;
use crate::layout::Layout;
use crate::network::in_own_network;
use crate::tls_front::{Authority, Front};

#[test]
fn tls_by_system_roots_by_bundle_and_by_ssl_cert_file() {
    in_own_network("tls::tls_by_system_roots_by_bundle_and_by_ssl_cert_file", async |image| {
        let authority = Authority::new();
        let farm = Farm::start(1, 20).await.unwrap();
        let sink = Sink::start(Judgement::EachSeries).await.unwrap();
        let front = Front::start(sink.address(), authority.server("127.0.0.1")).await;
        let url = format!("https://{}/api/v1/write", front.address());
        let config = config_to(farm.addresses(), &url, "500ms");
        let container = || container(&image, &config);
        let (built_in, unknown) = ("built-in Mozilla roots", "an authority that is not trusted");

        // Where there are no roots, those that are built in are trusted, and nobody else.
        let bundled = container().start();
        bundled.until_said(built_in).await;
        bundled.until_said(unknown).await;
        assert_eq!(sink.stats().samples, 0, "an unknown authority was trusted");
        drop(bundled);

        let pem = authority.pem();
        for (what, trusting) in [
            ("the system's roots", container().file("/etc/ssl/certs/ca-certificates.crt", &pem)),
            (
                "SSL_CERT_FILE",
                container().file("/ca/roots.pem", &pem).environment("SSL_CERT_FILE", "/ca/roots.pem"),
            ),
        ] {
            let before = sink.stats().samples;
            let mut trusting = trusting.start();
            trusting.until(what, async || sink.stats().samples > before + 100).await;
            assert_eq!(trusting.terminate().await, 0, "{what}: {}", trusting.log());
            let log = trusting.log();
            assert!(!log.contains(built_in) && !log.contains(unknown), "{what}: {log}");
        }
    });
}

fn container(image: &Layout, config: &str) -> Container {
    Container::of(image).file("/etc/prometheus/prometheus.yml", config).volume("/prometheus")
}
