//! Two scrapers of the same targets, held against each other series by series.

use crate::prometheus_server::{Labels, Samples, SeriesData};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

const STALE: u64 = 0x7ff0_0000_0000_0002;

/// How two sets of series are compared.
#[derive(Debug, Clone)]
pub struct Comparison<'a> {
    /// A label that only one side has, taken away before comparing.
    pub strip: &'a str,
    /// Metrics whose values differ between two scrapers by nature: only their presence is compared.
    pub presence_only: &'a [&'a str],
    /// Metrics with explicit timestamps: timestamp and value of each sample must be the same.
    pub exact: &'a [&'a str],
}

/// One difference, told from the side of `ours`.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// `theirs` has a series that `ours` has not.
    Missing {
        /// The series.
        series: Labels,
        /// The series of `ours` that is most like it and that `theirs` has not.
        instead: Option<Labels>,
    },
    /// `ours` has a series that `theirs` has not.
    Unexpected {
        /// The series.
        series: Labels,
    },
    /// Both have it, with other values.
    Values {
        /// The series.
        series: Labels,
        /// Values in order, without repetitions, or samples with timestamps for an exact comparison.
        ours: Vec<String>,
        /// The same of the other side.
        theirs: Vec<String>,
    },
}

/// All differences; its text is a report.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Differences {
    /// Series that both sides have.
    pub common: usize,
    /// In the order of the series' labels.
    pub list: Vec<Difference>,
}

impl Comparison<'_> {
    /// Compares label sets alone.
    pub fn series(&self, ours: &BTreeSet<Labels>, theirs: &BTreeSet<Labels>) -> Differences {
        let [ours, theirs] = [ours, theirs].map(|side| self.stripped(side.iter()));
        let mut differences = Differences { common: ours.intersection(&theirs).count(), list: Vec::new() };
        let unexpected: Vec<_> = ours.difference(&theirs).collect();
        for series in theirs.difference(&ours) {
            let alike = unexpected.iter().max_by_key(|other| likeness(series, other)).filter(|other| {
                // Two labels at least, and more than half: anything less alike would only confuse.
                let likeness = likeness(series, other);
                likeness >= 2 && likeness * 2 > series.len()
            });
            let instead = alike.map(|labels| (**labels).clone());
            differences.list.push(Difference::Missing { series: series.clone(), instead });
        }
        let unexpected =
            unexpected.into_iter().map(|series| Difference::Unexpected { series: series.clone() });
        differences.list.extend(unexpected);
        differences
    }

    /// Compares label sets, and of the series that both have the values with their stale markers.
    ///
    /// Two scrapers look at different moments, so what counts is the order of values, repetitions left out: a page that
    /// changes only after both have seen it gives both the same. Values are compared by their bits.
    pub fn values(&self, ours: &SeriesData, theirs: &SeriesData) -> Differences {
        let [ours_by_labels, theirs_by_labels] = [ours, theirs].map(|side| {
            side.iter().map(|(labels, samples)| (self.strip(labels), samples)).collect::<BTreeMap<_, _>>()
        });
        let mut differences = self
            .series(&ours_by_labels.keys().cloned().collect(), &theirs_by_labels.keys().cloned().collect());
        for (series, theirs) in &theirs_by_labels {
            let Some(ours) = ours_by_labels.get(series) else { continue };
            let name = series.get("__name__").map_or("", String::as_str);
            if self.presence_only.contains(&name) {
                continue;
            }
            let exact = self.exact.contains(&name);
            let [ours, theirs] = [ours, theirs].map(|samples| summary(samples, exact));
            if ours != theirs {
                differences.list.push(Difference::Values { series: series.clone(), ours, theirs });
            }
        }
        differences
    }

    fn stripped<'b>(&self, side: impl Iterator<Item = &'b Labels>) -> BTreeSet<Labels> {
        side.map(|labels| self.strip(labels)).collect()
    }

    fn strip(&self, labels: &Labels) -> Labels {
        let kept = labels.iter().filter(|(name, _)| *name != self.strip);
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes away the differences that `intended` recognises and gives how many they were: a list of intended
    /// differences is checked to be needed.
    pub fn forgive(&mut self, intended: impl Fn(&Difference) -> bool) -> usize {
        let before = self.list.len();
        self.list.retain(|difference| !intended(difference));
        before - self.list.len()
    }
}

/// What a side says of a series, each entry readable and equal only for equal bits.
fn summary(samples: &Samples, exact: bool) -> Vec<String> {
    let floats = samples.floats.iter().map(|(timestamp, bits)| (*timestamp, readable(*bits)));
    let histograms = samples.histograms.iter().map(|histogram| {
        let mut untimed = histogram.clone();
        // Prometheus derives the hint from the samples before it, which two scrapers have at different moments.
        (untimed.timestamp, untimed.reset_hint) = (0, 0);
        (
            histogram.timestamp,
            if untimed.sum.to_bits() == STALE { "stale".to_owned() } else { format!("{untimed:?}") },
        )
    });
    let mut all: Vec<_> = floats.chain(histograms).collect();
    all.sort_by_key(|(timestamp, _)| *timestamp);
    if exact {
        return all.into_iter().map(|(timestamp, value)| format!("{value}@{timestamp}")).collect();
    }
    let mut values: Vec<_> = all.into_iter().map(|(_, value)| value).collect();
    values.dedup();
    values
}

