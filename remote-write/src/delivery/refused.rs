use std::collections::HashMap;

use super::request::{Part, halves};
use crate::Counts;
use crate::encode::{self, LeftOut};
use crate::refusal::{self, Meaning, Offender, Refusal, RefusalClass, Rest};
use crate::spool::Reason;

/// What becomes of a refused request: its parts' values are each delivered, dropped, or sent again.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// What was written, and whose settlement it belongs to.
    pub(super) delivered: Vec<(usize, Counts)>,
    /// What was refused, and whose settlement it belongs to.
    pub(super) dropped: Vec<(usize, Reason, Counts)>,
    /// Requests to be made of the rest, in order.
    pub(super) again: Vec<Vec<Part>>,
    /// The series that are known to be at fault.
    pub(super) found: Vec<Found>,
}

/// A series that was refused.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// [`refusal::fingerprint`] of its labels as sent.
    pub(super) fingerprint: u64,
    /// As Prometheus prints it.
    pub(super) series: String,
    pub(super) class: &'static RefusalClass,
}

/// All of `group` was taken, but for what the message could not carry and what a 2.0 endpoint says that it did
/// not write.
pub(super) fn delivered(group: &[Part], left_out: &[LeftOut], written: Option<Counts>) -> Judged {
    let dropped = written.map_or_else(Counts::default, |written| carried(group, left_out) - written);
    settle(group, left_out, Targets::default(), dropped, &not_written())
}

/// All of `group` is given up.
pub(super) fn dropped(group: &[Part], reason: &Reason) -> Judged {
    let dropped = group.iter().map(|part| (part.of, reason.clone(), part.fragment.counts));
    Judged { dropped: dropped.collect(), ..Judged::default() }
}

/// Judges `group` by what the endpoint said. `may_spend` says whether so many requests may be spent on finding
/// out what a text does not name, or on the rest of a request that was given up for one sample.
pub(super) fn judge(
    group: Vec<Part>,
    left_out: &[LeftOut],
    refusal: &Refusal,
    may_spend: &mut dyn FnMut(u32) -> bool,
) -> Judged {
    let carried = carried(&group, left_out);
    let targets = Targets::find(&group, &refusal.offenders);
    let refused = |dropped, targets| settle(&group, left_out, targets, dropped, &refusal.reason);
    let Some(class) = refusal.class else {
        return refused(carried - refusal.written.unwrap_or_default(), targets);
    };
    match (refusal.written, refusal.rest) {
        // A 2.0 endpoint that wrote nothing may have given the request up, if that is what its kind does.
        (Some(written), rest) if !written.is_zero() || rest != Rest::NotWritten => {
            return refused(carried - written, targets);
        }
        (_, Rest::Written) => {
            let dropped = refused_of(&group, &targets, class, refusal.refused, carried);
            return refused(dropped, targets);
        }
        (_, Rest::Unknown) => return refused(carried, targets),
        (_, Rest::NotWritten) => {}
    }
    if class.meaning != Meaning::Samples {
        return refused(carried, targets);
    }
    if !targets.series.is_empty() && may_spend(1) {
        return without_named(group, targets, &refusal.reason);
    }
    if group.iter().map(|part| part.fragment.counts.values()).sum::<u64>() <= 1 {
        return the_last_one(&group, class, &refusal.reason);
    }
    if !may_spend(2) {
        return refused(carried, targets);
    }
    match halves(group) {
        Ok((first, second)) => Judged { again: vec![first, second], ..Judged::default() },
        // Several values of one series in one fragment can't be told apart further.
        Err(part) => the_last_one(&[part], class, &refusal.reason),
    }
}

/// Of a request whose rest was written: what the text is about, one value at least.
fn refused_of(
    group: &[Part],
    targets: &Targets,
    class: &RefusalClass,
    told: Option<u64>,
    carried: Counts,
) -> Counts {
    let named = targets.series.iter().fold(Counts::default(), |sum, target| sum + target.counts);
    if class.meaning == Meaning::Metadata {
        return Counts::default();
    }
    if class.meaning == Meaning::Exemplars {
        let exemplars = named.exemplars.max(1).min(carried.exemplars);
        return Counts { exemplars, ..Counts::default() };
    }
    if let Some(values) = told {
        let samples = values.min(carried.samples);
        return Counts { samples, histograms: (values - samples).min(carried.histograms), exemplars: 0 };
    }
    if !named.is_zero() {
        return named;
    }
    // Which one it was is not known; that it was one is.
    let one = group.iter().map(|part| part.fragment.counts).find(|counts| counts.values() > 0);
    let samples = u64::from(one.is_some_and(|counts| counts.samples > 0));
    Counts { samples, histograms: u64::from(one.is_some()) - samples, exemplars: 0 }
}

/// Settles all of `group`: `dropped` of it, the named series first, and the rest was written.
fn settle(
    group: &[Part],
    left_out: &[LeftOut],
    targets: Targets,
    mut dropped: Counts,
    reason: &Reason,
) -> Judged {
    let mut judged = Judged::default();
    let mut left = Vec::with_capacity(group.len());
    for (part, left_out) in group.iter().zip(left_out) {
        left.push(part.fragment.counts - left_out.total());
        for (reason, counts) in [
            (Reason::NHCB_IN_RW1, left_out.custom_buckets),
            (Reason::NATIVE_HISTOGRAMS_OFF, left_out.native_histograms),
        ] {
            if !counts.is_zero() {
                judged.dropped.push((part.of, reason, counts));
            }
        }
    }
    for target in targets.series {
        let counts = take(&mut dropped, min(target.counts, left[target.part]));
        left[target.part] = left[target.part] - counts;
        if !counts.is_zero() {
            judged.dropped.push((group[target.part].of, target.class.reason.clone(), counts));
        }
        judged.found.extend(target.found);
    }
    for (part, left) in group.iter().zip(left) {
        let counts = take(&mut dropped, left);
        if !counts.is_zero() {
            judged.dropped.push((part.of, reason.clone(), counts));
        }
        judged.delivered.push((part.of, left - counts));
    }
    judged
}

