//! Servers of pages that stand for what is behind a gateway, or for the gateway.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// One server on one or more addresses, which ends with this.
pub(crate) struct Pages {
    shared: Arc<Shared>,
    _listeners: JoinSet<()>,
}

type Answer = dyn Fn(SocketAddr, &Request<Incoming>) -> Response<String> + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    delay: Duration,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    config: Arc<ServerConfig>,
}

/// A page in Prometheus' text format.
pub(crate) fn page(text: impl Into<String>) -> Response<String> {
    Response::builder().header("content-type", "text/plain; version=0.0.4").body(text.into()).unwrap()
}

/// Another answer.
pub(crate) fn refusal(status: StatusCode, text: &str) -> Response<String> {
    Response::builder().status(status).body(text.to_owned()).unwrap()
}

impl Pages {
    /// Answers on these addresses, each time after this delay.
    pub(crate) async fn start(
        addresses: &[SocketAddr],
        identity: Option<&Identity>,
        delay: Duration,
        answer: impl Fn(SocketAddr, &Request<Incoming>) -> Response<String> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            delay,
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let mut listeners = JoinSet::new();
        for &address in addresses {
            let listener =
                TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
            let tls = identity.map(|identity| TlsAcceptor::from(Arc::clone(&identity.config)));
            listeners.spawn(listen(address, listener, tls, Arc::clone(&shared)));
        }
        Self { shared, _listeners: listeners }
    }

    /// Paths asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many requests it had before it at once, at the most.
    pub(crate) fn most_under_way(&self) -> usize {
        self.shared.most_under_way.load(Ordering::SeqCst)
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server that is called `name`.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        Identity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            config: Arc::new(config),
        }
    }
}

async fn listen(address: SocketAddr, listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        match tls.clone() {
            None => drop(connections.spawn(serve(address, stream, shared))),
            Some(tls) => drop(connections.spawn(async move {
                if let Ok(stream) = tls.accept(stream).await {
                    serve(address, stream, shared).await;
                }
            })),
        }
    }
}

async fn serve(address: SocketAddr, stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let shared = &*shared;
    let service = service_fn(move |request: Request<Incoming>| async move {
        let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        shared.asked.lock().unwrap().push(request.uri().path().to_owned());
        tokio::time::sleep(shared.delay).await;
        let response = (shared.answer)(address, &request).map(|text| Full::new(Bytes::from(text)));
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Infallible>(response)
    });
    // Ends with an error when who asks goes away.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
