//! Farm and sink over real sockets: what is answered is recorded, what is sent is judged, faults happen as told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use http::{Method, StatusCode};
use promferry_bench::{
    account::Account,
    clock::now_ms,
    farm::Farm,
    http_call::{CallError, call},
    ledger::{Judgement, SeriesLimits},
    messages::{Label, Sample, TimeSeries, WriteRequest},
    page::sequence_of,
    sink::{Fault, Sink, When},
};
use prost::Message;
use std::{io::Read, net::SocketAddr, time::Duration};

const V1: [(&str, &str); 2] = [("content-encoding", "snappy"), ("content-type", "application/x-protobuf")];

/// Scrapes a target and makes a remote-write request of its page.
async fn scrape(target: SocketAddr, timestamp: i64) -> Vec<u8> {
    let (status, body) =
        call(target, Method::GET, "/metrics", &[("accept-encoding", "gzip")], "").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let mut page = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut page).unwrap();
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let timeseries = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        TimeSeries {
            labels: vec![label("__name__", series), label("instance", &target.to_string())],
            samples: vec![Sample { value: value.parse().unwrap(), timestamp, start_timestamp: 0 }],
            ..TimeSeries::default()
        }
    });
    let request = WriteRequest { timeseries: timeseries.collect(), metadata: Vec::new() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).unwrap()
}

async fn write(sink: &Sink, body: Vec<u8>) -> Result<StatusCode, CallError> {
    call(sink.address(), Method::POST, "/api/v1/write", &V1, body).await.map(|(status, _)| status)
}

#[tokio::test]
async fn what_the_farm_answered_and_the_sink_received_balances() {
    let farm = Farm::start(2, 60).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    for round in 0..3 {
        for (index, target) in farm.addresses().iter().enumerate() {
            let body = scrape(*target, now_ms() + round).await;
            // The second target's second scrape never arrives.
            if (index, round) != (1, 1) {
                assert_eq!(write(&sink, body).await.unwrap(), StatusCode::NO_CONTENT);
            }
        }
    }
    let account = Account::new(&farm.record(), &sink.received(), &[]);
    assert_eq!(
        account,
        Account { answered: 6, delivered: 5, lost: 1, samples_lost: 60, ..Account::default() }
    );
    let stats = sink.stats();
    assert_eq!((stats.samples, stats.series, stats.accepted_requests), (300, 120, 5));
    assert_eq!((stats.duplicates, stats.out_of_order), (0, 0));
    assert!(stats.head_bytes > 5 * 100 && stats.body_bytes > 5 * 500);
}

#[tokio::test]
async fn a_page_is_plain_unless_gzip_is_asked_for_and_numbers_its_scrapes() {
    let farm = Farm::start(1, 5).await.unwrap();
    for expected in 1..=3 {
        let (_, body) = call(farm.addresses()[0], Method::GET, "/metrics", &[], "").await.unwrap();
        let page = String::from_utf8(body.to_vec()).unwrap();
        let value = page.lines().last().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        assert_eq!(sequence_of(value), Some(expected));
    }
    let record = farm.record();
    let numbers: Vec<_> = record.targets[0].answered.iter().map(|(number, _)| *number).collect();
    assert_eq!((record.series, numbers), (5, vec![1, 2, 3]));
}

