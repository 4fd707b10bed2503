use promferry_model::MetricType;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{Format, LeFormat, ParseOptions};

/// Which series some bytes of a page denote: a hash of the bytes and of the parse context, which is the
/// format, the family's type and unit as last declared and the options that change labels.
///
/// Hashes under one seed may be compared within a process; they are no identity on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey(pub [u64; 2]);

/// The label that says a series' type, under [`ParseOptions::type_and_unit_labels`].
pub(crate) const TYPE_LABEL: &str = "__type__";
/// The label that says a series' unit, likewise.
pub(crate) const UNIT_LABEL: &str = "__unit__";

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
        let hash = xxh3_128_with_seed(bytes, seed ^ self.hash);
        SeriesKey([hash as u64, (hash >> 64) as u64])
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
