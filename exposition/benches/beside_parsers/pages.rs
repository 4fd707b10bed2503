//! The pages that are read.

use std::path::Path;

use promferry_exposition::{Encoder, Format, HistogramPoint, ParseOptions, Parser};
use promferry_model::{BucketCounts, Histogram, MetadataView, MetricType, ResetHint, Span};

use crate::realistic;

pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) bytes: Vec<u8>,
}

impl Page {
    /// As VictoriaMetrics and prometheus-parse read it, who know the text format only.
    pub(crate) fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// With native histograms, which is all that Prometheus' textparse leaves to choose by default.
    pub(crate) fn parser(&self) -> Parser<'_> {
        let mut options = ParseOptions::default();
        options.native_histograms = true;
        Parser::new(self.format, &self.bytes, options)
    }

    pub(crate) fn format_name(&self) -> &'static str {
        match self.format {
            Format::Text => "text",
            Format::OpenMetrics => "openmetrics",
            _ => "protobuf",
        }
    }
}

/// Two pages as large as those of large targets, and the real ones that the tests have.
pub(crate) fn pages() -> Vec<Page> {
    let text = realistic::text_page(1_000);
    let openmetrics = text.clone() + "# EOF\n";
    let page = |name: &str, format, bytes| Page { name: name.to_owned(), format, bytes };
    let mut pages = vec![
        page("1,000 series, text", Format::Text, text.into_bytes()),
        page("1,000 series, OpenMetrics", Format::OpenMetrics, openmetrics.into_bytes()),
        page("1,000 native histograms, protobuf", Format::Protobuf, native_histograms()),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pages");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let format = match path.extension().and_then(|extension| extension.to_str()) {
            Some("prom") => Format::Text,
            Some("om") => Format::OpenMetrics,
            Some("pb") => Format::Protobuf,
            _ => continue,
        };
        pages.push(page(&name, format, std::fs::read(&path).unwrap()));
    }
    pages
}

/// 1,000 native histograms of 40 buckets, and 400 counters.
fn native_histograms() -> Vec<u8> {
    let mut page = Encoder::new(Format::Protobuf);
    for family in 0..20 {
        let name = format!("rpc_{family}_seconds");
        let mut family = page.family(MetadataView {
            family: &name,
            metric_type: MetricType::Histogram,
            unit: "",
            help: "How long calls take.",
        });
        for route in 0..50 {
            let histogram = Histogram {
                schema: 3,
                zero_threshold: 1e-128,
                sum: 12.5 + f64::from(route),
                counts: BucketCounts::Integer {
                    count: 500,
                    zero_count: 1,
                    positive: (0..40).map(|at| if at % 2 == 0 { 7 + at } else { -5 - at }).collect(),
                    negative: Vec::new(),
                },
                positive_spans: vec![
                    Span { offset: -12, length: 20 },
                    Span { offset: 2, length: 12 },
                    Span { offset: 5, length: 8 },
                ],
                negative_spans: Vec::new(),
                custom_values: Vec::new(),
                reset_hint: ResetHint::default(),
            };
            let point = HistogramPoint { native: Some(&histogram), ..HistogramPoint::default() };
            family.histogram(&labels(&format!("/api/v1/route{route}")), &point);
        }
    }
    for family in 0..20 {
        let name = format!("calls_{family}");
        let mut family = page.family(MetadataView {
            family: &name,
            metric_type: MetricType::Counter,
            unit: "",
            help: "How many there were.",
        });
        for route in 0..20 {
            family.number(&labels(&format!("/api/v1/route{route}")), 12_345.0 + f64::from(route));
        }
    }
    page.finish()
}

fn labels(handler: &str) -> [(&str, &str); 4] {
    [("code", "200"), ("handler", handler), ("method", "GET"), ("namespace", "shop")]
}
