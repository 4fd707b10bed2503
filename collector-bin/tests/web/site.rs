//! The server of the pages with pages that say little, and clients of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use promferry_collector::cli::WebArgs;
use promferry_collector::web::{BoxFuture, Lifecycle, PageBody, Pages, Web, WebError};
use promferry_http_client::{Connection, Http, HttpClientConfig, HttpOptions};
use serde_json::json;
use tokio::sync::watch;

use crate::authority::{Authority, Identity};

pub(crate) struct Site {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) urls: Vec<String>,
    pub(crate) asked: Arc<Asked>,
    pub(crate) ready: Arc<AtomicBool>,
    _stop: watch::Sender<bool>,
}

/// Pages that tell which they are.
struct Plain;

impl Pages for Plain {
    fn is_healthy(&self) -> bool {
        true
    }

    async fn metrics(&self, _accept: Option<&str>) -> (String, Vec<u8>) {
        ("text/plain".to_owned(), b"metrics".to_vec())
    }

    async fn targets(&self, query: &str) -> PageBody {
        PageBody::Left(format!("targets {query}").into())
    }

    async fn status(&self, title: &str, query: &str) -> String {
        format!("{title} {query}")
    }
}

/// What was asked of the process.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) reloads: AtomicUsize,
    pub(crate) quits: AtomicUsize,
    /// Why the next reload fails.
    pub(crate) failure: Mutex<Option<String>>,
}

impl Lifecycle for Asked {
    fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        let failure = self.failure.lock().unwrap().take();
        Box::pin(async { failure.map_or(Ok(()), Err) })
    }

    fn quit(&self) {
        self.quits.fetch_add(1, Ordering::Relaxed);
    }
}

impl Site {
    pub(crate) async fn start(args: WebArgs) -> Self {
        Self::try_start(args).await.unwrap()
    }

    pub(crate) async fn try_start(args: WebArgs) -> Result<Self, WebError> {
        let web = Web::bind(&args).await?;
        let (addresses, urls) = (web.local_addresses().unwrap(), web.urls().unwrap());
        let asked = Arc::new(Asked::default());
        let ready = web.readiness();
        ready.store(true, Ordering::Release);
        let (stop, stopped) = watch::channel(false);
        let lifecycle = Arc::clone(&asked) as Arc<dyn Lifecycle>;
        tokio::spawn(web.serve(Arc::new(OnceLock::from(Plain)), Some(lifecycle), stopped));
        Ok(Self { addresses, urls, asked, ready, _stop: stop })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }
}

/// The flags of a server at a port of its own.
pub(crate) fn flags() -> WebArgs {
    WebArgs { listen_addresses: vec!["127.0.0.1:0".to_owned()], ..WebArgs::default() }
}

pub(crate) fn with_file(file: PathBuf) -> WebArgs {
    WebArgs { config_file: Some(file), ..flags() }
}

/// An answer as far as tests look at it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// As whom a client asks.
#[derive(Default)]
pub(crate) struct Client<'a> {
    pub(crate) trusts: Option<&'a Authority>,
    pub(crate) shows: Option<&'a Identity>,
    pub(crate) user: Option<(&'a str, &'a str)>,
}

impl Client<'_> {
    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, String> {
        let scheme = if self.trusts.is_some() { "https" } else { "http" };
        self.ask("GET", &format!("{scheme}://{address}{path}")).await
    }

    pub(crate) async fn ask(&self, method: &str, url: &str) -> Result<Answer, String> {
        let mut config = json!({"follow_redirects": false});
        if let Some(authority) = self.trusts {
            config["tls_config"] = json!({"ca": authority.pem()});
            if let Some(identity) = self.shows {
                config["tls_config"]["cert"] = json!(identity.cert);
                config["tls_config"]["key"] = json!(identity.key);
            }
        }
        if let Some((user, password)) = self.user {
            config["basic_auth"] = json!({"username": user, "password": password});
        }
        let config: HttpClientConfig = serde_json::from_value(config).unwrap();
        let http = Http::new(&config, HttpOptions::default()).unwrap();
        let request = Request::builder().method(method).uri(url).body(Bytes::new()).unwrap();
        let answered = async {
            let mut connection = Connection::new(http);
            let response = connection.send(request).await.map_err(|error| error.to_string())?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.into_body().read_to_end(1 << 20).await.map_err(|error| error.to_string())?;
            Ok(Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() })
        };
        tokio::time::timeout(Duration::from_secs(30), answered).await.map_err(|_| "no answer".to_owned())?
    }
}

pub(crate) async fn get(site: &Site, path: &str) -> Answer {
    Client::default().get(site.address(), path).await.unwrap()
}