#[tokio::test]
async fn who_is_no_scraper_takes_no_scrapes_number_and_is_named() {
    let farm = Farm::start(1, 5).await.unwrap();
    let target = farm.addresses()[0];
    for (method, path) in [(Method::POST, "/"), (Method::GET, "/metricses"), (Method::POST, "/metrics")] {
        let (status, _) = call(target, method, path, &[], "Action=AssumeRole&Version=1").await.unwrap();
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let (status, _) = call(target, Method::GET, "/metrics?module=a", &[], "").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let record = farm.record();
    assert_eq!(record.targets[0].answered.len(), 1);
    assert_eq!(record.targets[0].answered[0].0, 1);
    let strangers = ["post / http/1.1", "get /metricses http/1.1", "post /metrics http/1.1"];
    assert_eq!(record.strangers, strangers);
}

#[tokio::test]
async fn faults_answer_what_they_were_told_and_end() {
    let farm = Farm::start(1, 5).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let body = scrape(farm.addresses()[0], now_ms()).await;

    let headers = [("retry-after".to_owned(), "7".to_owned())].into();
    let throttled = Fault { status: Some(429), requests: Some(2), headers, ..Fault::default() };
    sink.set_fault(Some(throttled));
    for expected in [429, 429, 204] {
        assert_eq!(write(&sink, body.clone()).await.unwrap(), expected);
    }
    assert_eq!((sink.stats().accepted_requests, sink.stats().faulted_requests), (1, 2));

    sink.set_fault(Some(Fault { drop: Some(When::Before), requests: Some(1), ..Fault::default() }));
    assert!(matches!(write(&sink, body.clone()).await, Err(CallError::Http { .. })));
    assert_eq!(sink.stats().accepted_requests, 1);

    sink.set_fault(Some(Fault { drop: Some(When::After), requests: Some(1), ..Fault::default() }));
    assert!(matches!(write(&sink, body.clone()).await, Err(CallError::Http { .. })));
    assert_eq!((sink.stats().accepted_requests, sink.stats().duplicates), (2, 5));
}

#[tokio::test]
async fn a_sink_that_is_down_refuses_connections_and_comes_back_on_its_port() {
    let farm = Farm::start(1, 5).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let body = scrape(farm.addresses()[0], now_ms()).await;
    sink.set_fault(Some(Fault { down: true, for_ms: Some(300), ..Fault::default() }));
    let mut refused = 0;
    let up_again = async {
        loop {
            match write(&sink, body.clone()).await {
                Ok(status) => break status,
                Err(CallError::Connection { .. } | CallError::Http { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(20), up_again).await.unwrap();
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(refused > 0);
    assert_eq!(sink.stats().accepted_requests, 1);
}

#[tokio::test]
async fn requests_that_are_no_remote_write_are_refused() {
    let sink = Sink::start(Judgement::CountOnly).await.unwrap();
    for (headers, expected) in [
        (vec![("content-type", "application/x-protobuf")], 415),
        (vec![("content-encoding", "snappy"), ("content-type", "text/plain")], 415),
        (
            vec![
                ("content-encoding", "snappy"),
                ("content-type", "application/x-protobuf;proto=other.Message"),
            ],
            415,
        ),
        (V1.to_vec(), 400),
    ] {
        let (status, _) = call(sink.address(), Method::POST, "/", &headers, "no snappy").await.unwrap();
        assert_eq!(status, expected, "{headers:?}");
    }
    assert_eq!(sink.stats().bad_requests, 4);
}

#[tokio::test]
async fn a_sink_with_limits_takes_what_it_knows_and_says_what_it_did_not_take() {
    let farm = Farm::start(2, 60).await.unwrap();
    let sink = Sink::start(Judgement::EachSeries).await.unwrap();
    let [known, new] = farm.addresses() else { panic!("two targets were started") };
    let text = async |body: Vec<u8>| {
        let (status, body) = call(sink.address(), Method::POST, "/api/v1/write", &V1, body).await.unwrap();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    sink.set_limits(SeriesLimits { active_series: Some(70), ..SeriesLimits::default() });
    assert_eq!(text(scrape(*known, now_ms()).await).await, (204, String::new()));
    let (status, said) = text(scrape(*new, now_ms()).await).await;
    assert_eq!(status, 429);
    assert!(said.contains("per-user series limit") && said.contains("global limit: 70"), "{said}");
    assert_eq!(text(scrape(*known, now_ms() + 1).await).await, (204, String::new()));
    let stats = sink.stats();
    assert_eq!(
        (stats.series, stats.samples, stats.refused_samples, stats.limited_requests),
        (70, 180, 50, 1)
    );

    sink.set_limits(SeriesLimits { refuse_one_in: 10, names_refused: true, ..SeriesLimits::default() });
    let (status, said) = text(scrape(*known, now_ms() + 2).await).await;
    assert_eq!(status, 400);
    assert!(said.starts_with("series has too many labels") && said.contains("instance="), "{said}");
    let refused = sink.stats().refused_samples - 50;
    assert!((1..30).contains(&refused), "{refused}");
}

#[tokio::test]
async fn a_farm_asleep_answers_503_and_records_nothing() {
    let farm = Farm::start(1, 5).await.unwrap();
    farm.set_asleep(true);
    let get = || call(farm.addresses()[0], Method::GET, "/metrics", &[], "");
    assert_eq!(get().await.unwrap().0, 503);
    farm.set_asleep(false);
    assert_eq!(get().await.unwrap().0, 200);
    assert_eq!(farm.record().targets[0].answered.len(), 1);
}
