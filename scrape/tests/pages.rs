//! What becomes of pages: labels, timestamps, limits, staleness, report series.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use promferry_model::{MemoryBudget, Timestamp, is_stale_nan};
use promferry_scrape::JobStats;
use serde_json::json;
use support::{Pages, START_MS, gzip, lines, options_at_start, value_of};

#[test]
fn a_series_that_leaves_is_ended_once_and_may_return() {
    let mut pages = Pages::new(json!({}));
    assert_eq!(pages.text("a 1\nb 2\n"), ["a 1", "b 2"]);
    assert_eq!(pages.text("a 1\n"), ["a 1", "b stale"]);
    assert_eq!(pages.text("a 1\n"), ["a 1"]);
    assert_eq!(pages.text("a 1\nb 3\n"), ["a 1", "b 3"]);
    assert_eq!(pages.text("b 3\na 1\n"), ["b 3", "a 1"]);
    assert_eq!(pages.text("# only a comment\n"), ["a stale", "b stale"]);
    assert_eq!(pages.reader.series(), 0);
}

#[test]
fn a_failed_scrape_ends_every_series_once_whatever_the_reason() {
    let failures: [(&str, &str); 4] = [
        ("a 1\nb 2\nc{ 3\n", "parse"),
        ("a 1\n{x=\"1\"} 2\n", "parse"),
        ("a 1\nd{x=\"1\",x=\"2\"} 2\n", "invalid_series"),
        ("a 1\nb{l=\"far too long\"} 2\n", "label_limits"),
    ];
    for (page, reason) in failures {
        let mut pages = Pages::new(json!({"label_value_length_limit": 10}));
        assert_eq!(pages.text("a 1\nb 2\n"), ["a 1", "b 2"]);
        let (outcome, samples) = pages.read(page, "text/plain");
        assert_eq!(outcome.result.map_err(|error| error.reason()), Err(reason), "{page}");
        assert_eq!(lines(&samples), ["a stale", "b stale"], "{page}");
        assert_eq!(value_of(&samples, "up"), "0");
        assert!(samples.iter().all(|sample| sample.sample.timestamp.as_millis() == START_MS + 15_000));
        assert_eq!(pages.unreachable(), [""; 0], "markers are written once");
        let (_, samples) = pages.read("a 1\nb 2\n", "text/plain");
        assert_eq!(lines(&samples), ["a 1", "b 2"]);
        assert_eq!(value_of(&samples, "scrape_series_added"), "0", "the cache outlives a failure");
    }
}

#[test]
fn an_empty_page_is_a_good_one_without_series() {
    let mut pages = Pages::new(json!({}));
    pages.text("a 1\n");
    let (outcome, samples) = pages.read("", "");
    assert!(outcome.result.is_ok());
    assert_eq!((lines(&samples), value_of(&samples, "up")), (vec!["a stale".to_owned()], "1".to_owned()));
    assert_eq!(value_of(&samples, "scrape_samples_scraped"), "0");
    assert_eq!(pages.text("a 2\n"), ["a 2"]);
}

#[test]
fn bounds_are_written_as_the_job_says() {
    let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n# TYPE s summary\ns{quantile=\"1e-05\"} 2\n";
    for (keys, bound, quantile) in [
        (json!({}), "1.0", "1e-05"),
        (json!({"le_format": null}), "1.0", "1e-05"),
        (json!({"le_format": "prometheus3"}), "1.0", "1e-05"),
        (json!({"le_format": "verbatim"}), "1", "1e-05"),
        (json!({"le_format": "otel"}), "1", "0.00001"),
    ] {
        let mut pages = Pages::new(keys);
        let expected = [format!("h_bucket{{le=\"{bound}\"}} 1"), format!("s{{quantile=\"{quantile}\"}} 2")];
        assert_eq!(pages.text(page), expected);
        assert_eq!(pages.text(page), expected, "nor do known series change");
    }
}

