//! What the sink has received: counts, and for each series which scrapes, in what order.

use crate::{
    page::sequence_of,
    wire::{Protocol, Series, Totals, WireError, count, each_series},
};
use hashbrown::{HashMap, HashSet, hash_map::Entry};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Counts over everything that was accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Requests answered with 2xx.
    pub accepted_requests: u64,
    /// Of these, remote write 1.0.
    pub v1_requests: u64,
    /// Of these, remote write 2.0.
    pub v2_requests: u64,
    /// Requests that got an injected fault.
    pub faulted_requests: u64,
    /// Requests of which not every series was taken in.
    pub limited_requests: u64,
    /// Samples of series that were not taken in, each time they came.
    pub refused_samples: u64,
    /// Requests that were no remote write at all.
    pub bad_requests: u64,
    /// Bytes of the accepted requests' bodies.
    pub body_bytes: u64,
    /// Bytes of their request lines and headers, as HTTP/1.1 writes them.
    pub head_bytes: u64,
    /// Bytes of the bodies after inflating.
    pub raw_bytes: u64,
    /// Float samples, stale markers included.
    pub samples: u64,
    /// Stale markers.
    pub stale_markers: u64,
    /// Native histogram samples.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata entries.
    pub metadata: u64,
    /// Distinct series seen (not in count-only mode).
    pub series: u64,
    /// Samples that came a second time.
    pub duplicates: u64,
    /// Values of a farm that came with another timestamp than their scrape's other values: no repetition is identical.
    pub retimed: u64,
    /// Samples never seen before that are older than one already received of their series.
    pub out_of_order: u64,
    /// Arrival of the first sample, milliseconds since the epoch.
    pub first_sample_at_ms: Option<i64>,
    /// Sum of (arrival − timestamp) over all samples, milliseconds.
    pub delay_sum_ms: i64,
    /// Largest (arrival − timestamp), milliseconds.
    pub delay_max_ms: i64,
}

/// What came from the targets of a farm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// By the `instance` label.
    pub instances: BTreeMap<String, Instance>,
}

/// What came from one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Arrival of its first sample, milliseconds since the epoch.
    pub first_sample_at_ms: i64,
    /// Distinct series, report series not counted.
    pub series: u64,
    /// By scrape number.
    pub scrapes: BTreeMap<u64, Arrived>,
    /// Timestamps (milliseconds since the epoch) of the scrapes that the collector calls failed: `up` is 0.
    pub failed_ms: BTreeSet<i64>,
    /// Stale markers of its series, report series included.
    #[serde(default)]
    pub stale_markers: u64,
}

/// What came of one scrape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// Distinct series of which that scrape's value arrived.
    pub series: u32,
    /// The timestamp that they came with, milliseconds since the epoch.
    pub timestamp_ms: i64,
}

/// Which series are not taken in; the others of the same request are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeriesLimits {
    /// With so many series known, new ones are refused.
    pub active_series: Option<u64>,
    /// One in so many series of a farm is always refused; 0 refuses none.
    pub refuse_one_in: u64,
    /// Whether the answer to that names the first of them.
    pub names_refused: bool,
}

/// What was not taken in of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Series beyond the limit of active series.
    pub over_limit: u64,
    /// The first series that is always refused, as receivers write it.
    pub refused: Option<String>,
}

/// How a sink judges what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Count samples only.
    CountOnly,
    /// Follow each series: order, repetition and, for series of a farm, which scrapes arrived.
    EachSeries,
}

/// Everything received so far.
#[derive(Debug)]
pub struct Ledger {
    judgement: Judgement,
    limits: SeriesLimits,
    withheld: Withheld,
    stats: Stats,
    series: HashMap<u64, SeriesState>,
    instances: Vec<(String, Instance)>,
    instance_numbers: HashMap<String, u32>,
    key: Vec<u8>,
    inflated: Vec<u8>,
}

#[derive(Debug)]
struct SeriesState {
    last_timestamp_ms: i64,
    instance: u32,
    seen: Seen,
}

/// Which samples of a series were seen.
#[derive(Debug)]
enum Seen {
    /// A series of a farm: one bit a scrape number.
    Scrapes(Vec<u64>),
    /// Any other: by timestamp.
    Timestamps(HashSet<i64>),
}

