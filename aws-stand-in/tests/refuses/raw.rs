//! Requests made by hand, so that each can be wrong in one thing.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use promferry_bench::messages::{Label, Sample, TimeSeries, WriteRequest};
use promferry_sigv4_auth::{Credentials, Scope, SigningParams, sign};
use prost::Message;

/// What signs a request.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
    pub(crate) region: &'static str,
    pub(crate) service: &'static str,
    pub(crate) at: SystemTime,
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) url: String,
    pub(crate) method: Method,
    /// The form of a call to STS.
    pub(crate) form: BTreeMap<&'static str, String>,
    /// The body of a call to a workspace.
    pub(crate) body: Vec<u8>,
    pub(crate) signer: Option<Signer>,
    /// Appended to the body after signing.
    pub(crate) appended: &'static str,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Call {
    pub(crate) fn sts(url: &str, form: &[(&'static str, &str)], signer: Option<Signer>) -> Self {
        let form = form.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        Self { url: format!("{url}/"), method: Method::POST, form, body: Vec::new(), signer, appended: "" }
    }

    pub(crate) fn write(url: &str, signer: Signer) -> Self {
        let body = series("up", &[("instance", "10.0.0.1:9090")]);
        Self {
            url: url.to_owned(),
            method: Method::POST,
            form: BTreeMap::new(),
            body,
            signer: Some(signer),
            appended: "",
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.form.insert(name, value.to_owned());
        self
    }

    pub(crate) fn signer(&mut self) -> &mut Signer {
        self.signer.as_mut().expect("a signed call")
    }

    /// The answer, or nothing where there was none.
    pub(crate) async fn try_send(&self) -> Option<Answer> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.url);
        let mut body = self.body.clone();
        if self.body.is_empty() && self.method == Method::POST {
            let pairs = self.form.iter().map(|(name, value)| {
                format!("{name}={}", form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>())
            });
            body = pairs.collect::<Vec<_>>().join("&").into_bytes();
            request = request.header("content-type", "application/x-www-form-urlencoded");
        } else {
            request = request
                .header("content-type", "application/x-protobuf")
                .header("content-encoding", "snappy")
                .header("x-prometheus-remote-write-version", "0.1.0");
        }
        let mut request = request.body(Bytes::from(body)).unwrap();
        if let Some(signer) = &self.signer {
            let scope = Scope { region: signer.region.to_owned(), service: signer.service.to_owned() };
            let credentials = Credentials::new(
                &signer.access_key_id,
                &signer.secret_access_key,
                signer.session_token.as_deref(),
            );
            sign(&mut request, &SigningParams { scope: &scope, credentials: &credentials }, signer.at)
                .unwrap();
        }
        let host = request.uri().authority().unwrap().to_string();
        request.headers_mut().insert("host", host.parse().unwrap());
        *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
        let request = request.map(|body| {
            let mut body = body.to_vec();
            body.extend_from_slice(self.appended.as_bytes());
            Full::new(Bytes::from(body))
        });
        let exchange = async {
            let stream = tokio::net::TcpStream::connect(host).await.ok()?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
            let driver = tokio::spawn(connection);
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            driver.abort();
            Some(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        tokio::time::timeout(Duration::from_secs(30), exchange).await.expect("an answer in time")
    }

    pub(crate) async fn send(&self) -> Answer {
        self.try_send().await.expect("an answer")
    }
}

impl Answer {
    /// The text of an element of the XML.
    pub(crate) fn element(&self, name: &str) -> &str {
        let start = self.body.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
        start.split_once(&format!("</{name}>")).map_or("", |(text, _)| text)
    }

    /// The keys of a session that was given.
    pub(crate) fn session(&self) -> Signer {
        assert_eq!(self.status, 200, "{}", self.body);
        Signer {
            access_key_id: self.element("AccessKeyId").to_owned(),
            secret_access_key: self.element("SecretAccessKey").to_owned(),
            session_token: Some(self.element("SessionToken").to_owned()),
            region: "eu-west-1",
            service: "sts",
            at: SystemTime::now(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request of remote write 1.0 with one series of one sample, as it is sent.
pub(crate) fn series(name: &str, labels: &[(&str, &str)]) -> Vec<u8> {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    let labels = std::iter::once(label("__name__", name))
        .chain(labels.iter().map(|(name, value)| label(name, value)))
        .collect();
    let samples = vec![Sample { value: 1.0, timestamp: 1_000, start_timestamp: 0 }];
    let timeseries = vec![TimeSeries { labels, samples, ..TimeSeries::default() }];
    let message = WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).unwrap()
}
