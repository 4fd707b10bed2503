//! Pages that are read otherwise than by Prometheus, on purpose.

use promferry_exposition::{Format, ParseOptions};

use super::corpus::Case;
use crate::protobuf_bytes::{delimited, double, field, number};

/// What is different, and how the page is read here.
pub(crate) struct Difference {
    pub(crate) case: Case,
    pub(crate) here: &'static [&'static str],
}

pub(crate) fn differences() -> Vec<Difference> {
    let mut started = ParseOptions::default();
    started.parse_start_timestamps = true;
    let mut native = ParseOptions::default();
    native.native_histograms = true;
    let plain = ParseOptions::default();
    let difference = |name: &str, format, options, page: Vec<u8>, here| Difference {
        case: Case { name: name.to_owned(), format, options, page, digest: false },
        here,
    };
    vec![
        // Prometheus takes the exemplars of a family's first native histogram only: it looks for those of the next ones behind
        // the last of the first.
        difference(
            "exemplars of every native histogram",
            Format::Protobuf,
            native,
            family("h", 4, &[histogram("a", &[1], 1, true), histogram("b", &[1], 1, true)]),
            &[
                "help \"h\" \"\"",
                "type \"h\" histogram",
                "histogram {\"__name__\"=\"h\",\"l\"=\"a\"} integer schema=0 threshold=3f50624dd2f1a9fc zero=0 count=1 sum=4000000000000000 positive=<0:1>[1] negative=<>[] gauge=false",
                "exemplar {\"t\"=\"a\"} 3fe0000000000000 @1000",
                "histogram {\"__name__\"=\"h\",\"l\"=\"b\"} integer schema=0 threshold=3f50624dd2f1a9fc zero=0 count=1 sum=4000000000000000 positive=<0:1>[1] negative=<>[] gauge=false",
                "exemplar {\"t\"=\"b\"} 3fe0000000000000 @1000",
                "end",
            ],
        ),
        // Prometheus looks whether there are as many buckets as the spans have in the first metric of a family only.
        difference(
            "a family's second native histogram has fewer buckets than its spans",
            Format::Protobuf,
            native,
            family("h", 4, &[histogram("a", &[1], 1, false), histogram("b", &[1], 2, false)]),
            &["refused"],
        ),
        // Prometheus gives a metric of unknown type that has no value the value of the one before it, even of another family.
        difference(
            "a metric of unknown type without a value",
            Format::Protobuf,
            plain,
            family("u", 3, &[field(5, &double(1, 7.5)), vec![]]),
            &[
                "help \"u\" \"\"",
                "type \"u\" unknown",
                "series {\"__name__\"=\"u\"} 401e000000000000",
                "series {\"__name__\"=\"u\"} 0000000000000000",
                "end",
            ],
        ),
        // Prometheus looks for start timestamps beyond an exemplar that it cannot read, and does not come to an end.
        difference(
            "a start timestamp is looked for beyond a broken exemplar",
            Format::OpenMetrics,
            started,
            b"# TYPE c counter\nc_total{a=\"b\"} 1\nc_total{a=\"c\"} 1 # {b=x} 1\nc_created{a=\"b\"} 1.5\n# EOF\n".to_vec(),
            &["refused"],
        ),
        // Prometheus takes as many bytes of a series as its family's name has, and panics where the page has no more.
        difference(
            "a family's name is longer than what is left of the page",
            Format::OpenMetrics,
            started,
            b"# TYPE the_family_whose_name_is_longer_than_the_rest histogram\nd_bucket{le=\"1\"} 0\n# EOF\n".to_vec(),
            &[
                "type \"the_family_whose_name_is_longer_than_the_rest\" histogram",
                "series {\"__name__\"=\"d_bucket\",\"le\"=\"1.0\"} 0000000000000000",
                "end",
            ],
        ),
    ]
}

fn family(name: &str, metric_type: u64, metrics: &[Vec<u8>]) -> Vec<u8> {
    let metrics = metrics.iter().flat_map(|metric| field(4, metric)).collect();
    delimited(&[field(1, name.as_bytes()), number(3, metric_type), metrics].concat())
}

/// A metric with this label, one span of this length and these deltas.
fn histogram(label: &str, deltas: &[u8], span: u64, exemplar: bool) -> Vec<u8> {
    let pair = |name: &str| field(1, &[field(1, name.as_bytes()), field(2, label.as_bytes())].concat());
    let deltas: Vec<u8> = deltas.iter().map(|delta| delta << 1).collect();
    let mut histogram = [number(1, 1), double(2, 2.0), number(5, 0), double(6, 0.001)].concat();
    histogram.extend(field(12, &[number(1, 0), number(2, span)].concat()));
    histogram.extend(field(13, &deltas));
    if exemplar {
        histogram.extend(field(16, &[pair("t"), double(2, 0.5), field(3, &number(1, 1))].concat()));
    }
    [pair("l"), field(7, &histogram)].concat()
}
