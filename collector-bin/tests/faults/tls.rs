//! A receiver behind TLS whose certificate, or whose TLS, is wrong for a time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use promferry_bench::farm::Farm;
use promferry_bench::ledger::Judgement;
use promferry_bench::sink::Sink;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::collector::{Collector, LIMIT, config_to, until, until_within};
use crate::outcome::{assert_nothing_lost, until_counts_agree};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server that is called `name`.
    fn server(&self, name: &str) -> Face {
        self.issue(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    fn expired(&self, name: &str) -> Face {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Face {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Face::Tls(Arc::new(config))
    }
}

/// How a connection is met.
#[derive(Clone)]
enum Face {
    Tls(Arc<ServerConfig>),
    /// Not with TLS.
    Plain,
}

/// Ends TLS in front of `upstream`, with the face that it wears at the moment.
struct Front {
    address: SocketAddr,
    face: Arc<Mutex<Face>>,
    listener: tokio::task::JoinHandle<()>,
}

impl Front {
    async fn start(upstream: SocketAddr, face: Face) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let face = Arc::new(Mutex::new(face));
        let worn = Arc::clone(&face);
        let listener = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let face = worn.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(upstream).await?;
                    // For a second only, so that a change of face is met soon.
                    let passing = async {
                        match face {
                            Face::Plain => tokio::io::copy_bidirectional(&mut client, &mut server).await,
                            Face::Tls(config) => {
                                let mut client = TlsAcceptor::from(config).accept(client).await?;
                                tokio::io::copy_bidirectional(&mut client, &mut server).await
                            }
                        }
                    };
                    let _ = tokio::time::timeout(Duration::from_secs(1), passing).await;
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        Self { address, face, listener }
    }

    fn wear(&self, face: &Face) {
        *self.face.lock().unwrap() = face.clone();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_certificate_or_no_tls_keeps_everything_until_it_is_right_again() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let right = authority.server("localhost");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.0.pem()).unwrap();
    let farm = Farm::start(5, 100).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let front = Front::start(sink.address(), right.clone()).await;
    let url = format!("https://localhost:{}/api/v1/write", front.address.port());
    let mut config = config_to(farm.addresses(), &url, "1s");
    config.push_str("    max_backoff: 500ms\n  remote_timeout: 2s\n  tls_config: {ca_file: ca.pem}\n");
    let mut collector = Collector::start(folder.path(), &config);
    until("samples over TLS", async || sink.stats().samples > 0).await;
    for (what, face, said) in [
        ("another authority", stranger.server("localhost"), "trusted authority"),
        ("another name", authority.server("elsewhere.example"), "elsewhere.example"),
        ("an old certificate", authority.expired("localhost"), "expired"),
        ("no TLS", Face::Plain, "tls with localhost"),
    ] {
        let said_before = collector.log().len();
        front.wear(&face);
        // Trouble is said once a minute.
        until_within(2 * LIMIT, what, async || collector.log()[said_before..].contains(said)).await;
        let before = sink.stats().accepted_requests;
        tokio::time::sleep(Duration::from_secs(2)).await;
        collector.assert_balanced().await;
        assert_eq!(sink.stats().accepted_requests, before, "{what} was trusted");
        front.wear(&right);
        until("samples again", async || sink.stats().accepted_requests > before).await;
    }
    until_counts_agree(&collector, &sink).await;
    assert_eq!(collector.metric("prometheus_remote_storage_samples_dropped_total", "").await, 0.0);
    collector.terminate().await;
    assert_nothing_lost(&farm, &sink, collector.interruption().as_slice(), &collector);
}
