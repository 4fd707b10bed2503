#![allow(dead_code, reason = "shared by several test binaries, each of which uses a part")]
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
    /// Bytes of the largest request: before compression, and compressed.
    pub(crate) largest: (usize, usize),
    /// Connections that were ever taken.
    pub(crate) connections: usize,
    /// What was judged is taken also when its sender goes away before the answer.
    pub(crate) is_thorough: bool,
    /// Requests that are being answered, and the most that ever were.
    pub(crate) in_hand: (usize, usize),
}

/// Says what to answer.
pub(crate) type Judge = Box<dyn FnMut(&Received<'_>) -> Verdict + Send>;

/// What a [`Judge`] answers.
pub(crate) struct Verdict {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The samples that are taken, by their place in [`Received::samples`]; `None`: all of a 2xx, none of others.
    pub(crate) taken: Option<Vec<usize>>,
    pub(crate) after: std::time::Duration,
}

impl From<(u16, String)> for Verdict {
    fn from((status, body): (u16, String)) -> Self {
        Self { status, body, headers: Vec::new(), taken: None, after: std::time::Duration::ZERO }
    }
}

/// A request as a [`Judge`] sees it.
pub(crate) struct Received<'a> {
    pub(crate) version: &'a str,
    pub(crate) raw_bytes: usize,
    /// Each sample's series and timestamp, in order.
    pub(crate) samples: &'a [(&'a str, i64)],
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
                state.lock().unwrap().connections += 1;
                let service = service_fn(move |request| {
                    let is_thorough = state.lock().unwrap().is_thorough;
                    let answer = answer(request, Arc::clone(&state));
                    async move {
                        match is_thorough {
                            true => tokio::spawn(answer).await.unwrap(),
                            false => answer.await,
                        }
                    }
                });
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

    /// Answers as `judge` says.
    pub(crate) fn judge(&self, mut judge: impl FnMut(&Received<'_>) -> (u16, String) + Send + 'static) {
        self.answer_by(move |received| judge(received).into());
    }

    /// Answers as `judge` says, headers and what is taken included.
    pub(crate) fn answer_by(&self, judge: impl FnMut(&Received<'_>) -> Verdict + Send + 'static) {
        self.state.lock().unwrap().judge = Some(Box::new(judge));
    }

    pub(crate) fn samples(&self) -> BTreeMap<Series, Vec<(i64, u64)>> {
        self.state.lock().unwrap().samples.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().samples.values().map(Vec::len).sum()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
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
    let (mut histograms, mut exemplars) = (0, 0);
    let series: Vec<(Series, Vec<(i64, u64)>)> = if content_type.contains("write.v2") {
        let message = wire::decode_v2(&body, 64 << 20).unwrap();
        let text = |at: &u32| message.symbols[*at as usize].clone();
        for series in &message.timeseries {
            histograms += series.histograms.len();
            exemplars += series.exemplars.len();
        }
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
    let flat: Vec<(&str, i64, u64)> = series
        .iter()
        .flat_map(|(series, samples)| samples.iter().map(move |&(at, value)| (series.as_str(), at, value)))
        .collect();
    let samples: Vec<(&str, i64)> = flat.iter().map(|&(series, at, _)| (series, at)).collect();
    let verdict = {
        let mut state = state.lock().unwrap();
        state.in_hand.0 += 1;
        state.in_hand.1 = state.in_hand.1.max(state.in_hand.0);
        state.largest = (state.largest.0.max(raw_bytes), state.largest.1.max(body.len()));
        let received = Received { version: &version, raw_bytes, samples: &samples };
        state.judge.as_mut().map_or_else(|| (200, String::new()).into(), |judge| judge(&received))
    };
    tokio::time::sleep(verdict.after).await;
    let mut state = state.lock().unwrap();
    state.in_hand.0 -= 1;
    let status = verdict.status;
    state.requests.push((version.clone(), samples.len(), status));
    // 299 stands for a receiver that finds nothing in the message and says that all is well.
    let success = (200..299).contains(&status);
    if success {
        state.metadata.extend(metadata);
    }
    let all = || if success { (0..flat.len()).collect() } else { Vec::new() };
    let taken = verdict.taken.unwrap_or_else(all);
    for &(series, at, value) in taken.iter().map(|&at| &flat[at]) {
        state.samples.entry(series.to_owned()).or_default().push((at, value));
    }
    let mut response = Response::new(Full::new(verdict.body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if version.starts_with('2') && status != 299 {
        let others = if success { (histograms, exemplars) } else { (0, 0) };
        let written = [("samples", taken.len()), ("histograms", others.0), ("exemplars", others.1)];
        for (kind, count) in written {
            let name =
                http::HeaderName::try_from(format!("x-prometheus-remote-write-{kind}-written")).unwrap();
            response.headers_mut().insert(name, http::HeaderValue::from(count));
        }
    }
    for (name, value) in verdict.headers {
        response.headers_mut().insert(name, http::HeaderValue::try_from(value).unwrap());
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
