//! A walk over remote-write requests without building them: what lets the sink keep up with any collector.

use std::ops::Range;

/// What is wrong with a request's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field or its length reaches past the end.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint longer than ten bytes, or a wire type that protobuf no longer has.
    #[error("the bytes are no protobuf message")]
    Malformed,
    /// A remote write 2.0 label that refers to no symbol.
    #[error("a label refers to symbol {0}, which the request does not have")]
    NoSuchSymbol(u64),
    /// A list of label references with an odd length.
    #[error("a series has an odd number of label references")]
    OddReferences,
}

/// Which message a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// What a request holds, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// TimeSeries messages.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Native histogram samples.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata entries (1.0: of families, 2.0: of series).
    pub metadata: u64,
}

/// One series as it lies in the request. Reused from one to the next.
#[derive(Debug, Default)]
pub struct Series<'a> {
    /// Name and value of each label, in the request's order.
    pub labels: Vec<(&'a [u8], &'a [u8])>,
    /// Timestamp (milliseconds) and bits of the value of each float sample.
    pub samples: Vec<(i64, u64)>,
    /// Timestamps (milliseconds) of native histogram samples.
    pub histograms: Vec<i64>,
}

/// Counts what a request holds without looking at labels or values.
pub fn count(message: &[u8], protocol: Protocol) -> Result<Totals, WireError> {
    let mut totals = Totals::default();
    let (series_field, metadata_field) = fields(protocol);
    let mut walk = Walk(message);
    while let Some((field, value)) = walk.next()? {
        if field == series_field {
            count_series(value.bytes()?, protocol, &mut totals)?;
        } else if field == metadata_field {
            totals.metadata += 1;
        }
    }
    Ok(totals)
}

/// Calls `visit` with each series of a request and returns the totals.
pub fn each_series<'a>(
    message: &'a [u8],
    protocol: Protocol,
    mut visit: impl FnMut(&Series<'a>),
) -> Result<Totals, WireError> {
    let mut totals = Totals::default();
    let (series_field, metadata_field) = fields(protocol);
    let mut symbols: Vec<&'a [u8]> = Vec::new();
    if protocol == Protocol::V2 {
        let mut walk = Walk(message);
        while let Some((field, value)) = walk.next()? {
            if field == 4 {
                symbols.push(value.bytes()?);
            }
        }
    }
    let mut series = Series::default();
    let mut walk = Walk(message);
    while let Some((field, value)) = walk.next()? {
        if field == series_field {
            let bytes = value.bytes()?;
            count_series(bytes, protocol, &mut totals)?;
            read_series(bytes, protocol, &symbols, &mut series)?;
            visit(&series);
        } else if field == metadata_field {
            totals.metadata += 1;
        }
    }
    Ok(totals)
}

/// The fields of a series and, in 1.0, of metadata (2.0 has it inside the series).
fn fields(protocol: Protocol) -> (u64, u64) {
    match protocol {
        Protocol::V1 => (1, 3),
        Protocol::V2 => (5, u64::MAX),
    }
}

fn count_series(bytes: &[u8], protocol: Protocol, totals: &mut Totals) -> Result<(), WireError> {
    totals.series += 1;
    let mut walk = Walk(bytes);
    while let Some((field, _)) = walk.next()? {
        match (field, protocol) {
            (2, _) => totals.samples += 1,
            (3, Protocol::V1) | (4, Protocol::V2) => totals.exemplars += 1,
            (4, Protocol::V1) | (3, Protocol::V2) => totals.histograms += 1,
            (5, Protocol::V2) => totals.metadata += 1,
            _ => {}
        }
    }
    Ok(())
}

