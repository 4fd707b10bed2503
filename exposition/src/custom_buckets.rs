//! Classic histograms of the text formats as native ones with custom buckets (Prometheus 3.16
//! `model/textparse/nhcbparse.go`).
//!
//! The lines of a histogram are collected as long as they follow each other and have the same labels. What ends
//! them, the page's end too, is held back until the histogram has been given.

use promferry_model::{BUCKET_LABEL, Histogram, METRIC_NAME, MetricType, Timestamp};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::classic_histogram::{ClassicHistogram, copy_histogram};
use crate::exemplars::ExemplarSample;
use crate::text::{Entry, TextExemplar, TextParser};
use crate::{Event, Exemplars, HistogramEvent, LabelBuffer, ParseError, ParseOptions, SeriesKey, go_float};

/// A text page whose classic histograms are given as native ones with custom buckets.
pub(crate) struct CustomBuckets<'a> {
    text: TextParser<'a>,
    keeps_classic: bool,
    /// The family whose type was last declared, if that is a histogram: only its series are collected.
    histogram_family: Option<&'a [u8]>,
    state: State<'a>,
    /// The labels of the series that was read last, if it may be a histogram's.
    labels: LabelBuffer,
    /// Its own time.
    timestamp: Option<Timestamp>,
    /// What has been collected, or is given.
    classic: ClassicHistogram,
    histogram: Histogram,
    /// The histogram's name and its labels, its name among them.
    name: String,
    base: LabelBuffer,
    base_hash: u64,
    start: Option<Timestamp>,
    exemplars: CollectedExemplars,
    /// Numbers of labels in the order of their names.
    sorted: Vec<usize>,
}

enum State<'a> {
    /// Nothing is collected.
    Idle,
    Collecting,
    /// The histogram is given; then comes what ended it, `None` being the page's end.
    Given(Option<Entry<'a>>),
}

/// Which of a classic histogram's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bucket,
    Sum,
    Count,
}

impl<'a> CustomBuckets<'a> {
    pub(crate) fn new(text: TextParser<'a>, options: ParseOptions) -> Self {
        Self {
            text,
            keeps_classic: options.always_classic_histograms,
            histogram_family: None,
            state: State::Idle,
            labels: LabelBuffer::new(),
            timestamp: None,
            classic: ClassicHistogram::new(),
            histogram: Histogram::stale(),
            name: String::new(),
            base: LabelBuffer::new(),
            base_hash: 0,
            start: None,
            exemplars: CollectedExemplars::default(),
            sorted: Vec::new(),
        }
    }

    pub(crate) const fn forgo_quick_ways(&mut self) {
        self.text.forgo_quick_ways();
    }

    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, ParseError> {
        loop {
            let entry = match std::mem::replace(&mut self.state, State::Idle) {
                State::Given(held) => held,
                state => {
                    self.state = state;
                    self.text.next()?
                }
            };
            let mut is_collected = false;
            let ends_histogram = match &entry {
                Some(Entry::Series { value, timestamp }) => {
                    self.timestamp = *timestamp;
                    // No other series is collected, nor goes on with what is.
                    if self.histogram_family.is_some() {
                        self.text.labels(&mut self.labels)?;
                    }
                    let ends = self.is_collecting() && !self.is_of_collected() && self.convert();
                    is_collected = !ends && self.collect(*value);
                    if self.is_collecting() {
                        // All that comes while a histogram is collected has started with it.
                        self.text.replace_start(self.start);
                    }
                    ends
                }
                Some(Entry::Type { family, metric_type }) => {
                    self.histogram_family = (*metric_type == MetricType::Histogram).then_some(*family);
                    self.convert()
                }
                _ => self.convert(),
            };
            if ends_histogram {
                self.state = State::Given(entry);
                return Ok(Some(Event::Histogram(HistogramEvent::of_custom_buckets(self, self.timestamp))));
            }
            if is_collected && !self.keeps_classic {
                continue;
            }
            return Ok(entry.map(|entry| Event::of_text(&self.text, entry)));
        }
    }

    const fn is_collecting(&self) -> bool {
        matches!(self.state, State::Collecting)
    }

    /// Whether the current series belongs to the histogram that is collected.
    fn is_of_collected(&mut self) -> bool {
        self.histogram_family.is_some()
            && part_and_base(self.labels.metric_name()).1 == self.name
            && hash_without_bucket(&self.labels, &mut self.sorted) == self.base_hash
    }

    /// Takes the current series into the histogram; false if it is none of a histogram's.
    fn collect(&mut self, value: f64) -> bool {
        let Some(family) = self.histogram_family else { return false };
        let (part, base) = part_and_base(self.labels.metric_name());
        let Some(part) = part.filter(|_| base.as_bytes() == family) else { return false };
        let upper_bound = match part {
            Part::Bucket => {
                let bound = self.labels.get(BUCKET_LABEL).and_then(|le| go_float::parse(le.as_bytes()).ok());
                let Some(bound) = bound.filter(|bound| !bound.is_nan()) else { return false };
                bound
            }
            _ => 0.0,
        };
        if !self.is_collecting() {
            self.begin();
        }
        // Also where the classic series are kept: the exemplars are then the histogram's alone.
        if let Some(exemplar) = self.text.take_exemplar() {
            self.exemplars.push(exemplar);
        }
        self.exemplars.make_room();
        match part {
            Part::Bucket => self.classic.add_bucket(upper_bound, value),
            Part::Sum => self.classic.set_sum(value),
            Part::Count => self.classic.set_count(value),
        }
        true
    }

