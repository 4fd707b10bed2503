use promferry_model::EscapingScheme;

use super::{Negotiated, ScrapeProtocol};
use crate::go_float;

/// Up to this many clauses Go's `sort.Sort` sorts by insertion.
const SORTED_BY_INSERTION: usize = 12;

/// What to answer a scraper with that sent this `Accept` (empty if it sent none), out of
/// [`ScrapeProtocol::OFFERED`]. `default_escaping` is for those who do not say how names are to be escaped;
/// Prometheus' own client libraries take [`EscapingScheme::Underscores`].
///
/// The rules are those of prometheus/common 0.72 (`expfmt.NegotiateAccept`), which Go programs answer by:
///
/// - Clauses are tried in the order of their weights; a weight of nothing is one like others.
/// - A clause must name the version, OpenMetrics 0.0.1 and text 0.0.4 excepted; so `*/*` alone matches
///   nothing, and whatever nothing matches is answered in text 0.0.4.
/// - The `escaping` of the last clause tried holds, also if that clause did not match.
///
/// ```
/// use promferry_exposition::{Format, negotiate};
/// use promferry_model::EscapingScheme;
/// let answer = negotiate(
///     "text/plain;q=0.3,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6",
///     EscapingScheme::Underscores,
/// );
/// assert_eq!(answer.format(), Format::OpenMetrics);
/// assert_eq!(
///     answer.to_string(),
///     "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
/// );
/// ```
pub fn negotiate(accept: &str, default_escaping: EscapingScheme) -> Negotiated {
    negotiate_among(&ScrapeProtocol::OFFERED, accept, default_escaping)
}

/// As [`negotiate`], with the protocols of one's own choice: where a clause matches several, the first of them is
/// answered with; where none matches, text 0.0.4 if it is offered, else the first offer.
///
/// ```
/// use promferry_exposition::{ScrapeProtocol, negotiate_among};
/// use promferry_model::EscapingScheme;
/// let answer = negotiate_among(&[ScrapeProtocol::PrometheusProto], "text/html", EscapingScheme::Underscores);
/// assert_eq!(answer.protocol(), ScrapeProtocol::PrometheusProto);
/// ```
pub fn negotiate_among(
    offers: &[ScrapeProtocol],
    accept: &str,
    default_escaping: EscapingScheme,
) -> Negotiated {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    sort(&mut clauses);
    let offered: Vec<(ScrapeProtocol, Clause<'static>)> =
        offers.iter().filter_map(|offer| Some((*offer, Clause::parse(offer.media_type())?))).collect();
    let mut escaping = default_escaping;
    for clause in &clauses {
        if let Ok(wanted) = clause.escaping.parse() {
            escaping = wanted;
        }
        if let Some((protocol, _)) = offered.iter().find(|(_, offer)| clause.matches(offer)) {
            return Negotiated::new(*protocol, escaping);
        }
    }
    let text = ScrapeProtocol::PrometheusText0_0_4;
    let unasked = if offers.contains(&text) { text } else { offers.first().copied().unwrap_or(text) };
    Negotiated::new(unasked, escaping)
}

/// One clause of an `Accept`, as far as it matters here: what it does not name is empty.
#[derive(Clone, Copy, Debug)]
struct Clause<'a> {
    main: &'a str,
    sub: &'a str,
    weight: f64,
    version: &'a str,
    proto: &'a str,
    encoding: &'a str,
    escaping: &'a str,
}

impl<'a> Clause<'a> {
    /// Reads as the Go package goautoneg does: blanks are trimmed, but not before a weight; letter case
    /// counts; quotes are taken for letters. What it cannot read is passed over.
    fn parse(text: &'a str) -> Option<Self> {
        let (media_type, parameters) = split(text.trim_matches(' '), ';');
        let (main, sub) = split(media_type, '/');
        let main = main.trim_matches(' ');
        let sub = match split(sub, '/') {
            ("", "") if main == "*" => "*",
            ("", _) => return None,
            (sub, "") => sub.trim_matches(' '),
            _ => return None,
        };
        let mut clause =
            Clause { main, sub, weight: 1.0, version: "", proto: "", encoding: "", escaping: "" };
        for parameter in parameters.split(';') {
            let (name, value) = split(parameter, '=');
            let (value, more) = split(value, '=');
            if value.is_empty() || !more.is_empty() {
                continue;
            }
            let trimmed = value.trim_matches(' ');
            match name.trim_matches(' ') {
                "q" => clause.weight = weight(value),
                "version" => clause.version = trimmed,
                "proto" => clause.proto = trimmed,
                "encoding" => clause.encoding = trimmed,
                "escaping" => clause.escaping = trimmed,
                _ => {}
            }
        }
        Some(clause)
    }

    fn matches(&self, offer: &Clause<'_>) -> bool {
        let version = match (self.version, self.main, self.sub) {
            ("", "application", "openmetrics-text") => "0.0.1",
            ("", "text", "plain") => "0.0.4",
            (version, ..) => version,
        };
        let agrees = |wanted: &str, offered: &str| offered.is_empty() || wanted == offered;
        (self.main == "*" || self.main == offer.main)
            && (self.sub == "*" || self.sub == offer.sub)
            && agrees(version, offer.version)
            && agrees(self.proto, offer.proto)
            && agrees(self.encoding, offer.encoding)
    }

    /// goautoneg's order, which is none: of a light clause without wildcards and a heavy one with some each
    /// goes before the other.
    fn goes_before(&self, other: &Self) -> bool {
        self.weight > other.weight
            || (self.main != "*" && other.main == "*")
            || (self.sub != "*" && other.sub == "*")
    }
}

/// The text before and after the first `separator`.
fn split(text: &str, separator: char) -> (&str, &str) {
    text.split_once(separator).unwrap_or((text, ""))
}

/// What cannot be read weighs nothing.
fn weight(text: &str) -> f64 {
    match go_float::parse(text.as_bytes()) {
        Ok(weight) => f64::from(weight as f32),
        Err(go_float::NumberError::Range) if text.starts_with('-') => f64::NEG_INFINITY,
        Err(go_float::NumberError::Range) => f64::INFINITY,
        Err(_) => 0.0,
    }
}

/// Sorts as Go does, which matters because the order is none. Headers of more clauses than any scraper sends
/// are sorted by weight, wildcards last among equals.
fn sort(clauses: &mut [Clause<'_>]) {
    if clauses.len() > SORTED_BY_INSERTION {
        let wildcards = |clause: &Clause<'_>| (clause.main == "*", clause.sub == "*");
        clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| wildcards(a).cmp(&wildcards(b))));
        return;
    }
    for end in 1..clauses.len() {
        let mut at = end;
        while at > 0 && clauses[at].goes_before(&clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
}