/// Why a body is no remote-write request.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The snappy block does not inflate.
    #[error("the body is no snappy block: {0}")]
    Snappy(#[from] snap::Error),
    /// The inflated message does not decode.
    #[error("the body does not decode: {0}")]
    Wire(#[from] WireError),
}

impl Ledger {
    /// An empty ledger.
    pub fn new(judgement: Judgement) -> Self {
        Self {
            judgement,
            limits: SeriesLimits::default(),
            withheld: Withheld::default(),
            stats: Stats::default(),
            series: HashMap::new(),
            instances: Vec::new(),
            instance_numbers: HashMap::new(),
            key: Vec::new(),
            inflated: Vec::new(),
        }
    }

    /// Takes in one request body that arrived at `now_ms`. A body that is refused changes nothing but `bad_requests`.
    pub fn accept(&mut self, body: &[u8], protocol: Protocol, now_ms: i64) -> Result<Totals, BodyError> {
        self.withheld = Withheld::default();
        let taken = self.inflate_and_take(body, protocol, now_ms);
        match &taken {
            Ok(totals) => {
                let stats = &mut self.stats;
                stats.accepted_requests += 1;
                match protocol {
                    Protocol::V1 => stats.v1_requests += 1,
                    Protocol::V2 => stats.v2_requests += 1,
                }
                stats.body_bytes += body.len() as u64;
                stats.raw_bytes += self.inflated.len() as u64;
                stats.samples += totals.samples;
                stats.histograms += totals.histograms;
                stats.exemplars += totals.exemplars;
                stats.metadata += totals.metadata;
                if totals.samples > 0 {
                    stats.first_sample_at_ms.get_or_insert(now_ms);
                }
                stats.series = self.series.len() as u64;
                stats.limited_requests += u64::from(self.withheld != Withheld::default());
            }
            Err(_) => self.stats.bad_requests += 1,
        }
        taken
    }

    /// Takes in less from now on. Judges each series, which [`Judgement::CountOnly`] does not.
    pub fn set_limits(&mut self, limits: SeriesLimits) {
        self.limits = limits;
    }

    /// What is taken in.
    pub fn limits(&self) -> SeriesLimits {
        self.limits
    }

    /// What was not taken in of the last request.
    pub fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    /// Counts the head of an accepted request.
    pub fn add_head_bytes(&mut self, bytes: u64) {
        self.stats.head_bytes += bytes;
    }

    /// Counts a request that got a fault for an answer.
    pub fn add_fault(&mut self) {
        self.stats.faulted_requests += 1;
    }

    /// Counts a request refused for its headers.
    pub fn add_bad_request(&mut self) {
        self.stats.bad_requests += 1;
    }

    /// The counts so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// What came from each target of a farm so far.
    pub fn received(&self) -> Received {
        Received { instances: self.instances.iter().cloned().collect() }
    }

    fn inflate_and_take(
        &mut self,
        body: &[u8],
        protocol: Protocol,
        now_ms: i64,
    ) -> Result<Totals, BodyError> {
        let length = snap::raw::decompress_len(body)?;
        let mut inflated = std::mem::take(&mut self.inflated);
        inflated.resize(length, 0);
        let outcome = snap::raw::Decoder::new().decompress(body, &mut inflated).map_err(BodyError::from);
        // Walked to the end before anything is taken in, so that a request that ends in garbage is refused whole.
        let outcome = outcome.and_then(|_| match self.judgement {
            Judgement::CountOnly => Ok(count(&inflated, protocol)?),
            Judgement::EachSeries => {
                each_series(&inflated, protocol, |_| ())?;
                Ok(each_series(&inflated, protocol, |series| self.take(series, now_ms))?)
            }
        });
        self.inflated = inflated;
        outcome
    }

    fn take(&mut self, series: &Series<'_>, now_ms: i64) {
        self.key.clear();
        for (name, value) in &series.labels {
            self.key.extend_from_slice(name);
            self.key.push(0xff);
            self.key.extend_from_slice(value);
            self.key.push(0xff);
        }
        let hash = xxh3_64(&self.key);
        let limits = self.limits;
        if limits.refuse_one_in > 0 && hash.is_multiple_of(limits.refuse_one_in) && !is_report_series(series)
        {
            self.stats.refused_samples += series.samples.len() as u64;
            self.withheld.refused.get_or_insert_with(|| written(series));
            return;
        }
        let known = self.series.len() as u64;
        let state = match self.series.entry(hash) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if limits.active_series.is_some_and(|limit| known >= limit) => {
                self.stats.refused_samples += series.samples.len() as u64;
                self.withheld.over_limit += 1;
                return;
            }
            Entry::Vacant(entry) => {
                let number = instance(&mut self.instances, &mut self.instance_numbers, series, now_ms);
                let seen = if is_report_series(series) {
                    Seen::Timestamps(HashSet::new())
                } else {
                    self.instances[number as usize].1.series += 1;
                    Seen::Scrapes(Vec::new())
                };
                entry.insert(SeriesState { last_timestamp_ms: i64::MIN, instance: number, seen })
            }
        };
        let is_up = name(series) == b"up";
        for &(timestamp, bits) in &series.samples {
            let delay = now_ms - timestamp;
            self.stats.delay_sum_ms += delay;
            self.stats.delay_max_ms = self.stats.delay_max_ms.max(delay);
            if bits == STALE {
                self.stats.stale_markers += 1;
                self.instances[state.instance as usize].1.stale_markers += 1;
            }
            let first = match (&mut state.seen, sequence_of(f64::from_bits(bits))) {
                (Seen::Scrapes(seen), Some(sequence)) if sequence < 1 << 24 => {
                    let first = set_bit(seen, sequence);
                    let scrapes = &mut self.instances[state.instance as usize].1.scrapes;
                    let new = Arrived { series: 0, timestamp_ms: timestamp };
                    let arrived = scrapes.entry(sequence).or_insert(new);
                    arrived.series += u32::from(first);
                    self.stats.retimed += u64::from(arrived.timestamp_ms != timestamp);
                    first
                }
                (Seen::Timestamps(seen), _) => {
                    if is_up && f64::from_bits(bits) == 0.0 {
                        self.instances[state.instance as usize].1.failed_ms.insert(timestamp);
                    }
                    seen.insert(timestamp)
                }
                // A stale marker, or a value that no page of a farm shows: only its place in time can tell.
                (Seen::Scrapes(_), _) => timestamp != state.last_timestamp_ms,
            };
            if !first {
                self.stats.duplicates += 1;
            } else if timestamp <= state.last_timestamp_ms {
                self.stats.out_of_order += 1;
            }
            state.last_timestamp_ms = state.last_timestamp_ms.max(timestamp);
        }
    }
}

