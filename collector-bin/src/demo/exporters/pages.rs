//! What the applications show; `scrape` counts from 1, and each scrape finds a second's work more.

use promferry_exposition::{
    BucketPoint, Encoder, Format, HistogramPoint, Point, PointExemplar, SummaryPoint,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, ResetHint, Span};

/// The length of the checkout's long label value.
pub(in super::super) const NOTE_BYTES: usize = 3000;

pub(super) fn frontend(scrape: u64) -> Encoder {
    let mut page = Encoder::new(Format::Text);
    let seconds = scrape as f64;
    let mut family = page.family(counter("http_requests", "Requests answered."));
    for (method, code, rate) in [
        ("get", "200", 40.0),
        ("get", "304", 22.0),
        ("get", "404", 3.0),
        ("post", "200", 12.0),
        ("post", "422", 2.0),
        ("post", "500", 1.0),
    ] {
        family.number(&[("method", method), ("code", code)], seconds * rate);
    }
    let mut family = page.family(MetadataView {
        family: "http_request_duration_seconds",
        metric_type: MetricType::Histogram,
        help: "How long requests took.",
        ..MetadataView::default()
    });
    for (route, rate) in [("/", 60.0), ("/search", 20.0)] {
        let buckets =
            [(0.05, 0.6), (0.1, 0.85), (0.25, 0.92), (0.5, 0.97), (1.0, 0.99)].map(|(bound, part)| {
                BucketPoint {
                    upper_bound: bound,
                    cumulative_count: (seconds * rate * part).floor(),
                    exemplar: None,
                }
            });
        let count = seconds * rate;
        family.histogram(
            &[("route", route)],
            &HistogramPoint { buckets: &buckets, count, sum: count * 0.073, native: None },
        );
    }
    page.family(gauge("http_requests_in_flight", "Requests being answered."))
        .number(Point::default(), (scrape * 7 % 11) as f64);
    page.family(gauge("build_info", "What is running.")).number(&[("version", "1.4.2")], 1.0);
    page
}

/// `with_note`: somebody made a label of what customers write.
pub(super) fn checkout(scrape: u64, with_note: bool) -> Encoder {
    let mut page = Encoder::new(Format::OpenMetrics);
    let seconds = scrape as f64;
    let trace = format!("{:032x}", 0x5eed_0000_u64 + scrape);
    let trace_id = [("trace_id", trace.as_str())];
    let exemplar = |value| PointExemplar { labels: &trace_id, value, timestamp: None };
    let mut family = page.family(counter("orders", "Orders placed."));
    for (currency, rate) in [("eur", 3.0), ("usd", 2.0), ("sek", 1.0)] {
        family.number_with_exemplar(&[("currency", currency)], seconds * rate, exemplar(1.0));
    }
    if with_note {
        let note: String = "please wrap each piece on its own, ".chars().cycle().take(NOTE_BYTES).collect();
        family.number(&[("currency", "eur"), ("note", &note)], 1.0);
    }
    let buckets = [(0.1, 4.0, None), (0.5, 5.0, Some(exemplar(0.31))), (2.0, 6.0, None)].map(
        |(upper_bound, rate, exemplar)| BucketPoint {
            upper_bound,
            cumulative_count: seconds * rate,
            exemplar,
        },
    );
    let count = seconds * 6.0;
    page.family(MetadataView {
        family: "checkout_duration_seconds",
        metric_type: MetricType::Histogram,
        help: "From the basket to the order.",
        unit: "seconds",
    })
    .histogram(
        Point::default(),
        &HistogramPoint { buckets: &buckets, count, sum: count * 0.22, native: None },
    );
    page.family(MetadataView { unit: "bytes", ..gauge("basket_bytes", "What baskets take in memory.") })
        .number(Point::default(), (2048 + 512 * (scrape % 7)) as f64);
    page
}

pub(super) fn payments(scrape: u64) -> Encoder {
    let mut page = Encoder::new(Format::Protobuf);
    let seconds = scrape as f64;
    let mut family = page.family(counter("payments", "Payments made."));
    for (method, rate) in [("card", 4.0), ("invoice", 1.0), ("voucher", 1.0)] {
        family.number(&[("method", method)], seconds * rate);
    }
    let mut family = page.family(MetadataView {
        family: "payment_duration_seconds",
        metric_type: MetricType::Histogram,
        help: "How long the bank took.",
        ..MetadataView::default()
    });
    for (bank, weights) in [("north", [1, 3, 7, 4, 2]), ("south", [2, 5, 3, 1, 1])] {
        let native = native_histogram(scrape, &weights);
        let histogram = HistogramPoint { native: Some(&native), ..HistogramPoint::default() };
        family.histogram(&[("bank", bank)], &histogram);
    }
    page.family(gauge("payments_waiting", "Payments that wait for the bank."))
        .number(Point::default(), (scrape % 5) as f64);
    page
}

pub(super) fn worker(scrape: u64) -> Encoder {
    let mut page = Encoder::new(Format::Text);
    let seconds = scrape as f64;
    let jitter = (scrape % 5) as f64;
    let quantiles = [(0.5, 12.0 + jitter), (0.9, 31.0 + jitter), (0.99, 78.0 + jitter)];
    page.family(MetadataView {
        family: "ray_serve_processing_latency_ms",
        metric_type: MetricType::Summary,
        help: "How long requests took.",
        ..MetadataView::default()
    })
    .summary(
        Point::default(),
        &SummaryPoint { quantiles: &quantiles, count: seconds * 50.0, sum: seconds * 1300.0 },
    );
    let mut family = page.family(counter("ray_tasks", "Tasks by how they ended."));
    for (state, rate) in [("finished", 20.0), ("failed", 1.0), ("cancelled", 0.0)] {
        family.number(&[("state", state)], seconds * rate);
    }
    page.family(gauge("ray_node_cpu_count", "Cores.")).number(Point::default(), 4.0);
    page.family(gauge("ray_node_mem_used", "Bytes of memory in use."))
        .number(Point::default(), 1.5e9 + 1e6 * jitter);
    page
}

/// Observations of `scrape` seconds, so many a second in consecutive buckets.
fn native_histogram(scrape: u64, weights: &[u64]) -> Histogram {
    let counts = weights.iter().map(|weight| i64::try_from(weight * scrape).unwrap_or(i64::MAX));
    let mut before = 0;
    let deltas: Vec<i64> = counts.map(|count| count - std::mem::replace(&mut before, count)).collect();
    let count = weights.iter().sum::<u64>() * scrape;
    Histogram {
        schema: 1,
        zero_threshold: 1e-128,
        sum: count as f64 * 0.4,
        counts: BucketCounts::Integer { count, zero_count: 0, positive: deltas, negative: Vec::new() },
        positive_spans: vec![Span { offset: -4, length: u32::try_from(weights.len()).unwrap_or_default() }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        reset_hint: ResetHint::Unknown,
    }
}

fn counter<'a>(family: &'a str, help: &'a str) -> MetadataView<'a> {
    MetadataView { family, metric_type: MetricType::Counter, help, ..MetadataView::default() }
}

fn gauge<'a>(family: &'a str, help: &'a str) -> MetadataView<'a> {
    MetadataView { family, metric_type: MetricType::Gauge, help, ..MetadataView::default() }
}
