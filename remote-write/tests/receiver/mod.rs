//! A remote-write receiver on loopback that answers as the test says and remembers what it took.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use promferry_remote_write::wire;
use tokio::net::TcpListener;

/// Labels as text.
pub(crate) type Series = String;

/// What the receiver has taken and how it answers.
#[derive(Default)]
pub(crate) struct State {
    /// For each series its samples in the order of arrival: timestamp and value bits.
    pub(crate) samples: BTreeMap<Series, Vec<(i64, u64)>>,
    /// Every request's `(version header, samples, status)`.
    pub(crate) requests: Vec<(String, usize, u16)>,
    /// Families named in metadata requests.
    pub(crate) metadata: Vec<String>,
    /// Judges a request before it is taken; the default takes everything.
    pub(crate) judge: Option<Judge>,
}

/// Says what to answer: the status and the body. 2xx takes the request.
pub(crate) type Judge = Box<dyn FnMut(&Received<'_>) -> (u16, String) + Send>;

/// A request as a [`Judge`] sees it.
pub(crate) struct Received<'a> {
    pub(crate) version: &'a str,
    pub(crate) raw_bytes: usize,
}

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) address: SocketAddr,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let receiver = Self { state: Arc::clone(&state), address };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| answer(request, Arc::clone(&state)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.address)
    }

    /// Answers every request with this status.
    pub(crate) fn answer(&self, status: u16, body: &str) {
        let body = body.to_owned();
        self.judge(move |_| (status, body.clone()));
    }

    pub(crate) fn judge(&self, judge: impl FnMut(&Received<'_>) -> (u16, String) + Send + 'static) {
        self.state.lock().unwrap().judge = Some(Box::new(judge));
    }

    pub(crate) fn samples(&self) -> BTreeMap<Series, Vec<(i64, u64)>> {
        self.state.lock().unwrap().samples.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().samples.values().map(Vec::len).sum()
    }

    pub(crate) fn requests(&self) -> Vec<(String, usize, u16)> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Waits until `met` says yes; 30 s at most.
    pub(crate) async fn until(&self, what: &str, met: impl Fn(&Self) -> bool) {
        for _ in 0..3000 {
            if met(self) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never happened: {what}; {} samples in {} requests", self.count(), self.requests().len());
    }

    /// Each series' samples came once and in order.
    pub(crate) fn assert_once_in_order(&self) {
        for (series, samples) in self.samples() {
            assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0), "{series}: {samples:?}");
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header =
        |name: &str| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let (version, content_type) = (header("x-prometheus-remote-write-version"), header("content-type"));
    assert_eq!(header("content-encoding"), "snappy");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let raw_bytes = wire::decompress(&body, 64 << 20).unwrap().len();
    let mut metadata = Vec::new();
    let series: Vec<(Series, Vec<(i64, u64)>)> = if content_type.contains("write.v2") {
        let message = wire::decode_v2(&body, 64 << 20).unwrap();
        let text = |at: &u32| message.symbols[*at as usize].clone();
        let series = message.timeseries.iter().map(|series| {
            let labels = series.labels_refs.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1])));
            (labels_text(labels), series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect())
        });
        series.collect()
    } else {
        let message = wire::decode_v1(&body, 64 << 20).unwrap();
        metadata.extend(message.metadata.into_iter().map(|entry| entry.metric_family_name));
        let series = message.timeseries.into_iter().map(|series| {
            let labels = series.labels.into_iter().map(|label| (label.name, label.value));
            (labels_text(labels), series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect())
        });
        series.collect()
    };
    let mut state = state.lock().unwrap();
    let samples = series.iter().map(|(_, samples): &(_, Vec<_>)| samples.len()).sum();
    let received = Received { version: &version, raw_bytes };
    let (status, text) = state.judge.as_mut().map_or((200, String::new()), |judge| judge(&received));
    state.requests.push((version.clone(), samples, status));
    // 299 stands for a receiver that finds nothing in the message and says that all is well.
    if (200..299).contains(&status) {
        state.metadata.extend(metadata);
        for (series, samples) in series {
            state.samples.entry(series).or_default().extend(samples);
        }
    }
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if version.starts_with('2') && status != 299 {
        for kind in ["samples", "histograms", "exemplars"] {
            let name =
                http::HeaderName::try_from(format!("x-prometheus-remote-write-{kind}-written")).unwrap();
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from(if kind == "samples" { samples } else { 0 }));
        }
    }
    Ok(response)
}

fn labels_text(labels: impl Iterator<Item = (String, String)>) -> String {
    let labels: Vec<_> = labels.collect();
    assert!(labels.windows(2).all(|pair| pair[0].0 < pair[1].0), "not sorted: {labels:?}");
    let unique: HashMap<_, _> = labels.iter().cloned().collect();
    assert_eq!(unique.len(), labels.len());
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