fn read_series<'a>(
    bytes: &'a [u8],
    protocol: Protocol,
    symbols: &[&'a [u8]],
    series: &mut Series<'a>,
) -> Result<(), WireError> {
    series.labels.clear();
    series.samples.clear();
    series.histograms.clear();
    let mut pending: Option<&'a [u8]> = None;
    let mut reference = |number: u64, labels: &mut Vec<_>| {
        let symbol = *symbols.get(number as usize).ok_or(WireError::NoSuchSymbol(number))?;
        match pending.take() {
            None => pending = Some(symbol),
            Some(name) => labels.push((name, symbol)),
        }
        Ok(())
    };
    let mut walk = Walk(bytes);
    while let Some((field, value)) = walk.next()? {
        match (field, protocol) {
            (1, Protocol::V1) => series.labels.push(read_label(value.bytes()?)?),
            (1, Protocol::V2) => match value {
                Value::Bytes(packed) => {
                    let mut rest = Walk(packed);
                    while !rest.0.is_empty() {
                        reference(rest.varint()?, &mut series.labels)?;
                    }
                }
                Value::Varint(one) => reference(one, &mut series.labels)?,
                _ => return Err(WireError::Malformed),
            },
            (2, _) => series.samples.push(read_sample(value.bytes()?)?),
            (4, Protocol::V1) | (3, Protocol::V2) => {
                series.histograms.push(read_histogram_timestamp(value.bytes()?)?);
            }
            _ => {}
        }
    }
    if pending.is_some() { Err(WireError::OddReferences) } else { Ok(()) }
}

fn read_label(bytes: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut label_value): (&[u8], &[u8]) = (&[], &[]);
    let mut walk = Walk(bytes);
    while let Some((field, value)) = walk.next()? {
        match field {
            1 => name = value.bytes()?,
            2 => label_value = value.bytes()?,
            _ => {}
        }
    }
    Ok((name, label_value))
}

fn read_sample(bytes: &[u8]) -> Result<(i64, u64), WireError> {
    let (mut timestamp, mut bits) = (0, 0);
    let mut walk = Walk(bytes);
    while let Some((field, value)) = walk.next()? {
        match (field, value) {
            (1, Value::Fixed64(fixed)) => bits = fixed,
            (2, Value::Varint(varint)) => timestamp = varint as i64,
            _ => {}
        }
    }
    Ok((timestamp, bits))
}

fn read_histogram_timestamp(bytes: &[u8]) -> Result<i64, WireError> {
    let mut timestamp = 0;
    let mut walk = Walk(bytes);
    while let Some((field, value)) = walk.next()? {
        if let (15, Value::Varint(varint)) = (field, value) {
            timestamp = varint as i64;
        }
    }
    Ok(timestamp)
}

/// The rest of a message whose fields are being read.
struct Walk<'a>(&'a [u8]);

enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], WireError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(WireError::Malformed) }
    }
}