fn readable(bits: u64) -> String {
    let value = f64::from_bits(bits);
    match bits {
        STALE => "stale".to_owned(),
        _ if value.is_nan() => format!("NaN({bits:#x})"),
        _ => format!("{value:?}"),
    }
}

/// Labels that two series have in common.
fn likeness(one: &Labels, other: &Labels) -> usize {
    one.iter().filter(|(name, value)| other.get(*name) == Some(value)).count()
}

/// A series as Prometheus writes it.
fn written(labels: &Labels) -> String {
    let name = labels.get("__name__").map_or("", String::as_str);
    let rest = labels.iter().filter(|(name, _)| *name != "__name__");
    let pairs: Vec<_> = rest.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", pairs.join(","))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { series, instead: None } => write!(f, "missing:    {}", written(series)),
            Self::Missing { series, instead: Some(instead) } => {
                write!(f, "missing:    {}\n  most like {}", written(series), written(instead))
            }
            Self::Unexpected { series } => write!(f, "unexpected: {}", written(series)),
            Self::Values { series, ours, theirs } => {
                write!(
                    f,
                    "values of   {}\n  ours   {}\n  theirs {}",
                    written(series),
                    ours.join(" "),
                    theirs.join(" ")
                )
            }
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} differences, {} series in common", self.list.len(), self.common)?;
        for difference in &self.list {
            writeln!(f, "{difference}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Comparison<'_> =
        Comparison { strip: "via", presence_only: &["duration"], exact: &["timed"] };

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn side(via: Option<&str>, series: &[(&str, &[(i64, f64)])]) -> SeriesData {
        let mut data = SeriesData::new();
        for (name, samples) in series {
            let mut labels = labels(&[("__name__", name), ("instance", "a:1"), ("job", "j")]);
            labels.extend(via.map(|via| ("via".to_owned(), via.to_owned())));
            let floats = samples.iter().map(|(timestamp, value)| (*timestamp, value.to_bits())).collect();
            data.insert(labels, Samples { floats, ..Samples::default() });
        }
        data
    }

    #[test]
    fn the_stripped_label_moments_and_repetitions_make_no_difference() {
        let stale = f64::from_bits(STALE);
        let ours = side(Some("us"), &[("a", &[(1, 1.0), (2, 2.0), (3, stale)]), ("duration", &[(1, 0.1)])]);
        let theirs =
            side(None, &[("a", &[(5, 1.0), (6, 1.0), (7, 2.0), (9, stale)]), ("duration", &[(1, 0.7)])]);
        let differences = PLAIN.values(&ours, &theirs);
        assert!(differences.is_empty(), "{differences}");
        assert_eq!(differences.common, 2);
    }

    #[test]
    fn a_value_a_stale_bit_and_a_timestamp_make_a_difference() {
        let (stale, nan) = (f64::from_bits(STALE), f64::NAN);
        for (name, ours, theirs) in [
            ("a", &[(1, 1.0), (2, 2.0)][..], &[(1, 1.0)][..]),
            ("a", &[(1, 1.0), (2, nan)], &[(1, 1.0), (2, stale)]),
            ("a", &[(1, 0.0)], &[(1, -0.0)]),
            ("timed", &[(1, 1.0)], &[(2, 1.0)]),
        ] {
            let differences =
                PLAIN.values(&side(Some("us"), &[(name, ours)]), &side(None, &[(name, theirs)]));
            assert!(
                matches!(differences.list[..], [Difference::Values { .. }]),
                "{name} {ours:?} {theirs:?}"
            );
        }
    }

    #[test]
    fn one_injected_missing_label_is_found_and_named() {
        let theirs = side(None, &[("a", &[(1, 1.0)]), ("b", &[(1, 1.0)])]);
        let mut ours = side(Some("us"), &[("a", &[(1, 1.0)])]);
        let without = labels(&[("__name__", "b"), ("instance", "a:1"), ("via", "us")]);
        ours.insert(without, Samples::default());
        let mut differences = PLAIN.values(&ours, &theirs);
        let series = labels(&[("__name__", "b"), ("instance", "a:1"), ("job", "j")]);
        let ours_without = labels(&[("__name__", "b"), ("instance", "a:1")]);
        let expected = [
            Difference::Missing { series, instead: Some(ours_without.clone()) },
            Difference::Unexpected { series: ours_without },
        ];
        assert_eq!(differences.list, expected);
        let report = differences.to_string();
        assert!(report.contains("missing:    b{instance=\"a:1\",job=\"j\"}"), "{report}");
        assert_eq!(differences.forgive(|difference| matches!(difference, Difference::Unexpected { .. })), 1);
        assert_eq!(differences.list.len(), 1);
    }
}