    fn begin(&mut self) {
        self.state = State::Collecting;
        self.start = self.text.start();
        self.base_hash = hash_without_bucket(&self.labels, &mut self.sorted);
        self.base.clear();
        self.name.clear();
        self.name.push_str(part_and_base(self.labels.metric_name()).1);
        if !self.name.is_empty() {
            self.base.push(METRIC_NAME, &self.name);
        }
        let mut is_named = false;
        for group in self.sorted.chunk_by(|&a, &b| name_of(&self.labels, a) == name_of(&self.labels, b)) {
            let labels = || group.iter().filter_map(|&at| self.labels.label(at));
            // One empty value takes all labels of its name with it.
            if labels().any(|(name, value)| name == BUCKET_LABEL || value.is_empty()) {
                continue;
            }
            for (name, value) in labels() {
                // The histogram's name has taken the place of the series'; no name, that of all of them.
                let is_replaced =
                    name == METRIC_NAME && !std::mem::replace(&mut is_named, !self.name.is_empty());
                if !is_replaced {
                    self.base.push(name, value);
                }
            }
        }
    }

    /// Makes the native histogram of what has been collected. What cannot be converted is lost, as Prometheus
    /// loses it.
    fn convert(&mut self) -> bool {
        if !self.is_collecting() {
            return false;
        }
        self.state = State::Idle;
        let converted = self.classic.convert(&mut self.histogram).is_ok();
        self.classic.clear();
        self.exemplars.end(converted);
        converted
    }

    /// Since when the current histogram has counted.
    pub(crate) const fn start(&self) -> Option<Timestamp> {
        self.start
    }

    pub(crate) fn key(&self, seed: u64) -> SeriesKey {
        let texts = self.base.iter().flat_map(|(name, value)| [name, value]);
        texts.fold(SeriesKey([seed, 0]), |key, text| key.with(text.as_bytes()))
    }

    /// Puts the histogram's labels into `labels`; they were judged with those of its classic series.
    pub(crate) fn labels(&self, labels: &mut LabelBuffer) {
        labels.clear();
        self.base.iter().for_each(|(name, value)| labels.push(name, value));
    }

    pub(crate) const fn exemplars(&self) -> Exemplars<'_> {
        Exemplars::of_custom_buckets(self)
    }

    /// The exemplar behind `next` earlier ones.
    pub(crate) fn exemplar(&self, next: &mut usize, labels: &mut LabelBuffer) -> Option<ExemplarSample> {
        let place = self.exemplars.given().get(*next)?;
        *next += 1;
        let Some(exemplar) = place else {
            labels.clear();
            return Some(ExemplarSample { value: 0.0, timestamp: None });
        };
        self.text.exemplar_labels(exemplar, labels);
        Some(ExemplarSample { value: exemplar.value, timestamp: exemplar.timestamp })
    }

    pub(crate) fn read_into(&self, histogram: &mut Histogram) {
        copy_histogram(&self.histogram, histogram);
    }
}

/// The exemplars of a histogram's classic series.
///
/// Prometheus 3.16 uses a list again without cleaning it, and so which exemplars a histogram has depends on the
/// ones before it: where a histogram could not be converted, its exemplars stand in front of the next one's, and
/// one without a time has the time of its place's predecessor. It is done alike here.
#[derive(Default)]
struct CollectedExemplars {
    places: Vec<Option<TextExemplar>>,
    /// How many places are in use, the last of them perhaps without an exemplar.
    used: usize,
    /// How many exemplars the current histogram has.
    count: usize,
    given: usize,
}

impl CollectedExemplars {
    fn push(&mut self, mut exemplar: TextExemplar) {
        self.make_room();
        if let Some(place) = self.places.get_mut(self.used - 1) {
            let before = place.as_ref().and_then(|before| before.timestamp);
            exemplar.timestamp = exemplar.timestamp.or(before);
            *place = Some(exemplar);
        }
        self.count += 1;
    }

    /// Sees to a last place for the next exemplar.
    fn make_room(&mut self) {
        if self.used != self.count + 1 {
            if self.used == self.places.len() {
                self.places.push(None);
            }
            self.used += 1;
        }
    }

    fn end(&mut self, converted: bool) {
        if converted {
            self.given = self.count;
            self.used = 0;
        }
        self.count = 0;
    }

    fn given(&self) -> &[Option<TextExemplar>] {
        self.places.get(..self.given).unwrap_or_default()
    }
}

/// Which of a histogram's series a metric of this name is, and the histogram's name.
fn part_and_base(name: &str) -> (Option<Part>, &str) {
    for (suffix, part) in [("_bucket", Part::Bucket), ("_sum", Part::Sum), ("_count", Part::Count)] {
        if let Some(base) = name.strip_suffix(suffix) {
            return (Some(part), base);
        }
    }
    (None, name)
}

/// A hash of the labels but for the metric's name and the bucket's bound, in whichever order they stand; leaves
/// that order in `sorted`.
fn hash_without_bucket(labels: &LabelBuffer, sorted: &mut Vec<usize>) -> u64 {
    sorted.clear();
    sorted.extend(0..labels.len());
    sorted.sort_unstable_by_key(|&at| (name_of(labels, at), at));
    let mut hash = 0;
    for (name, value) in sorted.iter().filter_map(|&at| labels.label(at)) {
        if name != METRIC_NAME && name != BUCKET_LABEL {
            hash = xxh3_64_with_seed(value.as_bytes(), xxh3_64_with_seed(name.as_bytes(), hash));
        }
    }
    hash
}

fn name_of(labels: &LabelBuffer, at: usize) -> &str {
    labels.label(at).map_or("", |(name, _)| name)
}
