//! Whose certificates are trusted, where the image has none.

use promferry_aws_stand_in::{Cloud, Policy, Sts, Workspaces};
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

/// STS is asked by AWS' own client, which finds certificates in its own way.
#[test]
fn aws_is_trusted_by_the_same_certificates() {
    in_own_network("tls::aws_is_trusted_by_the_same_certificates", async |image| {
        let authority = Authority::new();
        let (user, account, workspace) = ("arn:aws:iam::111122223333:user/writer", "111122223333", "ws-1");
        let cloud = Cloud::memory();
        let keys = cloud.add_user(user, Policy::allowing("aps:RemoteWrite", "*")).await;
        let (sts, workspaces) = (Sts::start(&cloud).await, Workspaces::start(&cloud, "eu-west-1").await);
        workspaces.add(account, workspace, None).await;
        let behind_tls = async |url: &str| {
            let address = url.trim_start_matches("http://").split('/').next().unwrap();
            let front = Front::start(address.parse().unwrap(), authority.server("127.0.0.1")).await;
            let url = url.replace(&format!("http://{address}"), &format!("https://{}", front.address()));
            (front, url)
        };
        let (_sts, sts) = behind_tls(&sts.url()).await;
        let (_workspace, workspace) = behind_tls(&workspaces.url(workspace)).await;
        let command = ["/promferry", "aws", "whoami", "--url", &workspace, "--region=eu-west-1"];
        let whoami = || {
            Container::of(&image)
                .command(&command)
                .environment("AWS_ACCESS_KEY_ID", &keys.access_key_id)
                .environment("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key)
                .environment("AWS_ENDPOINT_URL_STS", &sts)
        };

        let mut refused = whoami().start();
        assert_eq!(refused.exit_code().await, 1, "{}", refused.log());
        let said = refused.log();
        assert!(said.contains("UnknownIssuer") && !said.contains("panicked"), "{said}");

        let roots = "/ca/roots.pem";
        let mut trusted = whoami().file(roots, &authority.pem()).environment("SSL_CERT_FILE", roots).start();
        assert_eq!(trusted.exit_code().await, 0, "{}", trusted.log());
        let said = trusted.log();
        assert!(said.contains(user) && said.contains("may write   yes"), "{said}");
    });
}

fn container(image: &Layout, config: &str) -> Container {
    Container::of(image).file("/etc/prometheus/prometheus.yml", config).volume("/prometheus")
}
