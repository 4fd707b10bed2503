//! Content negotiation as Prometheus 3.16 does it.

use promferry_exposition::{
    ContentTypeError, Format, ScrapeProtocol, accept_header, accepted_format, format_for,
};
use promferry_model::EscapingScheme;

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

#[test]
fn answers_what_prometheus_asks_for() {
    let ask =
        |protocols: &[ScrapeProtocol]| accepted_format(&accept_header(protocols, EscapingScheme::AllowUtf8));
    assert_eq!(ask(&ScrapeProtocol::DEFAULT), Format::OpenMetrics);
    assert_eq!(ask(&ScrapeProtocol::DEFAULT_PROTOBUF_FIRST), Format::Protobuf);
    assert_eq!(ask(&[ScrapeProtocol::PrometheusText0_0_4]), Format::Text);
    for (accept, format) in [("", Format::Text), ("*/*", Format::Text), ("text/html,*/*;q=0.1", Format::Text)]
    {
        assert_eq!(accepted_format(accept), format, "{accept:?}");
    }
}
