//! Walking a valid page allocates nothing, however many samples it has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/held_memory.rs"]
mod held_memory;
#[path = "support/realistic.rs"]
mod realistic;

use held_memory::taken_by;
use promferry_exposition::{
    BucketPoint, Encoder, Event, Format, HistogramPoint, LabelBuffer, LabelSpans, ParseOptions, Parser,
};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, Span};

fn allocations_in(work: impl FnOnce()) -> u64 {
    taken_by(work).0.allocations
}

fn walk(format: Format, page: &[u8]) -> usize {
    let mut parser = Parser::new(format, page, ParseOptions::default());
    let mut series = 0;
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(event) = event {
            std::hint::black_box((event.key(1), event.value(), event.timestamp(), event.start()));
            series += 1;
        }
    }
    series
}

fn walk_with_labels(format: Format, page: &[u8], labels: &mut LabelBuffer, exemplar: &mut LabelBuffer) {
    let mut parser = Parser::new(format, page, ParseOptions::default());
    while let Some(event) = parser.next().unwrap() {
        if let Event::Series(event) = event {
            event.labels(labels).unwrap();
            while event.exemplars().next(exemplar).is_some_and(|_| false) {}
        }
    }
}

#[test]
fn text_pages() {
    let text = realistic::text_page(1_000);
    let with_exemplars =
        text.replace("le=\"1\"} 8000", "le=\"1\"} 8000 # {trace_id=\"a}b\"} 0.5 1.5") + "# EOF\n";
    for (format, page) in [(Format::Text, &text), (Format::OpenMetrics, &with_exemplars)] {
        let mut series = 0;
        assert_eq!(allocations_in(|| series = walk(format, page.as_bytes())), 0, "{format:?}");
        assert_eq!(series, 1_000);
    }
}

#[test]
fn protobuf_pages_allocate_the_parser_only() {
    let mut page = Encoder::new(Format::Protobuf);
    for family in 0..50 {
        let name = format!("size_{family}_bytes");
        let buckets: Vec<BucketPoint<'_>> = (0..20)
            .map(|at| BucketPoint {
                upper_bound: f64::from(at),
                cumulative_count: f64::from(at),
                exemplar: None,
            })
            .collect();
        page.family(MetadataView {
            family: &name,
            metric_type: MetricType::Histogram,
            unit: "bytes",
            help: "Size.",
        })
        .histogram(
            &[("a", "b"), ("c", "d")],
            &HistogramPoint { buckets: &buckets, count: 30.0, sum: 1.5, native: None },
        );
    }
    let page = page.finish();
    let mut series = 0;
    assert_eq!(allocations_in(|| series = walk(Format::Protobuf, &page)), 1);
    assert_eq!(series, 50 * 23);
}

#[test]
fn splitting_labels_into_a_used_buffer() {
    let page = realistic::text_page(1_000);
    let page: String =
        page.lines().filter(|line| !line.contains("le=")).map(|line| format!("{line}\n")).collect();
    let (mut labels, mut exemplar) = (LabelBuffer::new(), LabelBuffer::new());
    walk_with_labels(Format::Text, page.as_bytes(), &mut labels, &mut exemplar);
    let allocations =
        allocations_in(|| walk_with_labels(Format::Text, page.as_bytes(), &mut labels, &mut exemplar));
    assert_eq!(allocations, 0);
}

#[test]
fn protobuf_labels_and_histograms_into_used_lists() {
    let (positive, negative) = ((0..40).map(|at| 1 + at % 3).collect(), vec![2, 0, -2, 5]);
    let native = Histogram {
        counts: BucketCounts::Integer { count: 90, zero_count: 1, positive, negative },
        positive_spans: vec![Span { offset: -3, length: 30 }, Span { offset: 2, length: 10 }],
        negative_spans: vec![Span { offset: 0, length: 4 }],
        ..Histogram::stale()
    };
    let buckets = [0.005, 2.5, 1.0 / 3.0].map(|upper_bound| BucketPoint {
        upper_bound,
        cumulative_count: 1.0,
        exemplar: None,
    });
    let mut page = Encoder::new(Format::Protobuf);
    let mut family = page.family(MetadataView {
        family: "size_bytes",
        metric_type: MetricType::Histogram,
        unit: "bytes",
        help: "Size.",
    });
    for (buckets, native) in [(&[][..], Some(&native)), (&buckets, None)] {
        for number in 0..100 {
            let number = number.to_string();
            family.histogram(
                &[("a", "b"), ("c", &number)],
                &HistogramPoint { buckets, count: 30.0, sum: 1.5, native },
            );
        }
    }
    let page = page.finish();
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    let (mut spans, mut value) = (LabelSpans::new(), Histogram::stale());
    let mut read = || {
        let mut parser = Parser::new(Format::Protobuf, &page, options);
        while let Some(event) = parser.next().unwrap() {
            match event {
                Event::Series(series) => assert!(series.split(&mut spans).unwrap().len() > 2),
                Event::Histogram(histogram) => {
                    assert_eq!(histogram.split(&mut spans).unwrap().len(), 3);
                    histogram.read_into(&mut value);
                }
                _ => {}
            }
        }
    };
    read();
    // The parser, and what it takes to find the digits of a third, once.
    let allocations = allocations_in(read);
    assert!(allocations <= 3, "{allocations}");
}