/// The request again, without the series that are named.
fn without_named(group: Vec<Part>, targets: Targets, reason: &Reason) -> Judged {
    let mut judged = Judged::default();
    let mut kept = Vec::with_capacity(group.len());
    for (at, part) in group.into_iter().enumerate() {
        let of_part: Vec<&Target> = targets.series.iter().filter(|target| target.part == at).collect();
        if of_part.is_empty() {
            kept.push(part);
            continue;
        }
        let mut number = 0;
        let removed = encode::without(&part.fragment, |_| {
            number += 1;
            of_part.iter().any(|target| target.number == number - 1)
        });
        match removed {
            Ok((rest, mut out)) => {
                for target in &of_part {
                    let counts = take(&mut out, target.counts);
                    judged.dropped.push((part.of, target.class.reason.clone(), counts));
                }
                kept.extend(rest.map(|fragment| Part { of: part.of, fragment }));
            }
            Err(_) => judged.dropped.push((part.of, reason.clone(), part.fragment.counts)),
        }
    }
    judged.found = targets.series.into_iter().filter_map(|target| target.found).collect();
    if !kept.is_empty() {
        judged.again.push(kept);
    }
    judged
}

/// A single value was refused: nobody has to name it.
fn the_last_one(group: &[Part], class: &'static RefusalClass, reason: &Reason) -> Judged {
    let mut judged = dropped(group, reason);
    for part in group {
        // What can't be read has no name either.
        let _ = encode::for_each_series(&part.fragment, |series| {
            judged.found.push(Found {
                fingerprint: refusal::fingerprint(series.labels),
                series: refusal::display(series.labels),
                class,
            });
        });
    }
    judged
}

/// The series of a request that an answer names.
#[derive(Debug, Default)]
struct Targets {
    series: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    part: usize,
    /// Which of its fragment's series.
    number: usize,
    counts: Counts,
    class: &'static RefusalClass,
    /// `None` where the text fits several series of the request.
    found: Option<Found>,
}

/// Beyond this many names a text is only looked for as it is printed, which takes one look-up.
const THOROUGH: usize = 64;

impl Targets {
    fn find(group: &[Part], offenders: &[Offender]) -> Self {
        if offenders.is_empty() {
            return Self::default();
        }
        let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, offender) in offenders.iter().enumerate() {
            if let Some(fingerprint) = offender.series.fingerprint() {
                wanted.entry(fingerprint).or_default().push(at);
            }
        }
        // Of each offender: its first sample in the request, and in how many series it could be.
        let mut places: Vec<Option<(Target, usize)>> = offenders.iter().map(|_| None).collect();
        for (part, Part { fragment, .. }) in group.iter().enumerate() {
            let mut number = 0;
            let _ = encode::for_each_series(fragment, |series| {
                let fingerprint = refusal::fingerprint(series.labels);
                let at_time = |offender: &Offender| {
                    offender
                        .timestamp
                        .is_none_or(|at| (series.min_timestamp..=series.max_timestamp).contains(&at))
                };
                let as_printed = wanted.get(&fingerprint).map_or(&[][..], Vec::as_slice);
                let by_text = (0..offenders.len().min(THOROUGH))
                    .filter(|at| !as_printed.contains(at) && offenders[*at].series.is_of(series.labels));
                let mut sample_taken = false;
                for at in as_printed.iter().copied().chain(by_text).filter(|at| at_time(&offenders[*at])) {
                    match &mut places[at] {
                        Some((target, series_count)) => {
                            let same =
                                target.found.as_ref().is_some_and(|known| known.fingerprint == fingerprint);
                            *series_count += usize::from(!same);
                        }
                        // The same series may be named once for each of its samples.
                        None if sample_taken => {}
                        place @ None => {
                            sample_taken = true;
                            let class = offenders[at].class;
                            let series_text = refusal::display(series.labels);
                            let found = Found { fingerprint, series: series_text, class };
                            let target =
                                Target { part, number, counts: series.counts, class, found: Some(found) };
                            *place = Some((target, 1));
                        }
                    }
                }
                number += 1;
            });
        }
        let series = places.into_iter().flatten().map(|(target, series_count)| Target {
            found: target.found.filter(|_| series_count == 1),
            ..target
        });
        Self { series: series.collect() }
    }
}

/// A 2.0 endpoint took the request and says that it did not write all of it.
fn not_written() -> Reason {
    Reason::new("not_written")
}

/// What the message carried.
fn carried(group: &[Part], left_out: &[LeftOut]) -> Counts {
    let carried = group.iter().zip(left_out).map(|(part, left_out)| part.fragment.counts - left_out.total());
    carried.fold(Counts::default(), |sum, counts| sum + counts)
}

fn take(from: &mut Counts, most: Counts) -> Counts {
    let taken = min(*from, most);
    *from = *from - taken;
    taken
}

fn min(a: Counts, b: Counts) -> Counts {
    Counts {
        samples: a.samples.min(b.samples),
        histograms: a.histograms.min(b.histograms),
        exemplars: a.exemplars.min(b.exemplars),
    }
}
