use promferry_model::{METRIC_NAME, MetricType};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{Format, LeFormat, ParseOptions};

/// Which series some bytes of a page denote: a hash of the bytes and of the parse context, which is the
/// format, the family's type and unit as last declared and the options that change labels.
///
/// Hashes under one seed may be compared within a process; they are no identity on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey(pub [u64; 2]);

impl SeriesKey {
    pub(crate) const fn of_hash(hash: u128) -> Self {
        Self([hash as u64, (hash >> 64) as u64])
    }

    /// The key of what this one stands for together with `bytes`.
    #[inline]
    pub(crate) fn with(self, bytes: &[u8]) -> Self {
        let Self([low, high]) = self;
        Self::of_hash(xxh3_128_with_seed(bytes, low ^ high.rotate_left(32)))
    }

    /// The key of one sample of several that have this one in common.
    #[inline]
    pub(crate) fn of_part(self, kind: u64, bound: f64, seed: u64) -> Self {
        let Self([low, high]) = self;
        let mut bytes = [0; 32];
        for (place, word) in bytes.chunks_exact_mut(8).zip([low, high, kind, bound.to_bits()]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Self::of_hash(xxh3_128_with_seed(&bytes, seed))
    }
}

/// The label that says a series' type, under [`ParseOptions::type_and_unit_labels`].
pub(crate) const TYPE_LABEL: &str = "__type__";
/// The label that says a series' unit, likewise.
pub(crate) const UNIT_LABEL: &str = "__unit__";

/// A family's type and unit where they become labels of its series.
#[derive(Clone, Copy)]
pub(crate) struct TypeAndUnit<'a> {
    pub(crate) metric_type: MetricType,
    pub(crate) unit: &'a str,
}

impl<'a> TypeAndUnit<'a> {
    /// The labels: none for what is not known.
    pub(crate) fn labels(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let metric_type = match self.metric_type {
            MetricType::Unknown => "",
            known => known.as_str(),
        };
        [(TYPE_LABEL, metric_type), (UNIT_LABEL, self.unit)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
    }

    /// Whether a label of the page gives way: to one of these, or to the metric's name.
    pub(crate) fn replaces(self, name: &str) -> bool {
        name == METRIC_NAME || self.labels().any(|(label, _)| label == name)
    }
}

/// What decides, beside its own bytes, which series a line means.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    format: Format,
    metric_type: MetricType,
    family: u64,
    unit: u64,
    le_format: LeFormat,
    /// Whether type and unit become labels. OpenMetrics' unit is then the last one that was said of any family.
    type_and_unit_labels: bool,
    /// The hash of all that.
    hash: u64,
}

impl Context {
    pub(crate) fn new(format: Format, options: &ParseOptions) -> Self {
        let mut context = Self {
            format,
            metric_type: MetricType::Unknown,
            family: 0,
            unit: 0,
            le_format: options.le_format,
            type_and_unit_labels: options.type_and_unit_labels,
            hash: 0,
        };
        context.rehash();
        context
    }

    pub(crate) const fn metric_type(&self) -> MetricType {
        self.metric_type
    }

    /// A metadata line names `family`: a unit said of another one is no longer meant.
    pub(crate) fn enter_family(&mut self, family: &[u8]) {
        let family = xxh3_64(family);
        if family != self.family {
            self.family = family;
            let keeps_unit = self.type_and_unit_labels && self.format == Format::OpenMetrics;
            if self.unit != 0 && !keeps_unit {
                self.unit = 0;
                self.rehash();
            }
        }
    }

    pub(crate) fn set_type(&mut self, metric_type: MetricType) {
        self.metric_type = metric_type;
        self.rehash();
    }

    pub(crate) fn set_unit(&mut self, unit: &[u8]) {
        self.unit = if unit.is_empty() { 0 } else { xxh3_64(unit) };
        self.rehash();
    }

    /// The type and the unit of a family whose series stand together.
    pub(crate) fn set_type_and_unit(&mut self, metric_type: MetricType, unit: &[u8]) {
        self.metric_type = metric_type;
        self.set_unit(unit);
    }

    #[inline]
    pub(crate) fn key(&self, bytes: &[u8], seed: u64) -> SeriesKey {
        SeriesKey::of_hash(xxh3_128_with_seed(bytes, seed ^ self.hash))
    }

    fn rehash(&mut self) {
        let kind = [
            self.format as u8,
            self.metric_type as u8,
            self.le_format as u8,
            u8::from(self.type_and_unit_labels),
        ];
        self.hash = xxh3_64_with_seed(&kind, self.unit);
    }
}