#[test]
fn a_target_that_is_gone_ends_its_report_series_too() {
    let mut pages = Pages::new(json!({"extra_scrape_metrics": true}));
    pages.text("a 1\n");
    let at = pages.next_at();
    drop(pages.reader.end(at));
    let ended = pages.sink.take();
    assert!(ended.iter().all(|sample| is_stale_nan(sample.sample.value) && sample.sample.timestamp == at));
    assert_eq!(ended.len(), 1 + 8);
}

#[test]
fn of_two_lines_without_timestamps_the_first_counts() {
    let mut pages = Pages::new(json!({}));
    for _ in 0..2 {
        let (outcome, samples) =
            pages.read("a{x=\"1\",y=\"2\"} 1\na{x=\"1\",y=\"2\"} 2\na{y=\"2\",x=\"1\"} 3\n", "text/plain");
        assert_eq!(lines(&samples), ["a{x=\"1\", y=\"2\"} 1"]);
        assert_eq!(outcome.stats.samples_duplicate, 2);
        assert_eq!(value_of(&samples, "scrape_samples_scraped"), "3");
        assert_eq!(value_of(&samples, "scrape_samples_post_metric_relabeling"), "3");
    }
    // One spelling goes and the series stays.
    assert_eq!(pages.text("a{y=\"2\",x=\"1\"} 4\n"), ["a{x=\"1\", y=\"2\"} 4"]);
}

#[test]
fn timestamps_on_the_page() {
    let page = |timestamp: i64| format!("a 1 {timestamp}\nb 2\n");
    let timestamps = |pages: &mut Pages, timestamp: i64| -> Vec<(String, i64)> {
        let (_, samples) = pages.read(&page(timestamp), "text/plain");
        lines(&samples)
            .into_iter()
            .zip(samples.iter().map(|sample| sample.sample.timestamp.as_millis() - START_MS))
            .collect()
    };
    let told = |line: &str, at: i64| (line.to_owned(), at);

    let mut pages = Pages::new(json!({}));
    assert_eq!(timestamps(&mut pages, START_MS - 7), [told("a 1", -7), told("b 2", 0)]);
    // Not later than before: left out.
    assert_eq!(timestamps(&mut pages, START_MS - 7), [told("b 2", 15_000)]);
    assert_eq!(timestamps(&mut pages, START_MS + 1), [told("a 1", 1), told("b 2", 30_000)]);
    // A series with timestamps is not tracked: no marker when it leaves.
    assert_eq!(pages.text("b 2\n"), ["b 2"]);
    // More than ten minutes ahead of the clock.
    assert_eq!(timestamps(&mut pages, START_MS + 600_001), [told("b 2", 60_000)]);
    assert_eq!(timestamps(&mut pages, START_MS + 600_000), [told("a 1", 600_000), told("b 2", 75_000)]);

    let mut ignoring = Pages::new(json!({"honor_timestamps": false}));
    assert_eq!(timestamps(&mut ignoring, START_MS - 7), [told("a 1", 0), told("b 2", 0)]);
    assert_eq!(ignoring.text("b 2\n"), ["b 2", "a stale"]);

    let mut tracking = Pages::new(json!({"track_timestamps_staleness": true}));
    tracking.text(&page(START_MS - 7));
    assert_eq!(tracking.text("b 2\n"), ["b 2", "a stale"]);

    // Several samples of one series are taken if their timestamps tell them apart.
    let mut several = Pages::new(json!({}));
    let (outcome, samples) = several.read("a 1 1000\na 2 2000\na 3 2000\n", "text/plain");
    assert_eq!((lines(&samples), outcome.stats.samples_out_of_order), (vec!["a 1".into(), "a 2".into()], 1));
    // Without a timestamp it is that of the scrape.
    let mut mixed = Pages::new(json!({}));
    let page = format!("a 1\na 2 {START_MS}\na 3 {}\na 4 {}\n", START_MS - 5, START_MS + 1);
    let (outcome, samples) = mixed.read(&page, "text/plain");
    assert_eq!((lines(&samples), outcome.stats.samples_out_of_order), (vec!["a 1".into(), "a 4".into()], 2));
}

