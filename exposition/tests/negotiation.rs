//! Content negotiation as Prometheus 3.16 does it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::{
    ContentTypeError, Format, Negotiated, ScrapeProtocol, accept_header, format_for, negotiate,
    negotiate_among, protocol_for,
};
use promferry_model::{EscapingScheme, unescape_name};
use proptest::prelude::*;

#[test]
fn accept_headers_are_prometheus_own() {
    assert_eq!(
        accept_header(&ScrapeProtocol::DEFAULT, EscapingScheme::AllowUtf8),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
         application/openmetrics-text;version=0.0.1;q=0.6,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    );
    assert_eq!(
        accept_header(&ScrapeProtocol::DEFAULT_PROTOBUF_FIRST, EscapingScheme::Underscores),
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,\
         application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=underscores;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
}

#[test]
fn content_types() {
    let protobuf =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    for (content_type, format) in [
        ("text/plain", Some(Format::Text)),
        ("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
        ("Text/Plain;", Some(Format::Text)),
        (" text/plain ; version=\"0.0.4\" ; ", Some(Format::Text)),
        ("text/plain; version=0.0.4; version=0.0.4", Some(Format::Text)),
        ("text/plain; version=0.0.4; version=1.0.0", None),
        ("text/plain; version", None),
        ("text/plain; =1", None),
        ("text/plain; a=\"b", None),
        ("text/plain; a=b c", None),
        ("application/openmetrics-text", Some(Format::OpenMetrics)),
        ("application/openmetrics-text; version=0.0.1; charset=utf-8", Some(Format::OpenMetrics)),
        ("application/openmetrics-text; version=2.0.0", None),
        (protobuf, Some(Format::Protobuf)),
        ("application/vnd.google.protobuf", Some(Format::Protobuf)),
        ("text/html", None),
        ("text", None),
        ("text/", None),
        ("/plain", None),
        ("text/plain/x", None),
        ("", None),
        (";", None),
    ] {
        assert_eq!(format_for(Some(content_type), None).ok(), format, "{content_type:?}");
        let with_fallback = format_for(Some(content_type), Some(ScrapeProtocol::PrometheusProto));
        assert_eq!(with_fallback, Ok(format.unwrap_or(Format::Protobuf)), "{content_type:?}");
    }
    assert_eq!(format_for(None, None), Err(ContentTypeError::Missing));
    assert_eq!(
        format_for(Some("text/html"), None).unwrap_err().to_string(),
        "target sent unsupported Content-Type \"text/html\", and no fallback_scrape_protocol is set for it"
    );
}

#[test]
fn protocols_by_name() {
    for protocol in ScrapeProtocol::ALL {
        assert_eq!(protocol.as_str().parse(), Ok(protocol));
    }
    assert!("prometheustext0.0.4".parse::<ScrapeProtocol>().is_err());
}

const TEXT_0: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=";
const TEXT_1: &str = "text/plain; version=1.0.0; charset=utf-8; escaping=";
const OPENMETRICS_0: &str = "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=";
const OPENMETRICS_1: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=";
const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=";

#[test]
fn answers_what_prometheus_asks_for() {
    let ask = |protocols: &[ScrapeProtocol], escaping| {
        negotiate(&accept_header(protocols, escaping), EscapingScheme::Underscores).to_string()
    };
    for escaping in EscapingScheme::ALL {
        assert_eq!(ask(&ScrapeProtocol::DEFAULT, escaping), format!("{OPENMETRICS_1}{escaping}"));
        // Said by the clauses after the one that matches, it comes too late.
        assert_eq!(ask(&ScrapeProtocol::DEFAULT_PROTOBUF_FIRST, escaping), format!("{PROTOBUF}underscores"));
        assert_eq!(ask(&[ScrapeProtocol::PrometheusText1_0_0], escaping), format!("{TEXT_1}{escaping}"));
        assert_eq!(ask(&[ScrapeProtocol::PrometheusText0_0_4], escaping), format!("{TEXT_0}underscores"));
    }
}

/// What NegotiateAccept of prometheus/common 0.72.1 says, offered the same; where it writes allow-utf-8 under a
/// version that cannot quote names, underscores here.
#[test]
fn accept_clauses() {
    for (accept, protocol, escaping) in [
        ("", TEXT_0, "underscores"),
        ("*/*", TEXT_0, "underscores"),
        ("*", TEXT_0, "underscores"),
        ("*/*;version=0.0.4", TEXT_0, "underscores"),
        ("*/*;version=1.0.0", OPENMETRICS_1, "underscores"),
        ("text/*;version=1.0.0", TEXT_1, "underscores"),
        ("text/html,*/*;q=0.1", TEXT_0, "underscores"),
        ("text/html;escaping=dots", TEXT_0, "dots"),
        ("text/plain", TEXT_0, "underscores"),
        ("text/plain;version=0.0.4;escaping=values", TEXT_0, "values"),
        ("text/plain;version=0.0.4;escaping=allow-utf-8", TEXT_0, "underscores"),
        ("text/plain;version=1.0.0", TEXT_1, "underscores"),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", TEXT_1, "allow-utf-8"),
        ("text/plain;version=1.0.0;escaping=all", TEXT_1, "underscores"),
        ("text/plain;version=2.0.0", TEXT_0, "underscores"),
        ("application/openmetrics-text", OPENMETRICS_0, "underscores"),
        ("application/openmetrics-text;version=0.0.1;escaping=allow-utf-8", OPENMETRICS_0, "underscores"),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS_1, "underscores"),
        ("application/openmetrics-text; version=2.0.0", TEXT_0, "underscores"),
        ("application/openmetrics-text; version=\"1.0.0\"", TEXT_0, "underscores"),
        ("Application/OpenMetrics-Text", TEXT_0, "underscores"),
        ("application/vnd.google.protobuf", TEXT_0, "underscores"),
        (
            "application/vnd.google.protobuf;encoding=delimited;proto=io.prometheus.client.MetricFamily;x=y",
            PROTOBUF,
            "underscores",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            TEXT_0,
            "underscores",
        ),
        ("*/*;proto=io.prometheus.client.MetricFamily;encoding=delimited", PROTOBUF, "underscores"),
        // Weights: what weighs nothing is asked for all the same, what is no number weighs nothing.
        (
            "text/plain;version=1.0.0;q=0.5,application/openmetrics-text;version=1.0.0",
            OPENMETRICS_1,
            "underscores",
        ),
        (
            "text/plain;version=1.0.0;q=0,application/openmetrics-text;version=1.0.0;q=x",
            TEXT_1,
            "underscores",
        ),
        ("text/plain;version=1.0.0;q=0", TEXT_1, "underscores"),
        (
            "text/plain;version=1.0.0;q= 1,application/openmetrics-text;version=1.0.0;q=0.1",
            OPENMETRICS_1,
            "underscores",
        ),
        ("text/plain;version=1.0.0,application/openmetrics-text;version=1.0.0", TEXT_1, "underscores"),
        ("text/plain;version=1.0.0;q=0.1,*/*;version=1.0.0;q=0.9", OPENMETRICS_1, "underscores"),
        ("*/*;version=1.0.0;q=0.9,text/plain;version=1.0.0;q=0.1", TEXT_1, "underscores"),
        // The escaping of the clauses before counts too, the last one most.
        (
            "text/html;escaping=dots,text/plain;version=1.0.0;q=0.5,text/css;escaping=values;q=0.1",
            TEXT_1,
            "dots",
        ),
        ("text/plain;version=1.0.0;escaping=dots;escaping=values", TEXT_1, "values"),
        ("text/plain;version=1.0.0;escaping=a=b", TEXT_1, "underscores"),
        ("text/plain;version=1.0.0 ; escaping = dots ", TEXT_1, "dots"),
        ("text/plain/x;version=1.0.0;escaping=dots", TEXT_0, "underscores"),
        (",,;,/,text,=", TEXT_0, "underscores"),
    ] {
        let answer = negotiate(accept, EscapingScheme::Underscores);
        assert_eq!(answer.to_string(), format!("{protocol}{escaping}"), "{accept:?}");
    }
    let utf8 = |accept| negotiate(accept, EscapingScheme::AllowUtf8).to_string();
    assert_eq!(utf8("text/plain;version=1.0.0"), format!("{TEXT_1}allow-utf-8"));
    assert_eq!(utf8("text/plain"), format!("{TEXT_0}underscores"));
}

#[test]
fn offers_of_ones_own() {
    use ScrapeProtocol::{OpenMetricsText1_0_0, PrometheusProto, PrometheusText0_0_4, PrometheusText1_0_0};
    let accept = accept_header(&ScrapeProtocol::DEFAULT, EscapingScheme::Values);
    for (offers, protocol) in [
        (&[PrometheusText0_0_4, PrometheusText1_0_0][..], PrometheusText1_0_0),
        (&[PrometheusText0_0_4, OpenMetricsText1_0_0], OpenMetricsText1_0_0),
        (&[PrometheusProto, PrometheusText0_0_4], PrometheusText0_0_4),
        (&[PrometheusProto], PrometheusProto),
        (&[], PrometheusText0_0_4),
    ] {
        let answer = negotiate_among(offers, &accept, EscapingScheme::Underscores);
        assert_eq!(answer, Negotiated::new(protocol, EscapingScheme::Values), "{offers:?}");
    }
}

#[test]
fn what_a_target_answers_is_read_so() {
    for (content_type, answer) in [
        ("text/plain", format!("{TEXT_0}underscores")),
        ("text/plain; version=0.0.4; escaping=dots", format!("{TEXT_0}dots")),
        ("text/plain; version=1.0.0; charset=utf-8; escaping=\"values\"", format!("{TEXT_1}values")),
        ("text/plain; version=7", format!("{TEXT_1}allow-utf-8")),
        ("application/openmetrics-text", format!("{OPENMETRICS_0}underscores")),
        ("application/openmetrics-text; version=1.0.0; escaping=none", format!("{OPENMETRICS_1}allow-utf-8")),
        ("application/vnd.google.protobuf; escaping=values", format!("{PROTOBUF}values")),
    ] {
        assert_eq!(protocol_for(Some(content_type), None).unwrap().to_string(), answer, "{content_type:?}");
    }
    let fallback = protocol_for(Some("text/html; escaping=dots"), Some(ScrapeProtocol::PrometheusText1_0_0));
    assert_eq!(fallback.unwrap().to_string(), format!("{TEXT_1}allow-utf-8"));
    assert_eq!(
        protocol_for(Some("text/html"), None),
        Err(ContentTypeError::Unsupported { content_type: "text/html".to_owned() })
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is agreed upon is what the other side understands by the answer.
    #[test]
    fn both_sides_agree(
        protocol in prop::sample::select(&ScrapeProtocol::ALL[..]),
        escaping in prop::sample::select(&EscapingScheme::ALL[..]),
        name in any::<String>(),
    ) {
        let answer = Negotiated::new(protocol, escaping);
        let read = protocol_for(Some(&answer.to_string()), None).unwrap();
        prop_assert_eq!(read, answer);
        prop_assert_eq!(format_for(Some(&answer.to_string()), None), Ok(answer.format()));
        if escaping == EscapingScheme::Values && !name.starts_with("U__") {
            let escaped = promferry_model::escape_name(&name, answer.escaping());
            prop_assert_eq!(unescape_name(&escaped, read.escaping()), name.as_str());
        }
    }

    /// No header makes it panic, and what it answers was offered.
    #[test]
    fn any_accept(accept in "([a-z*]{0,3}/?[a-z*]{0,3}|text/plain|\\*/\\*)([;,=q. ]|version=1.0.0|[0-9]){0,30}", escaping in "\\PC{0,9}") {
        let answer = negotiate(&format!("{accept};escaping={escaping}"), EscapingScheme::Dots);
        prop_assert!(ScrapeProtocol::OFFERED.contains(&answer.protocol()));
    }
}

#[test]
fn hostile_headers_take_no_time() {
    let accept = "a/b;q=0.1,*/*;q=0.9,".repeat(50_000);
    assert_eq!(negotiate(&accept, EscapingScheme::Dots).format(), Format::Text);
    let content_type: String = (0..50_000).map(|n| format!(";p{n}=1")).collect();
    assert_eq!(format_for(Some(&format!("text/plain{content_type}")), None), Ok(Format::Text));
}