impl<'a> Walk<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let bytes = self.take(0..8)?;
                Value::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| WireError::Truncated)?))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(0..length)?)
            }
            5 => {
                self.take(0..4)?;
                Value::Fixed32
            }
            _ => return Err(WireError::Malformed),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0;
        for (position, byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                self.0 = &self.0[position + 1..];
                return Ok(number);
            }
        }
        Err(if self.0.len() < 10 { WireError::Truncated } else { WireError::Malformed })
    }

    fn take(&mut self, range: Range<usize>) -> Result<&'a [u8], WireError> {
        let bytes = self.0.get(range.clone()).ok_or(WireError::Truncated)?;
        self.0 = &self.0[range.end..];
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{
        ExemplarV2, Histogram, Label, MetadataV2, MetricMetadata, RequestV2, Sample, TimeSeries,
        TimeSeriesV2, WriteRequest,
    };
    use prost::Message;

    fn sample(value: f64, timestamp: i64) -> Sample {
        Sample { value, timestamp, start_timestamp: 0 }
    }

    fn v1() -> Vec<u8> {
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        WriteRequest {
            timeseries: vec![
                TimeSeries {
                    labels: vec![label("__name__", "a"), label("instance", "x:1")],
                    samples: vec![sample(1.5, 1000), sample(f64::from_bits(0x7ff0_0000_0000_0002), 2000)],
                    ..TimeSeries::default()
                },
                TimeSeries {
                    labels: vec![label("__name__", "h")],
                    histograms: vec![Histogram { timestamp: 77, ..Histogram::default() }],
                    ..TimeSeries::default()
                },
            ],
            metadata: vec![MetricMetadata { metric_family_name: "a".into(), ..MetricMetadata::default() }],
        }
        .encode_to_vec()
    }

    fn v2() -> Vec<u8> {
        RequestV2 {
            symbols: ["", "__name__", "a", "instance", "x:1"].map(String::from).to_vec(),
            timeseries: vec![TimeSeriesV2 {
                labels_refs: vec![1, 2, 3, 4],
                samples: vec![sample(1.5, -5)],
                exemplars: vec![ExemplarV2::default()],
                metadata: Some(MetadataV2 { r#type: 1, ..MetadataV2::default() }),
                ..TimeSeriesV2::default()
            }],
        }
        .encode_to_vec()
    }

    #[test]
    fn a_request_of_version_1_is_read_as_prost_wrote_it() {
        let bytes = v1();
        let mut seen = Vec::new();
        let totals = each_series(&bytes, Protocol::V1, |series| {
            seen.push((series.labels.len(), series.samples.clone(), series.histograms.clone()));
        })
        .unwrap();
        let marker = 0x7ff0_0000_0000_0002;
        assert_eq!(
            seen,
            [(2, vec![(1000, 1.5f64.to_bits()), (2000, marker)], vec![]), (1, vec![], vec![77])]
        );
        assert_eq!(totals, Totals { series: 2, samples: 2, histograms: 1, exemplars: 0, metadata: 1 });
        assert_eq!(count(&bytes, Protocol::V1), Ok(totals));
    }

    #[test]
    fn a_request_of_version_2_is_read_through_its_symbols() {
        let bytes = v2();
        let mut seen = Vec::new();
        let totals = each_series(&bytes, Protocol::V2, |series| {
            seen.push((series.labels.clone(), series.samples.clone()));
        })
        .unwrap();
        let labels: Vec<(&[u8], &[u8])> = vec![(b"__name__", b"a"), (b"instance", b"x:1")];
        assert_eq!(seen, [(labels, vec![(-5, 1.5f64.to_bits())])]);
        assert_eq!(totals, Totals { series: 1, samples: 1, histograms: 0, exemplars: 1, metadata: 1 });
        assert_eq!(count(&bytes, Protocol::V2), Ok(totals));
    }

    #[test]
    fn references_without_a_symbol_are_refused() {
        let request = |labels_refs| {
            let timeseries = vec![TimeSeriesV2 { labels_refs, ..TimeSeriesV2::default() }];
            RequestV2 { symbols: vec![String::new()], timeseries }.encode_to_vec()
        };
        assert_eq!(each_series(&request(vec![0, 9]), Protocol::V2, |_| ()), Err(WireError::NoSuchSymbol(9)));
        assert_eq!(each_series(&request(vec![0]), Protocol::V2, |_| ()), Err(WireError::OddReferences));
    }

    #[test]
    fn a_request_cut_anywhere_is_refused_or_shorter_and_never_panics() {
        for (bytes, protocol) in [(v1(), Protocol::V1), (v2(), Protocol::V2)] {
            let whole = count(&bytes, protocol).unwrap();
            for end in 0..bytes.len() {
                match each_series(&bytes[..end], protocol, |_| ()) {
                    Ok(totals) => assert!(totals.series <= whole.series && totals != whole),
                    Err(error) => assert!(error != WireError::OddReferences),
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_prost_writes_is_read_back(
            series in proptest::collection::vec(
                (
                    proptest::collection::vec((".{0,9}", ".{0,9}"), 0..4),
                    proptest::collection::vec(proptest::prelude::any::<(i64, u64)>(), 0..4),
                ),
                0..5,
            ),
        ) {
            let timeseries = series.iter().map(|(labels, samples)| TimeSeries {
                labels: labels.iter().map(|(name, value)| Label { name: name.clone(), value: value.clone() }).collect(),
                samples: samples.iter().map(|(timestamp, bits)| sample(f64::from_bits(*bits), *timestamp)).collect(),
                ..TimeSeries::default()
            });
            let bytes = WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() }.encode_to_vec();
            let mut read = Vec::new();
            each_series(&bytes, Protocol::V1, |series| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let labels: Vec<_> = series.labels.iter().map(|(name, value)| (text(name), text(value))).collect();
                read.push((labels, series.samples.clone()));
            })
            .unwrap();
            proptest::prop_assert_eq!(read, series);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            for protocol in [Protocol::V1, Protocol::V2] {
                let counted = count(&bytes, protocol);
                if let Ok(totals) = each_series(&bytes, protocol, |_| ()) {
                    proptest::prop_assert_eq!(counted, Ok(totals));
                }
            }
        }
    }
}