#[test]
fn a_series_that_gains_or_loses_timestamps_stays_in_order() {
    let mut pages = Pages::new(json!({}));
    assert_eq!(pages.text("a 1\nb 1\n"), ["a 1", "b 1"]);
    let (outcome, samples) =
        pages.read(&format!("a 2 {START_MS}\nb 2 {}\n", START_MS + 40_000), "text/plain");
    // Of `a` there is a sample at that time; it counts as gone, and `b` is no longer tracked.
    assert_eq!(lines(&samples), ["b 2", "a stale"]);
    assert_eq!(outcome.stats.samples_out_of_order, 1);
    let (outcome, samples) = pages.read("b 3\n", "text/plain");
    assert_eq!((lines(&samples), outcome.stats.samples_out_of_order), (Vec::<String>::new(), 1));
    assert_eq!(pages.text("b 4\n"), ["b 4"]);
    assert_eq!(pages.text("b 5\n"), ["b 5"]);
}

#[test]
fn timestamps_of_a_failed_page_are_taken_back() {
    let mut pages = Pages::new(json!({}));
    pages.text("a 1 1000\n");
    assert_eq!(pages.text("a 2 2000\nbroken{\n"), [""; 0]);
    assert_eq!(pages.text("a 2 2000\n"), ["a 2"]);
}

