//! The rows of `data/refusals.json`.

use std::collections::HashSet;

use http::{HeaderMap, HeaderValue, StatusCode};
use promferry_remote_write::refusal::{Meaning, Naming, RefusalClass, Rest, classify};
use promferry_remote_write::{Counts, Protocol};

fn classify_400(body: &str) -> promferry_remote_write::refusal::Refusal {
    classify(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes(), Protocol::V1)
}

#[test]
fn every_row_has_an_example_that_is_of_it_and_of_no_row_before_it() {
    let mut ids = HashSet::new();
    for row in RefusalClass::all() {
        assert!(ids.insert(row.id), "{} stands twice", row.id);
        assert!(!row.statuses.is_empty() && !row.source.is_empty() && !row.by.is_empty(), "{}", row.id);
        for &status in &row.statuses {
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = classify(status, &HeaderMap::new(), row.example.as_bytes(), Protocol::V1);
            let class = refusal.class.unwrap_or_else(|| panic!("{}: its example fits no row", row.id));
            assert_eq!(class.id, row.id, "{status}: a row before it takes its example");
            assert_eq!((refusal.reason, refusal.rest), (row.reason.clone(), row.rest), "{}", row.id);
            let named = refusal.offenders.len();
            match row.names {
                Naming::None => assert_eq!(named, 0, "{}", row.id),
                Naming::First => assert_eq!(named, 1, "{}: its example names a series", row.id),
                _ => assert!(named >= 1, "{}: its example names series", row.id),
            }
        }
        let teapot =
            classify(StatusCode::IM_A_TEAPOT, &HeaderMap::new(), row.example.as_bytes(), Protocol::V1);
        assert_eq!(teapot.class, None, "{}: of another status", row.id);
    }
}

#[test]
fn a_row_that_says_that_nothing_was_written_is_about_samples_or_the_whole_request() {
    for row in RefusalClass::all() {
        let whole = matches!(row.meaning, Meaning::Undecodable | Meaning::TooLarge);
        assert!(!whole || row.rest == Rest::NotWritten, "{}", row.id);
        // Finding what is not named, in a request that was not written, costs requests: only where the source
        // says that the whole request was given up.
        let searched = row.meaning == Meaning::Samples && row.rest == Rest::NotWritten;
        let rolls_back = row.by == "Prometheus" || row.id == "labels-empty";
        assert!(!searched || rolls_back, "{}", row.id);
    }
}

#[test]
fn names_are_read_out_of_texts() {
    let refusal = classify_400(
        r#"maxFailure (quorum) on a given error family, addr=10.0.0.1:9095 state=ACTIVE zone=a, rpc error: code = Code(400) desc = user=1_ws-2: err: out of order sample. timestamp=2025-11-22T12:00:00.5Z, series={__name__="up", instance="a \"b\"", job="node"}"#,
    );
    let offender = &refusal.offenders[0];
    assert!(offender.series.is_of(&[("__name__", "up"), ("instance", "a \"b\""), ("job", "node")]));
    assert_eq!(offender.timestamp.unwrap().as_millis(), 1_763_812_800_500);
    assert_eq!(refusal.class.unwrap().id, "out-of-order");
}

#[test]
fn lines_of_several_classes_name_all_of_theirs() {
    let body = "out of bounds for series {__name__=\"a\"}\nduplicate sample for timestamp 5; overrides not allowed: \
                existing 1, new value 2 for series {__name__=\"b\"}\nout of bounds for series {__name__=\"c\"}";
    let refusal = classify_400(body);
    let mut named: Vec<_> = refusal
        .offenders
        .iter()
        .map(|offender| (offender.series.to_string(), offender.class.reason.as_str().to_owned()))
        .collect();
    named.sort();
    let reason = |reason: &str| reason.to_owned();
    assert_eq!(
        named,
        [
            ("a".to_owned(), reason("sample-out-of-bounds")),
            ("b".to_owned(), reason("new-value-for-timestamp")),
            ("c".to_owned(), reason("sample-out-of-bounds")),
        ]
    );
}

#[test]
fn a_text_wrapped_in_json_is_the_same_text() {
    let body = r#"{"message":"user=u: err: out of order sample. timestamp=2026-11-22T12:00:00Z, series={__name__=\"up\", job=\"node\"}"}"#;
    let refusal = classify_400(body);
    assert!(refusal.offenders[0].series.is_of(&[("__name__", "up"), ("job", "node")]));
}

#[test]
fn what_nobody_has_classified_is_not_guessed_at() {
    for body in
        ["", "label value is not to our taste", "Bad request", "sample out of the ordinary", "{", "{}"]
    {
        let refusal = classify_400(body);
        assert_eq!((refusal.class, refusal.rest), (None, Rest::Unknown), "{body:?}");
        assert_eq!(refusal.reason.as_str(), "refused");
    }
}

#[test]
fn an_error_type_counts_in_its_place_alone() {
    let errortype = |kind: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
        headers
    };
    let none = HeaderMap::new;
    for (headers, body, meaning) in [
        (none(), r#"cannot ingest aws_errors_total{code="ExpiredToken"}: no"#, None),
        (none(), r#"{"message":"bad sample in m{code=\"AccessDeniedException\"}"}"#, None),
        (none(), r#"{"__type":"ValidationException","message":"m{code=\"RequestExpired\"}"}"#, None),
        (errortype("ValidationException"), r#"{"message":"m{code=\"RequestExpired\"}"}"#, None),
        (errortype("ExpiredTokenException:http://x/"), r#"{"message":"no"}"#, Some(Meaning::Denied)),
        (errortype("ExpiredToken"), r#"{"message":"this is an ExpiredToken"}"#, Some(Meaning::Denied)),
        (none(), r#"{"__type":"com.amazon.a#ExpiredTokenException","message":"no"}"#, Some(Meaning::Denied)),
        (none(), "AccessDeniedException: no", Some(Meaning::Denied)),
    ] {
        let refusal = classify(StatusCode::BAD_REQUEST, &headers, body.as_bytes(), Protocol::V1);
        assert_eq!(refusal.meaning(), meaning, "{headers:?} {body}");
    }
}

#[test]
fn written_headers_count_for_2_0_alone() {
    let mut headers = HeaderMap::new();
    headers.insert("x-prometheus-remote-write-samples-written", HeaderValue::from_static("7"));
    let written = |protocol| classify(StatusCode::BAD_REQUEST, &headers, b"", protocol).written;
    assert_eq!(written(Protocol::V2), Some(Counts { samples: 7, ..Counts::default() }));
    assert_eq!(written(Protocol::V1), None);
}

#[test]
fn a_hostile_body_takes_no_more_time_than_a_dull_one() {
    let started = std::time::Instant::now();
    let texts = [
        "duplicate sample for timestamp".repeat(3000),
        "out of order sample for series {\n".repeat(3000),
        "label value too long for metric (actual: 1, limit: 1) metric: \"".repeat(2000),
        "{__name__=\"a".repeat(10_000),
        format!("sample invalid label: \"{}", "\\\"".repeat(50_000)),
    ];
    for text in &texts {
        classify_400(text);
    }
    // A debug build on a busy machine; exponential or cubic time would be hours.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