/// Sets a bit and says whether it was clear.
fn set_bit(bits: &mut Vec<u64>, index: u64) -> bool {
    let (word, bit) = ((index / 64) as usize, 1 << (index % 64));
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    let clear = bits[word] & bit == 0;
    bits[word] |= bit;
    clear
}

/// The number of the series' target; a new one when its `instance` label is new.
fn instance(
    instances: &mut Vec<(String, Instance)>,
    numbers: &mut HashMap<String, u32>,
    series: &Series<'_>,
    now_ms: i64,
) -> u32 {
    let label =
        series.labels.iter().find(|(name, _)| *name == b"instance").map_or(&b""[..], |(_, value)| *value);
    let name = String::from_utf8_lossy(label).into_owned();
    *numbers.entry(name.clone()).or_insert_with(|| {
        instances.push((name, Instance { first_sample_at_ms: now_ms, ..Instance::default() }));
        (instances.len() - 1) as u32
    })
}

/// The series that a collector writes about a scrape: no page of a farm has such names.
fn is_report_series(series: &Series<'_>) -> bool {
    let name = name(series);
    name == b"up" || name.starts_with(b"scrape_")
}

/// A series as receivers write it in their answers: `name{label="value"}`.
fn written(series: &Series<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let labels = series.labels.iter().filter(|(name, _)| *name != b"__name__");
    let labels: Vec<_> = labels.map(|(name, value)| format!("{}={:?}", text(name), text(value))).collect();
    format!("{}{{{}}}", text(name(series)), labels.join(", "))
}