#[test]
fn labels_of_page_and_target() {
    let page = "m{job=\"page\",instance=\"there\",zone=\"\"} 1\n";
    let labels = |keys: serde_json::Value, page: &str| {
        let mut pages = Pages::with_options(keys, &[("zone", "z")], options_at_start());
        let (_, samples) = pages.read(page, "text/plain");
        samples[0].labels.to_string()
    };
    assert_eq!(
        labels(json!({}), page),
        r#"{__name__="m", exported_instance="there", exported_job="page", instance="host:80", job="test", zone="z"}"#
    );
    // An empty label on the page is honoured: the target's is not added.
    assert_eq!(
        labels(json!({"honor_labels": true}), page),
        r#"{__name__="m", instance="there", job="page"}"#
    );
    let renamed = json!({"metric_relabel_configs": [
        {"source_labels": ["job"], "target_label": "by"},
        {"regex": "job|instance|zone", "action": "labeldrop"},
    ]});
    assert_eq!(labels(renamed, "m 1\n"), r#"{__name__="m", by="test"}"#);
}

#[test]
fn dropped_lines_are_counted_and_not_sent() {
    let keys = json!({"metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "go_.*", "action": "drop"}]});
    let mut pages = Pages::new(keys);
    for _ in 0..2 {
        let (_, samples) = pages.read("go_a 1\nb 1\ngo_c 1\n", "text/plain");
        assert_eq!(lines(&samples), ["b 1"]);
        assert_eq!(value_of(&samples, "scrape_samples_scraped"), "3");
        assert_eq!(value_of(&samples, "scrape_samples_post_metric_relabeling"), "1");
    }
}

#[test]
fn a_series_without_a_name_fails_the_scrape() {
    let keys = json!({"metric_relabel_configs": [{"source_labels": ["x"], "regex": "1", "target_label": "__name__", "replacement": ""}]});
    let mut pages = Pages::new(keys);
    let (outcome, _) = pages.read("a{x=\"1\"} 1\n", "text/plain");
    let error = outcome.result.unwrap_err().to_string();
    assert!(error.starts_with("missing metric name (__name__ label)"), "{error}");
    let mut legacy = Pages::new(json!({"metric_name_validation_scheme": "legacy"}));
    let (outcome, _) = legacy.read("{\"a.b\"} 1\n", "text/plain");
    assert_eq!(outcome.result.unwrap_err().reason(), "invalid_series");
    assert_eq!(Pages::new(json!({})).text("{\"a.b\"} 1\n"), ["a.b 1"]);
}

#[test]
fn the_sample_limit_counts_what_relabelling_leaves() {
    let keys = json!({
        "sample_limit": 2,
        "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "x", "action": "drop"}],
    });
    let mut pages = Pages::new(keys);
    assert_eq!(pages.text("x 1\na 1\nb 1\n"), ["a 1", "b 1"]);
    for _ in 0..2 {
        let (outcome, samples) = pages.read("x 1\na 1\nb 1\nc 1\nd 1\n", "text/plain");
        assert_eq!(outcome.result.unwrap_err().reason(), "sample_limit");
        assert_eq!(outcome.stats.exceeded_sample_limit, 1);
        // Reading goes on past the limit so that the report is right.
        assert_eq!(value_of(&samples, "scrape_samples_scraped"), "5");
        assert_eq!(value_of(&samples, "scrape_samples_post_metric_relabeling"), "4");
        assert_eq!(value_of(&samples, "up"), "0");
    }
    assert_eq!(pages.reader.series(), 2, "what a refused page brought is not kept");
    // Markers do not count: two live series and two that ended.
    assert_eq!(pages.text("a 1\nb 1\n"), ["a 1", "b 1"]);
    assert_eq!(pages.text("c 1\nd 1\n"), ["c 1", "d 1", "a stale", "b stale"]);
}

#[test]
fn the_body_size_limit_is_reached_by_as_many_bytes() {
    let mut pages = Pages::new(json!({"body_size_limit": "10B", "extra_scrape_metrics": true}));
    assert_eq!(pages.text("a 1\nbb 1\n"), ["a 1", "bb 1"]);
    let (outcome, samples) = pages.read("a 1\nbbb 1\n", "text/plain");
    assert_eq!(outcome.result.unwrap_err().reason(), "body_size_limit");
    assert_eq!(value_of(&samples, "scrape_body_size_bytes"), "-1");
    assert_eq!(lines(&samples), ["a stale", "bb stale"]);
}

#[test]
fn the_report_with_extra_metrics() {
    let mut pages =
        Pages::new(json!({"extra_scrape_metrics": true, "sample_limit": 7, "scrape_timeout": "2500ms"}));
    let (_, samples) = pages.read("a 1\n", "text/plain");
    for (name, value) in [
        ("up", "1"),
        ("scrape_duration_seconds", "0"),
        ("scrape_timeout_seconds", "2.5"),
        ("scrape_sample_limit", "7"),
        ("scrape_body_size_bytes", "4"),
    ] {
        assert_eq!(value_of(&samples, name), value, "{name}");
    }
    let names: Vec<_> = samples.iter().map(|sample| sample.labels.get("__name__")).collect();
    assert_eq!((names[0], names.len()), ("a", 9), "the report comes last");
}

#[test]
fn a_scraped_series_wins_over_the_report() {
    let mut pages = Pages::new(json!({}));
    let ups = |pages: &mut Pages, page: &str| -> Vec<f64> {
        let (_, samples) = pages.read(page, "text/plain");
        samples.iter().filter(|s| s.labels.get("__name__") == "up").map(|s| s.sample.value).collect()
    };
    assert_eq!(ups(&mut pages, "up 42\n"), [42.0]);
    assert_eq!(ups(&mut pages, "up 42\n"), [42.0]);
    assert_eq!(ups(&mut pages, "a 1\n"), [1.0], "no marker beside the report");
    assert_eq!(ups(&mut pages, "up 43\n"), [43.0]);
    assert_eq!(ups(&mut pages, "broken{\n"), [0.0]);
    assert_eq!(ups(&mut pages, "a 1\n"), [1.0]);
}

#[test]
fn the_content_type_decides_and_may_be_replaced() {
    for (fallback, content_type, error) in [
        (json!({}), "text/plain; charset=utf-8", None),
        (json!({}), "text/html", Some("unsupported Content-Type \"text/html\"")),
        (json!({}), "", Some("no Content-Type")),
        (json!({"fallback_scrape_protocol": "PrometheusText0.0.4"}), "", None),
        (json!({"fallback_scrape_protocol": "PrometheusText0.0.4"}), "text/html", None),
        (json!({}), "application/openmetrics-text", Some("does not end with # EOF")),
    ] {
        let (outcome, _) = Pages::new(fallback).read("a 1\n", content_type);
        match (outcome.result, error) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            other => panic!("{content_type}: {other:?}"),
        }
    }
}

#[test]
fn metadata_is_told_when_it_is_new_and_belongs_to_its_family() {
    let mut pages = Pages::new(json!({}));
    let (_, samples) = pages.read("# HELP a First.\n# TYPE a counter\na_total 1\nother 2\n", "text/plain");
    assert_eq!(samples[0].metadata.help, "First.");
    assert_eq!(samples[1].metadata.help, "");
    let before = pages.reader.series();
    let (_, samples) = pages.read("# HELP a Second.\n# TYPE a gauge\na 1\nother 2\n", "text/plain");
    assert_eq!(pages.sink.metadata("a").unwrap().help, "Second.");
    assert_eq!(samples[0].metadata.metric_type.as_str(), "gauge");
    assert_eq!(lines(&samples), ["a 1", "other 2", "a_total stale"]);
    assert_eq!(pages.reader.series(), before);
}

#[test]
fn exemplars_are_sent_once() {
    let page = |exemplar: &str| format!("# TYPE a counter\na_total 1 # {exemplar}\n# EOF\n");
    let mut pages = Pages::new(json!({}));
    let mut exemplars = |exemplar: &str| -> Vec<(f64, i64)> {
        let (_, samples) = pages.read(&page(exemplar), "application/openmetrics-text");
        samples[0].exemplars.iter().map(|e| (e.value, e.timestamp.as_millis())).collect()
    };
    assert_eq!(exemplars("{id=\"1\"} 5 10"), [(5.0, 10_000)]);
    assert_eq!(exemplars("{id=\"1\"} 5 10"), []);
    assert_eq!(exemplars("{id=\"2\"} 5 9"), [], "older than the last");
    assert_eq!(exemplars("{id=\"2\"} 5 11"), [(5.0, 11_000)]);
    assert_eq!(exemplars("{id=\"3\"} 6").len(), 1);
    assert_eq!(exemplars("{id=\"3\"} 6").len(), 0, "the same without a timestamp");
    let long = format!("{{id=\"{}\"}} 7", "x".repeat(127));
    assert_eq!(exemplars(&long), [], "129 characters");
    assert_eq!(exemplars(&format!("{{id=\"{}\"}} 7", "x".repeat(126))).len(), 1);
}

#[test]
fn a_new_generation_of_the_sink_admits_anew_without_markers() {
    let mut pages = Pages::new(json!({}));
    pages.text("a 1\nb 1\n");
    pages.sink.advance_generation();
    assert_eq!(pages.text("a 1\nb 1\n"), ["a 1", "b 1"]);
    pages.sink.advance_generation();
    assert_eq!(pages.text("b 1\n"), ["b 1", "a stale"]);
}

#[test]
fn refused_series_are_counted_while_others_go_on_and_are_taken_later() {
    let mut pages = Pages::new(json!({}));
    pages.text("a 1\nb 1\n");
    pages.sink.refuse_new(true);
    for _ in 0..2 {
        let (outcome, samples) = pages.read("a 1\nnew 1\nb 1\n", "text/plain");
        assert!(outcome.result.is_ok());
        assert_eq!(lines(&samples), ["a 1", "b 1"]);
        assert_eq!(outcome.stats.refused_over_budget, 1);
        assert_eq!(value_of(&samples, "scrape_samples_post_metric_relabeling"), "3");
    }
    pages.sink.refuse_new(false);
    assert_eq!(pages.text("a 1\nnew 1\nb 1\n"), ["a 1", "new 1", "b 1"]);
}

#[test]
fn new_label_values_at_each_scrape_stay_within_the_budget() {
    let mut options = options_at_start();
    let budget = MemoryBudget::new(120_000);
    options.budget = budget.clone();
    let mut pages = Pages::with_options(json!({}), &[], options);
    let steady: String = (0..500).map(|n| format!("steady{{n=\"{n}\"}} 1\n")).collect();
    assert_eq!(pages.text(&steady).len(), 500);
    let mut totals = JobStats::default();
    for scrape in 0..20 {
        let churn: String = (0..5000).map(|n| format!("c{{n=\"{scrape}-{n}\"}} 1\n")).collect();
        // The page itself is larger than its share unless it is compressed.
        let (outcome, samples) = pages.bytes(gzip(format!("{steady}{churn}").as_bytes()), "text/plain");
        match outcome.result {
            Ok(()) => {
                let values = lines(&samples);
                assert_eq!(
                    values.iter().filter(|line| line.starts_with("steady") && line.ends_with(" 1")).count(),
                    500
                );
            }
            Err(error) => assert_eq!(error.reason(), "memory"),
        }
        totals.refused_over_budget += outcome.stats.refused_over_budget;
        totals.samples_scraped += outcome.stats.samples_scraped;
        assert!(budget.used() <= budget.limit());
    }
    assert!(totals.refused_over_budget > 0 || totals.samples_scraped == 0);
    assert_eq!(pages.text(&steady).iter().filter(|line| line.ends_with(" 1")).count(), 500);
}

#[test]
fn a_bomb_fails_by_name_and_leaves_no_memory_behind() {
    // 500 MB of newlines in ten members.
    let member = gzip(&vec![b'\n'; 50 << 20]);
    let bomb = member.repeat(10);
    let mut options = options_at_start();
    let budget = MemoryBudget::new(30 << 20);
    options.budget = budget.clone();
    options.cpu = promferry_scrape::CpuSections::new(2);
    let mut pages = Pages::with_options(json!({}), &[], options);
    pages.text("a 1\n");
    let (outcome, samples) = pages.bytes(bomb, "text/plain");
    let error = outcome.result.unwrap_err();
    assert_eq!(error.reason(), "memory");
    assert!(error.to_string().contains("larger than the 10485760 bytes that one page may take"), "{error}");
    assert_eq!(lines(&samples), ["a stale"]);
    assert!(budget.peak() <= 12 << 20, "{} bytes at the peak", budget.peak());
    assert!(budget.used() < 1 << 20, "{} bytes are still held", budget.used());
    assert_eq!(pages.text("a 1\n"), ["a 1"]);
}

#[test]
fn start_timestamps_are_read_when_asked_for() {
    let page = "# TYPE a counter\na_total 1\na_created 1600000000\n# EOF\n";
    let (_, samples) = Pages::new(json!({})).read(page, "application/openmetrics-text");
    assert_eq!((lines(&samples).len(), samples[0].sample.start), (2, None));
    let mut options = options_at_start();
    options.start_timestamps = true;
    let mut pages = Pages::with_options(json!({}), &[], options);
    let (_, samples) = pages.read(page, "application/openmetrics-text");
    assert_eq!(samples[0].sample.start, Some(Timestamp::from_millis(1_600_000_000_000)));
    assert_eq!(lines(&samples), ["a_total 1"]);
}

const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// A delimited `MetricFamily` of one native histogram with `deltas` in consecutive buckets of schema 3 and a
/// classic bucket beside them (prometheus/client_model `metrics.proto`).
fn native_histogram(deltas: &[u8]) -> Vec<u8> {
    let buckets = deltas.iter().scan(0, |bucket, delta| {
        *bucket += u16::from(*delta);
        Some(*bucket)
    });
    native_histogram_of(buckets.sum(), deltas)
}

/// The same with a count that need not be right.
fn native_histogram_of(count: u16, deltas: &[u8]) -> Vec<u8> {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }
    let span = [0x08, 0, 0x10, deltas.len() as u8];
    let zigzag: Vec<u8> = deltas.iter().map(|delta| delta * 2).collect();
    let bucket = [&[0x08, 1, 0x11][..], &2.0f64.to_le_bytes()].concat();
    let histogram = [
        &[0x08, count as u8 | 0x80, (count >> 7) as u8, 0x11][..],
        &7.5f64.to_le_bytes(),
        &field(3, &bucket),
        // schema 3 as sint32, then spans and deltas of the positive side
        &[0x28, 6],
        &[0x62, 4][..],
        &span,
        &[0x6a, zigzag.len() as u8],
        &zigzag,
    ]
    .concat();
    let metric = field(7, &histogram);
    let family = [field(1, b"h"), vec![0x18, 4], field(4, &metric)].concat();
    [vec![family.len() as u8], family].concat()
}

#[test]
fn native_histograms_keep_their_limits_and_end_as_histograms() {
    use promferry_model::BucketCounts;
    let native = json!({"scrape_native_histograms": true});
    let mut pages = Pages::new(native.clone());
    let (outcome, samples) = pages.bytes(native_histogram(&[1, 2, 0, 1]), PROTOBUF);
    outcome.result.unwrap();
    let histogram = samples[0].histogram.clone().unwrap();
    assert_eq!((histogram.schema, histogram.bucket_count(), samples[0].labels.get("__name__")), (3, 4, "h"));
    let (_, samples) = pages.bytes(Vec::new(), PROTOBUF);
    let ended = samples[0].histogram.as_ref().unwrap();
    assert!(is_stale_nan(ended.sum) && samples[0].labels.get("__name__") == "h");

    let limited = |keys: serde_json::Value, deltas: &[u8]| {
        let mut all = native.clone();
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let (outcome, samples) = Pages::new(all).bytes(native_histogram(deltas), PROTOBUF);
        outcome.result.map(|()| samples[0].histogram.clone().unwrap())
    };
    let merged = limited(json!({"native_histogram_bucket_limit": 3}), &[1, 2, 0, 1]).unwrap();
    assert_eq!((merged.schema, merged.bucket_count()), (2, 3));
    let BucketCounts::Integer { positive, .. } = &merged.counts else { panic!("integers stay integers") };
    assert_eq!(positive, &[1, 5, -2], "1, then 3 and 3, then 4");
    assert_eq!(limited(json!({"native_histogram_min_bucket_factor": 2.0}), &[1]).unwrap().schema, 0);
    // 20 buckets at schema 3 are two at schema -1 and cannot be fewer than one: schema -4 is the end.
    let deltas = [1; 20];
    assert_eq!(limited(json!({"native_histogram_bucket_limit": 2}), &deltas).unwrap().bucket_count(), 2);

    // Without the option what is left is the classic histogram.
    let (_, samples) = Pages::new(json!({})).bytes(native_histogram(&[1]), PROTOBUF);
    assert_eq!(
        lines(&samples)
            .iter()
            .map(|line| line.split(['{', ' ']).next().unwrap().to_owned())
            .collect::<Vec<_>>(),
        ["h_count", "h_sum", "h_bucket", "h_bucket"]
    );
}

#[test]
fn a_histogram_that_prometheus_would_not_store_fails_the_scrape() {
    let mut pages = Pages::new(json!({"scrape_native_histograms": true}));
    for (count, is_right) in [(11, true), (10, false), (12, false)] {
        let (outcome, _) = pages.bytes(native_histogram_of(count, &[1, 2, 0, 1]), PROTOBUF);
        match outcome.result {
            Ok(()) => assert!(is_right, "{count}"),
            Err(error) => assert!(!is_right && error.to_string().contains("count"), "{count}: {error}"),
        }
    }
}

#[test]
fn classic_histograms_become_native_ones_where_a_job_wants_it() {
    use promferry_model::{BucketCounts, CUSTOM_BUCKETS_SCHEMA};
    let page = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 # {t=\"a\"} 0.5\nh_bucket{le=\"+Inf\"} 3 # {t=\"b\"} 5 7\n\
        h_sum 6.5\nh_count 3\n# TYPE g gauge\ng 1\n# EOF\n";
    let mut pages = Pages::new(json!({"convert_classic_histograms_to_nhcb": true}));
    for _ in 0..2 {
        let (outcome, samples) = pages.read(page, "application/openmetrics-text");
        outcome.result.unwrap();
        assert!(
            samples.iter().all(|sample| sample.labels.get("le").is_empty()),
            "no classic series are left"
        );
        let histogram = samples[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.schema, &histogram.custom_values), (CUSTOM_BUCKETS_SCHEMA, &vec![1.0]));
        let BucketCounts::Integer { count: 3, positive, .. } = &histogram.counts else {
            panic!("{histogram:?}")
        };
        assert_eq!((samples[0].labels.get("__name__"), positive), ("h", &vec![2, -1]));
    }
    let (_, samples) = pages.read("# EOF\n", "application/openmetrics-text");
    let ended = samples.iter().find_map(|sample| sample.histogram.as_ref()).unwrap();
    assert!(is_stale_nan(ended.sum));
}
