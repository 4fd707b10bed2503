use promferry_model::Timestamp;

use super::assembler::{Assembler, SymbolMap};
use super::message::{FragmentError, Message, raw_body};
use super::scratch::{MIN_COMPRESSED_BYTES, compress};
use crate::{Compression, Counts, Fragment, Protocol};

/// A time series of a fragment, as [`for_each_series`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct SeriesInFragment<'a> {
    /// Names and values, sorted by name.
    pub labels: &'a [(&'a str, &'a str)],
    /// What it holds.
    pub counts: Counts,
    /// The earliest timestamp.
    pub min_timestamp: Timestamp,
    /// The latest timestamp.
    pub max_timestamp: Timestamp,
}

/// Shows each time series of a fragment, in order: to find one that an endpoint named.
///
/// # Errors
/// [`FragmentError`] when the fragment can't be read.
pub fn for_each_series(
    fragment: &Fragment,
    mut show: impl FnMut(SeriesInFragment<'_>),
) -> Result<(), FragmentError> {
    let raw = raw_body(fragment)?;
    let message = Message::read(fragment.protocol, &raw)?;
    let mut labels = Vec::new();
    for &series in &message.series {
        message.labels(series, &mut labels)?;
        let contents = series.contents()?;
        show(SeriesInFragment {
            labels: &labels,
            counts: contents.counts,
            min_timestamp: contents.min_timestamp,
            max_timestamp: contents.max_timestamp,
        });
    }
    Ok(())
}

/// The two halves of a fragment by time series, in order; `None` when there are fewer than two.
///
/// # Errors
/// [`FragmentError`] when the fragment can't be read.
pub fn split(fragment: &Fragment) -> Result<Option<(Fragment, Fragment)>, FragmentError> {
    let raw = raw_body(fragment)?;
    let message = Message::read(fragment.protocol, &raw)?;
    let middle = message.series.len() / 2;
    let mut parts = partition(fragment, &message, |at, _| at < middle)?;
    Ok(match (parts.0.take(), parts.1.take()) {
        (Some(first), Some(second)) => Some((first, second)),
        _ => None,
    })
}

/// A fragment without the time series whose labels `is_out` names, and the counts of those. `None` when
/// nothing is left.
///
/// # Errors
/// [`FragmentError`] when the fragment can't be read.
pub fn without(
    fragment: &Fragment,
    mut is_out: impl FnMut(&[(&str, &str)]) -> bool,
) -> Result<(Option<Fragment>, Counts), FragmentError> {
    let (kept, out) = divide(fragment, |labels| !is_out(labels))?;
    Ok((kept, out.map(|out| out.counts).unwrap_or_default()))
}

/// A fragment's time series in two fragments: those for whose labels `is_first` says yes, and the others;
/// each in order, `None` where there are none.
///
/// # Errors
/// [`FragmentError`] when the fragment can't be read.
pub fn divide(
    fragment: &Fragment,
    mut is_first: impl FnMut(&[(&str, &str)]) -> bool,
) -> Result<(Option<Fragment>, Option<Fragment>), FragmentError> {
    let raw = raw_body(fragment)?;
    let message = Message::read(fragment.protocol, &raw)?;
    partition(fragment, &message, |_, labels| is_first(labels))
}

/// What a message of 1.0 has no place for, or is not to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Native histograms with custom buckets, and their exemplars: 1.0 can't say where the buckets are.
    pub custom_buckets: Counts,
    /// Native histograms, and their exemplars, where 1.0 is to be sent without them.
    pub native_histograms: Counts,
}

impl LeftOut {
    /// All of it.
    pub fn total(&self) -> Counts {
        self.custom_buckets + self.native_histograms
    }
}

/// The same fragment in the other protocol, and what was left out of it: native histograms with custom buckets
/// towards 1.0, and all native histograms towards 1.0 unless `native_histograms`. `None` when nothing is left.
///
/// What the other protocol has no place for is lost: start timestamps and metadata towards 1.0. Towards 2.0
/// they stay unset.
///
/// # Errors
/// [`FragmentError`] when the fragment can't be read.
pub fn transcode(
    fragment: &Fragment,
    to: Protocol,
    native_histograms: bool,
) -> Result<(Option<Fragment>, LeftOut), FragmentError> {
    if fragment.protocol == to {
        return Ok((Some(fragment.clone()), LeftOut::default()));
    }
    let raw = raw_body(fragment)?;
    let message = Message::read(fragment.protocol, &raw)?;
    let mut assembler = Assembler::new(to);
    let mut map = SymbolMap::default();
    map.reset(&message);
    let mut left_out = LeftOut::default();
    for &series in &message.series {
        let contents = series.contents()?;
        if to == Protocol::V1 && contents.counts.histograms > 0 && !native_histograms {
            left_out.native_histograms += contents.counts;
        } else if to == Protocol::V1 && contents.custom_buckets {
            left_out.custom_buckets += contents.counts;
        } else {
            assembler.add(&message, &mut map, series, &contents)?;
        }
    }
    Ok((fragment_of(&assembler, fragment, to), left_out))
}

fn partition<'a>(
    fragment: &Fragment,
    message: &Message<'a>,
    mut is_first: impl FnMut(usize, &[(&'a str, &'a str)]) -> bool,
) -> Result<(Option<Fragment>, Option<Fragment>), FragmentError> {
    let mut parts = [(); 2].map(|()| (Assembler::new(fragment.protocol), SymbolMap::default()));
    parts.iter_mut().for_each(|(_, map)| map.reset(message));
    let mut labels = Vec::new();
    for (at, &series) in message.series.iter().enumerate() {
        message.labels(series, &mut labels)?;
        let (assembler, map) = &mut parts[usize::from(!is_first(at, &labels))];
        assembler.add(message, map, series, &series.contents()?)?;
    }
    let [first, second] = parts.map(|(assembler, _)| fragment_of(&assembler, fragment, fragment.protocol));
    Ok((first, second))
}

/// The fragment compressed, however small it is: for what is kept longer than it takes to send it.
pub fn compressed(fragment: Fragment) -> Fragment {
    if fragment.compression != Compression::None {
        return fragment;
    }
    let mut buffer = Vec::new();
    match compress(&mut snap::raw::Encoder::new(), &mut buffer, &fragment.body) {
        Ok(body) if body.len() < fragment.body.len() => {
            Fragment { compression: Compression::Snappy, body: body.to_vec().into(), ..fragment }
        }
        _ => fragment,
    }
}

pub(super) fn fragment_of(assembler: &Assembler, source: &Fragment, protocol: Protocol) -> Option<Fragment> {
    if assembler.counts().is_zero() {
        return None;
    }
    let mut message = Vec::with_capacity(assembler.len());
    assembler.write_to(&mut message);
    let raw_len = message.len() as u32;
    let (min_timestamp, max_timestamp) = assembler.timestamps();
    let mut buffer = Vec::new();
    let compressed = if message.len() < MIN_COMPRESSED_BYTES {
        None
    } else {
        compress(&mut snap::raw::Encoder::new(), &mut buffer, &message).ok()
    };
    let (compression, body) = match compressed {
        Some(compressed) => (Compression::Snappy, compressed.to_vec()),
        None => (Compression::None, message),
    };
    Some(Fragment {
        lane: source.lane,
        protocol,
        compression,
        counts: assembler.counts(),
        raw_len,
        min_timestamp,
        max_timestamp,
        body: body.into(),
    })
}
