use http::{HeaderMap, StatusCode};
use promferry_remote_write::Protocol;
use promferry_remote_write::refusal::{MAX_OFFENDERS, Naming, Rest, SeriesText, classify};

use crate::input::take_byte;

/// An answer's body. The first byte says of which status.
pub fn refusal(data: &[u8]) {
    const STATUSES: [u16; 6] = [400, 429, 409, 413, 415, 404];
    let mut body = data;
    let status = STATUSES[usize::from(take_byte(&mut body)) % STATUSES.len()];
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let refusal = classify(status, &HeaderMap::new(), body, Protocol::V1);
    match refusal.class {
        Some(class) => {
            assert!(class.statuses.contains(&status.as_u16()));
            assert_eq!(refusal.rest, class.rest);
            let most = match class.names {
                Naming::None => 0,
                Naming::First => 1,
                _ => MAX_OFFENDERS,
            };
            assert!(refusal.offenders.len() <= most, "more is named than the class names");
        }
        None => {
            // What nobody knows is about nothing in particular.
            assert!(refusal.offenders.is_empty() && refusal.refused.is_none());
            assert_eq!((refusal.rest, refusal.reason.as_str()), (Rest::Unknown, "refused"));
        }
    }
    for offender in &refusal.offenders {
        judge_series(&offender.series);
    }
    assert_eq!(classify(status, &HeaderMap::new(), body, Protocol::V1), refusal);
    let text = String::from_utf8_lossy(body);
    for series in [SeriesText::read(&text), SeriesText::read_metric(&text)].into_iter().flatten() {
        judge_series(&series);
    }
}

/// A series that is shown as a whole is the series with these labels.
fn judge_series(series: &SeriesText) {
    let labels: Vec<_> = series.labels().collect();
    assert!(labels.is_sorted(), "labels are sorted by name");
    assert_eq!(series.is_whole(), series.fingerprint().is_some());
    if series.is_whole() {
        assert!(series.is_of(&labels));
    }
}
