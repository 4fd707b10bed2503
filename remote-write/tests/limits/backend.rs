//! A workspace with a limit of active series: it writes what it knows and what still fits, and answers for the
//! whole request that it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::receiver::{Received, Receiver, Verdict};

/// What is written, and how the answers are worded.
pub(crate) struct Backend {
    pub(crate) cap: usize,
    /// The status and body of an answer that the limit is reached.
    pub(crate) refusal: (u16, String),
    /// Series that it never takes, by a piece of their text, and how it says so.
    pub(crate) bad: Option<Bad>,
    /// Of each series the timestamps in the order of writing.
    pub(crate) written: BTreeMap<String, Vec<i64>>,
    /// Samples that came again with the timestamp of the latest.
    pub(crate) duplicates: usize,
    /// Samples that came after a later one of their series.
    pub(crate) out_of_order: Vec<String>,
    pub(crate) requests: usize,
    pub(crate) refused: usize,
    /// Of series with this text in their labels: the longest from a sample's timestamp to its arrival.
    pub(crate) watched: String,
    pub(crate) longest_lag: Duration,
    /// How long an answer takes.
    pub(crate) delay: Duration,
}

/// Series that are never taken.
pub(crate) struct Bad {
    pub(crate) text: String,
    /// Whether the answer names the first of them and the rest is written; else nothing is written.
    pub(crate) named: bool,
}

pub(crate) type Shared = Arc<Mutex<Backend>>;

impl Backend {
    pub(crate) fn new(cap: usize, status: u16, body: &str) -> Self {
        Self {
            cap,
            refusal: (status, body.to_owned()),
            bad: None,
            written: BTreeMap::new(),
            duplicates: 0,
            out_of_order: Vec::new(),
            requests: 0,
            refused: 0,
            watched: "kind=old".to_owned(),
            longest_lag: Duration::ZERO,
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn serve(self, receiver: &Receiver) -> Shared {
        let shared = Arc::new(Mutex::new(self));
        let backend = Arc::clone(&shared);
        receiver.answer_by(move |received| backend.lock().unwrap().judge(received));
        shared
    }

    fn judge(&mut self, received: &Received<'_>) -> Verdict {
        self.requests += 1;
        let after = self.delay;
        let answer =
            |status: u16, body: String| Verdict { taken: Some(Vec::new()), after, ..(status, body).into() };
        let is_bad = |series: &str| self.bad.as_ref().is_some_and(|bad| series.contains(&bad.text));
        let first_bad = received.samples.iter().find(|(series, _)| is_bad(series)).map(|(series, _)| *series);
        if let (Some(_), Some(Bad { named: false, .. })) = (first_bad, &self.bad) {
            self.refused += 1;
            return answer(400, "empty labels found".to_owned());
        }
        let known: BTreeSet<&str> =
            received.samples.iter().filter(|(s, _)| is_bad(s)).map(|(s, _)| *s).collect();
        let mut over = false;
        for (series, at) in received.samples.iter().filter(|(series, _)| !known.contains(series)) {
            if !self.written.contains_key(*series) && self.written.len() >= self.cap {
                over = true;
                continue;
            }
            if series.contains(&self.watched) {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
                self.longest_lag = self.longest_lag.max(Duration::from_millis((now - at).max(0) as u64));
            }
            let written = self.written.entry((*series).to_owned()).or_default();
            match written.last() {
                Some(last) if last == at => self.duplicates += 1,
                Some(last) if last > at => self.out_of_order.push(format!("{series}: {at} after {last}")),
                _ => written.push(*at),
            }
        }
        if over {
            self.refused += 1;
            return answer(self.refusal.0, self.refusal.1.clone());
        }
        if let Some(series) = first_bad {
            self.refused += 1;
            let metric = crate::world::as_go_prints(series);
            let body = format!("series has too many labels (actual: 151, limit: 150) series: '{metric}'");
            return answer(400, body);
        }
        answer(200, String::new())
    }
}