fn name<'a>(series: &Series<'a>) -> &'a [u8] {
    series.labels.iter().find(|(name, _)| *name == b"__name__").map_or(&b""[..], |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Label, RequestV2, Sample, TimeSeries, TimeSeriesV2, WriteRequest};
    use prost::Message;

    fn body(message: &impl Message) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).unwrap()
    }

    fn v1(name: &str, samples: &[(i64, f64)]) -> Vec<u8> {
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        let samples = samples
            .iter()
            .map(|&(timestamp, value)| Sample { timestamp, value, start_timestamp: 0 })
            .collect();
        let labels = vec![label("__name__", name), label("instance", "a:1")];
        body(&WriteRequest {
            timeseries: vec![TimeSeries { labels, samples, ..TimeSeries::default() }],
            metadata: Vec::new(),
        })
    }

    #[test]
    fn order_repetition_and_scrapes_are_told_apart() {
        let mut ledger = Ledger::new(Judgement::EachSeries);
        for (samples, duplicates, out_of_order) in [
            (&[(1000, 1024.0)][..], 0, 0),
            (&[(3000, 3072.5)], 0, 0),
            (&[(3000, 3072.5)], 1, 0),
            (&[(2000, 2050.0)], 1, 1),
            (&[(4000, f64::from_bits(STALE))], 1, 1),
            (&[(4000, f64::from_bits(STALE))], 2, 1),
        ] {
            ledger.accept(&v1("x_total", samples), Protocol::V1, 5000).unwrap();
            let stats = ledger.stats();
            assert_eq!((stats.duplicates, stats.out_of_order), (duplicates, out_of_order), "{samples:?}");
        }
        let stats = ledger.stats();
        assert_eq!((stats.series, stats.samples, stats.stale_markers), (1, 6, 2));
        assert_eq!((stats.delay_max_ms, stats.first_sample_at_ms), (4000, Some(5000)));
        let received = ledger.received();
        let series =
            received.instances["a:1"].scrapes.iter().map(|(number, arrived)| (*number, arrived.series));
        assert_eq!(series.collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn report_series_are_no_scrapes_of_the_farm() {
        let mut ledger = Ledger::new(Judgement::EachSeries);
        ledger.accept(&v1("up", &[(1000, 1.0), (2000, 1.0), (2000, 1.0)]), Protocol::V1, 2000).unwrap();
        assert_eq!((ledger.stats().duplicates, ledger.stats().out_of_order), (1, 0));
        let instance = &ledger.received().instances["a:1"];
        assert_eq!((instance.series, instance.scrapes.len()), (0, 0));
    }

    #[test]
    fn both_protocols_name_the_same_series() {
        let mut ledger = Ledger::new(Judgement::EachSeries);
        ledger.accept(&v1("x_total", &[(1000, 1024.0)]), Protocol::V1, 1000).unwrap();
        let symbols = ["", "__name__", "x_total", "instance", "a:1"].map(String::from).to_vec();
        let samples = vec![Sample { value: 1024.0, timestamp: 1000, start_timestamp: 7 }];
        let series = TimeSeriesV2 { labels_refs: vec![1, 2, 3, 4], samples, ..TimeSeriesV2::default() };
        ledger.accept(&body(&RequestV2 { symbols, timeseries: vec![series] }), Protocol::V2, 1000).unwrap();
        let stats = ledger.stats();
        assert_eq!((stats.series, stats.duplicates), (1, 1));
        assert_eq!((stats.v1_requests, stats.v2_requests), (1, 1));
    }

    #[test]
    fn garbage_is_refused_whole_and_counted() {
        let mut ledger = Ledger::new(Judgement::EachSeries);
        assert!(matches!(ledger.accept(b"\xff\xff", Protocol::V1, 0), Err(BodyError::Snappy(_))));
        let mut raw =
            WriteRequest { timeseries: vec![TimeSeries::default()], metadata: vec![] }.encode_to_vec();
        raw.push(0x0f);
        let garbage = snap::raw::Encoder::new().compress_vec(&raw).unwrap();
        assert!(matches!(ledger.accept(&garbage, Protocol::V1, 0), Err(BodyError::Wire(_))));
        assert_eq!(ledger.stats(), Stats { bad_requests: 2, ..Stats::default() });
    }

    #[test]
    fn counting_only_counts() {
        let mut ledger = Ledger::new(Judgement::CountOnly);
        ledger.accept(&v1("x_total", &[(1000, 1024.0), (2000, 2048.0)]), Protocol::V1, 2000).unwrap();
        assert_eq!((ledger.stats().samples, ledger.stats().series), (2, 0));
    }
}
