//! An endpoint that takes everything, and of which only is kept how much it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use promferry_config::Config;
use promferry_model::Labels;
use promferry_remote_write::delivery::Transport;
use promferry_remote_write::receiver;
use tower::BoxError;

use crate::pipeline::Transports;

/// Takes the requests for all endpoints in their place.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    /// Those whose labels are held against the limits of Amazon Managed Service for Prometheus.
    amp: Arc<BTreeSet<String>>,
    endpoints: Arc<Mutex<BTreeMap<String, Recorded>>>,
}

/// What an endpoint would have been sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded {
    /// The largest request with samples.
    pub(super) largest: Option<RequestSize>,
    /// Series that would have been refused for their labels: the first few, and why.
    pub(super) refused: Vec<(Labels, String)>,
}

/// The size of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RequestSize {
    /// Bytes of its body, compressed.
    pub(super) bytes: usize,
    /// Samples and histograms in it.
    pub(super) values: u64,
}

/// More than a request may inflate to.
const MAX_INFLATED: usize = 64 << 20;
/// So many refused series are kept for each endpoint.
const REFUSED_KEPT: usize = 5;

/// Limits of Amazon Managed Service for Prometheus: labels of a series, and bytes of their names and values (the quota
/// "Labels per series", and the texts with which it refuses others).
const LABELS_MAX: usize = 150;
const LABEL_NAME_MAX: usize = 1024;
const LABEL_VALUE_MAX: usize = 2048;

impl Recorder {
    pub(super) fn new(config: &Config) -> Self {
        let amp = config.remote_write.iter().filter(|endpoint| endpoint.write.is_amp());
        Self { amp: Arc::new(amp.map(|endpoint| endpoint.write.key()).collect()), ..Self::default() }
    }

    /// What a pipeline sends through.
    pub(super) fn transports(&self) -> Transports {
        let recorder = self.clone();
        Transports::new(move |key| recorder.transport(key))
    }

    /// What the endpoints would have been sent, by their names or URLs.
    pub(super) fn recorded(&self) -> BTreeMap<String, Recorded> {
        self.lock().clone()
    }

    fn transport(&self, key: &str) -> Transport {
        let (recorder, key) = (self.clone(), key.to_owned());
        Transport::new(tower::service_fn(move |request: Request<Bytes>| {
            let answer = recorder.take(&key, &request);
            std::future::ready(Ok::<_, BoxError>(answer))
        }))
    }

    fn take(&self, key: &str, request: &Request<Bytes>) -> Response<Bytes> {
        let read = receiver::read(request.headers(), request.body(), MAX_INFLATED);
        if let Ok(message) = &read
            && !message.series.is_empty()
        {
            let counts = message.counts();
            let size =
                RequestSize { bytes: request.body().len(), values: counts.samples + counts.histograms };
            let mut endpoints = self.lock();
            let recorded = endpoints.entry(key.to_owned()).or_default();
            recorded.largest = recorded.largest.max(Some(size));
            if self.amp.contains(key) {
                for series in &message.series {
                    recorded.judge(&series.labels);
                }
            }
        }
        receiver::response(&read.map(|message| message.written()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Recorded>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorded {
    fn judge(&mut self, labels: &Labels) {
        let Some(reason) = beyond_limits(labels) else { return };
        if self.refused.len() < REFUSED_KEPT && self.refused.iter().all(|(known, _)| known != labels) {
            self.refused.push((labels.clone(), reason));
        }
    }
}

fn beyond_limits(labels: &Labels) -> Option<String> {
    let count = labels.iter().count();
    if count > LABELS_MAX {
        return Some(format!("it has {count} labels, and AMP takes {LABELS_MAX}"));
    }
    labels.iter().find_map(|label| {
        let (name, value) = (label.name.len(), label.value.len());
        let shown: String = label.name.chars().take(60).collect();
        if name > LABEL_NAME_MAX {
            Some(format!(
                "the name of its label {shown}… has {name} bytes, and AMP takes {LABEL_NAME_MAX} \
                 (label_name_too_long)"
            ))
        } else if value > LABEL_VALUE_MAX {
            Some(format!(
                "the value of its label {shown} has {value} bytes, and AMP takes {LABEL_VALUE_MAX} \
                 (label_value_too_long)"
            ))
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use promferry_remote_write::wire::{self, v1};

    use super::*;

    fn request(labels: &[(&str, &str)], samples: usize) -> Request<Bytes> {
        let label = |(name, value): &(&str, &str)| v1::Label { name: (*name).into(), value: (*value).into() };
        let sample = |at| v1::Sample { value: 1.0, timestamp: at as i64 };
        let series = v1::TimeSeries {
            labels: labels.iter().map(label).collect(),
            samples: (0..samples).map(sample).collect(),
            ..Default::default()
        };
        let message = v1::WriteRequest { timeseries: vec![series], ..Default::default() };
        Request::post("http://nowhere/").body(wire::encode(&message).into()).unwrap()
    }

    #[test]
    fn the_largest_request_and_what_amp_refuses_are_kept() {
        let recorder = Recorder { amp: Arc::new(["amp".to_owned()].into()), ..Recorder::default() };
        let long = "x".repeat(LABEL_VALUE_MAX + 1);
        let small = request(&[("__name__", "a")], 1);
        let large = request(&[("__name__", "a"), ("basket", &long)], 3);
        for key in ["amp", "other"] {
            assert_eq!(recorder.take(key, &large).status(), 204);
            assert_eq!(recorder.take(key, &small).status(), 204);
            assert_eq!(recorder.take(key, &large).status(), 204);
        }
        let recorded = recorder.recorded();
        for key in ["amp", "other"] {
            let size = RequestSize { bytes: large.body().len(), values: 3 };
            assert_eq!(recorded[key].largest, Some(size), "{key}");
        }
        assert_eq!(recorded["other"].refused, []);
        let [(labels, reason)] = recorded["amp"].refused.as_slice() else { panic!("{recorded:?}") };
        assert_eq!(labels.get("__name__"), "a");
        assert_eq!(
            reason,
            "the value of its label basket has 2049 bytes, and AMP takes 2048 (label_value_too_long)"
        );
    }
}
