//! Pages of any size that would cost a careless reader more than their length.

use crate::protobuf_bytes::{delimited, double, field, number, varint};

/// A page of about as many bytes as asked for.
pub(crate) type MakePage = fn(usize) -> Vec<u8>;

/// For the text formats and strict mode.
pub(crate) const TEXT: &[(&str, MakePage)] = &[
    ("opening braces", |size| repeated("{", size)),
    ("closing braces", |size| repeated("}", size)),
    ("quotes", |size| repeated("\"", size)),
    ("backslashes", |size| repeated("\\", size)),
    ("hashes", |size| repeated("#", size)),
    ("blanks", |size| repeated(" ", size)),
    ("line feeds", |size| repeated("\n", size)),
    ("NUL", |size| repeated("\0", size)),
    ("no UTF-8", |size| vec![0xff; size]),
    ("one name", |size| repeated("a", size)),
    ("lines of HELP without a name", |size| repeated("# HELP\n", size)),
    ("lines of HELP", |size| repeated("# HELP a \n", size)),
    ("comments", |size| repeated("# \n", size)),
    ("one HELP", |size| framed("# HELP a ", &repeated("b", size), "\na 1\n")),
    ("one HELP of backslashes", |size| framed("# HELP a ", &repeated("\\\\", size), "\na 1\n")),
    ("one comment", |size| framed("#", &repeated("\" {", size), "\na 1\n")),
    ("a metadata line to each sample", |size| repeated("# TYPE a gauge\na 1\n", size)),
    ("a family to each sample", |size| numbered(size, |n| format!("# TYPE a{n} counter\na{n}_total 1\n"))),
    ("samples of no family", |size| numbered(size, |n| format!("a{n} 1\n"))),
    ("a family that clashes with its own", |size| {
        numbered(size, |n| format!("# UNIT a{n}_b b\n# UNIT a{n}_b_b b\n"))
    }),
    ("a long family and short samples", |size| {
        framed(&format!("# TYPE {} histogram\n", "a".repeat(size / 2)), &repeated("a 1\n", size / 2), "")
    }),
    ("samples of a long name", |size| {
        let name = "a".repeat(isqrt(size));
        framed(&format!("# TYPE {name} gauge\n"), &repeated(&format!("{name}{{b=\"c\"}} 1\n"), size), "")
    }),
    ("one label's value", |size| framed("a{b=\"", &repeated("c", size), "\"} 1\n")),
    ("one label's value of escapes", |size| framed("a{b=\"", &repeated("\\n", size), "\"} 1\n")),
    ("one label's value of backslashes", |size| framed("a{b=\"", &repeated("\\\\", size), "\"} 1\n")),
    ("one label's value of quotes", |size| framed("a{b=\"", &repeated("\\\"", size), "\"} 1\n")),
    ("one label's value without an end", |size| framed("a{b=\"", &repeated("c\\\"", size), "} 1\n")),
    ("one label's value of braces and hashes", |size| framed("a{b=\"", &repeated("} # {", size), "\"} 1\n")),
    ("one label's value of wide characters", |size| {
        framed("a{b=\"", &repeated("\u{1f980}", size), "\"} 1\n")
    }),
    ("one label's value of no UTF-8", |size| framed("a{b=\"", &vec![0xff; size], "\"} 1\n")),
    ("one label's name", |size| framed("a{", &repeated("b", size), "=\"c\"} 1\n")),
    ("one label's name in quotes", |size| framed("a{\"", &repeated("b ", size), "\"=\"c\"} 1\n")),
    ("labels", |size| framed("a{", &numbered(size, |n| format!("b{n}=\"c\",")), "z=\"\"} 1\n")),
    ("labels in falling order", |size| {
        framed("a{", &numbered(size, |n| format!("b{}=\"c\",", u32::MAX - n)), "a=\"\"} 1\n")
    }),
    ("labels of one name", |size| framed("a{", &repeated("b=\"c\",", size), "b=\"c\"} 1\n")),
    ("labels le", |size| {
        framed("# TYPE a histogram\na_bucket{", &repeated("le=\"1\",", size), "le=\"1\"} 1\n")
    }),
    ("labels quantile", |size| {
        framed("# TYPE a summary\na{", &repeated("quantile=\"1e-1\",", size), "quantile=\"1\"} 1\n")
    }),
    ("labels __type__", |size| {
        framed("# TYPE a gauge\na{", &repeated("__type__=\"b\",", size), "c=\"d\"} 1\n")
    }),
    ("names in braces", |size| framed("{", &repeated("\"a\",", size), "\"a\"} 1\n")),
    ("commas", |size| framed("a{b=\"c\"", &repeated(",", size), "} 1\n")),
    ("label values without an end", |size| repeated("a{b=\"c} 1\n", size)),
    ("metrics", |size| framed("# TYPE a gauge\n", &numbered(size, |n| format!("a{{b=\"{n}\"}} {n}\n")), "")),
    ("one value", |size| framed("a ", &repeated("1", size), "\n")),
    ("one value of zeros", |size| framed("a 0.", &repeated("0", size), "1\n")),
    ("one value's exponent", |size| framed("a 1e", &repeated("9", size), "\n")),
    ("one value of underscores", |size| framed("a 1", &repeated("_1", size), "\n")),
    ("one hexadecimal value", |size| framed("a 0x", &repeated("f", size), "p1\n")),
    ("one bound", |size| framed("# TYPE a histogram\na_bucket{le=\"", &repeated("1", size), "\"} 1\n")),
    ("one timestamp", |size| framed("a 1 ", &repeated("1", size), "\n")),
    ("timestamps of many digits", |size| {
        let digits = "0".repeat(isqrt(size));
        numbered(size, |n| format!("a 1 {digits}{n}.{digits}1\n"))
    }),
    ("points", |size| framed("# TYPE a gauge\n", &numbered(size, |n| format!("a 1 {n}\n")), "")),
    ("created after each total", |size| {
        framed(
            "# TYPE a counter\n",
            &numbered(size, |n| format!("a_total{{b=\"{n}\"}} 1\na_created{{b=\"{n}\"}} 1\n")),
            "",
        )
    }),
    ("created before all totals", |size| {
        let created = numbered(size / 2, |n| format!("a_created{{b=\"{n}\"}} 1\n"));
        let totals = numbered(size / 2, |n| format!("a_total{{b=\"{n}\"}} 1\n"));
        [b"# TYPE a counter\n", &created[..], &totals].concat()
    }),
    ("created after all totals", |size| {
        let totals = numbered(size / 2, |n| format!("a_total{{b=\"{n}\"}} 1\n"));
        let created = numbered(size / 2, |n| format!("a_created{{b=\"{n}\"}} 1\n"));
        [b"# TYPE a counter\n", &totals[..], &created].concat()
    }),
    ("created alone", |size| framed("# TYPE a counter\n", &repeated("a_created 1\n", size), "")),
    ("totals without created, then another family", |size| {
        framed(
            "# TYPE a counter\n",
            &numbered(size, |n| format!("a_total{{b=\"{n}\"}} 1\n")),
            "# TYPE b gauge\nb 1\n",
        )
    }),
    ("histograms with created", |size| {
        framed(
            "# TYPE a histogram\n",
            &numbered(size, |n| {
                format!(
                    "a_bucket{{b=\"{n}\",le=\"+Inf\"}} 1\na_count{{b=\"{n}\"}} 1\na_created{{b=\"{n}\"}} 1\n"
                )
            }),
            "",
        )
    }),
    ("exemplars", |size| framed("# TYPE a counter\n", &repeated("a_total 1 # {b=\"c\"} 1 1\n", size), "")),
    ("exemplars that cannot be read", |size| {
        framed("# TYPE a counter\n", &repeated("a_total 1 # {b=\"c} 1\n", size), "")
    }),
    ("one exemplar's labels", |size| {
        framed("# TYPE a counter\na_total 1 # {", &numbered(size, |n| format!("b{n}=\"c\",")), "z=\"\"} 1\n")
    }),
    ("rising buckets of one histogram", |size| {
        framed(
            "# TYPE a histogram\n",
            &numbered(size, |n| format!("a_bucket{{le=\"{n}\"}} {n}\n")),
            "a_bucket{le=\"+Inf\"} 1e9\n",
        )
    }),
    ("falling buckets of one histogram", |size| {
        framed(
            "# TYPE a histogram\n",
            &numbered(size, |n| format!("a_bucket{{le=\"{}\"}} 1\n", 1_000_000 - n)),
            "",
        )
    }),
    ("equal buckets of one histogram", |size| {
        framed("# TYPE a histogram\n", &repeated("a_bucket{le=\"1\"} 1\n", size), "")
    }),
    ("histograms of one bucket", |size| {
        framed(
            "# TYPE a histogram\n",
            &numbered(size, |n| format!("a_bucket{{b=\"{n}\",le=\"+Inf\"}} 1\n")),
            "",
        )
    }),
    ("interleaved histograms", |size| {
        framed(
            "# TYPE a histogram\n",
            &repeated("a_bucket{b=\"1\",le=\"1\"} 1\na_bucket{b=\"2\",le=\"1\"} 1\n", size),
            "",
        )
    }),
    ("quantiles of one summary", |size| {
        framed("# TYPE a summary\n", &numbered(size, |n| format!("a{{quantile=\"0.{n}1\"}} 1\n")), "")
    }),
    ("states of one state set", |size| {
        framed("# TYPE a stateset\n", &numbered(size, |n| format!("a{{a=\"{n}\"}} 1\n")), "")
    }),
    ("points of a state set, the first one large", |size| {
        let states = numbered(size / 2, |n| format!("a{{a=\"{n}\"}} 1 1\n"));
        let points = numbered(size / 2, |n| format!("a{{a=\"0\"}} 1 {}\n", n + 2));
        [b"# TYPE a stateset\n", &states[..], &points].concat()
    }),
    ("one composite value's buckets", |size| {
        framed(
            "# TYPE a histogram\na {count:1,sum:1,bucket:[",
            &numbered(size, |n| format!("{n}:1,")),
            "+Inf:1]}\n",
        )
    }),
    ("one composite value's buckets, and a label", |size| {
        // Each bucket gives the label, so it is short.
        let label = "c".repeat(isqrt(size));
        let buckets = numbered(size, |n| format!("{n}:1,"));
        let series = format!("# TYPE a histogram\na{{b=\"{label}\"}} {{count:1,sum:1,bucket:[");
        framed(&series, &buckets, "+Inf:1]}\n")
    }),
    ("one composite value's buckets, and a label that gives way", |size| {
        let label = "c".repeat(size / 2);
        let buckets = numbered(size / 2, |n| format!("{n}:1,"));
        let series = format!("# TYPE a histogram\na{{__type__=\"{label}\"}} {{count:1,sum:1,bucket:[");
        framed(&series, &buckets, "+Inf:1]}\n")
    }),
    ("one composite value's buckets, and blanks behind a label", |size| {
        let blanks = " ".repeat(size / 2);
        let buckets = numbered(size / 2, |n| format!("{n}:1,"));
        let series = format!("# TYPE a histogram\na{{b=\"c\",{blanks}}} {{count:1,sum:1,bucket:[");
        framed(&series, &buckets, "+Inf:1]}\n")
    }),
    ("one composite value's falling buckets", |size| {
        framed(
            "# TYPE a histogram\na {count:1,sum:1,bucket:[",
            &numbered(size, |n| format!("{}:1,", 1_000_000 - n)),
            "+Inf:1]}\n",
        )
    }),
    ("one composite value's quantiles", |size| {
        framed(
            "# TYPE a summary\na {count:1,sum:1,quantile:[",
            &numbered(size, |n| format!("0.{n}1:1,")),
            "1:1]}\n",
        )
    }),
    ("one composite value's spans", |size| {
        framed(
            "# TYPE a histogram\na {count:1,sum:1,schema:0,zero_threshold:0,zero_count:1,positive_spans:[",
            &repeated("0:0,", size),
            "1:1],positive_buckets:[1]}\n",
        )
    }),
    ("composite values", |size| {
        framed(
            "# TYPE a histogram\n",
            &repeated("a {count:1,sum:1,bucket:[1:1,+Inf:1]} 1 st@1 # {b=\"c\"} 1 1\n", size),
            "",
        )
    }),
    ("one line's exemplars", |size| {
        framed("# TYPE a counter\na 1", &repeated(" # {b=\"c\"} 1 1", size), "\n")
    }),
    ("one composite value's buckets and exemplars", |size| {
        let buckets = numbered(size / 2, |n| format!("{n}:1,"));
        let exemplars = numbered(size / 2, |n| format!(" # {{}} {n} 1"));
        [b"# TYPE a histogram\na {count:1,sum:1,bucket:[", &buckets[..], b"+Inf:1]}", &exemplars, b"\n"]
            .concat()
    }),
];

/// For protobuf.
pub(crate) const PROTOBUF: &[(&str, MakePage)] = &[
    ("zeros", |size| vec![0; size]),
    ("bytes of varints that go on", |size| vec![0xff; size]),
    ("empty families", |size| repeat_bytes(&delimited(&field(1, b"a")), size)),
    ("one family's name", |size| delimited(&[field(1, &vec![b'a'; size]), metric(&gauge(1.0))].concat())),
    ("families of the longest varints", |size| {
        let family = [
            field(1, b"a"),
            repeat_bytes(&[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], size),
        ];
        delimited(&family.concat())
    }),
    ("unknown fields", |size| delimited(&[field(1, b"a"), repeat_bytes(&[0x78, 1], size)].concat())),
    ("groups in groups", |size| {
        let groups = [field(1, b"a"), vec![0x7b; size / 2], vec![0x7c; size / 2]];
        delimited(&groups.concat())
    }),
    ("groups without an end", |size| delimited(&[field(1, b"a"), vec![0x7b; size]].concat())),
    ("names of one family", |size| delimited(&repeat_bytes(&field(1, b"a"), size))),
    ("gauges", |size| {
        delimited(&[field(1, b"a"), number(3, 1), repeat_bytes(&metric(&gauge(1.0)), size)].concat())
    }),
    ("metrics of nothing", |size| {
        delimited(&[field(1, b"a"), number(3, 1), repeat_bytes(&metric(&[]), size)].concat())
    }),
    ("labels of one metric", |size| {
        let label = field(1, &[field(1, b"b"), field(2, b"c")].concat());
        histogram_family(&repeat_bytes(&label, size), &[], &[])
    }),
    ("labels and buckets of one metric", |size| {
        // Each bucket gives all labels, so there is more to give than was read.
        let label = field(1, &[field(1, b"b"), field(2, b"c")].concat());
        let labels = repeat_bytes(&label, isqrt(size));
        histogram_family(&labels, &repeat_bytes(&bucket(1, 1.0, &[]), isqrt(size)), &[])
    }),
    ("labels and buckets of one metric, the labels given way", |size| {
        // As many of both, and hardly a label is given.
        let label = field(1, &field(1, b"__type__"));
        let labels = repeat_bytes(&label, size / 2);
        histogram_family(&labels, &repeat_bytes(&bucket(1, 1.0, &[]), size / 2), &[])
    }),
    ("a label of many names, and buckets", |size| {
        let label = field(1, &repeat_bytes(&field(1, b"b"), size / 2));
        histogram_family(&label, &repeat_bytes(&bucket(1, 1.0, &[]), size / 2), &[])
    }),
    ("parts of one histogram", |size| {
        let part = field(7, &bucket(1, 1.0, &[]));
        delimited(&[field(1, b"a"), number(3, 4), metric(&repeat_bytes(&part, size))].concat())
    }),
    ("parts of one histogram between two labels", |size| {
        let label = field(1, &[field(1, b"b"), field(2, b"c")].concat());
        let parts = repeat_bytes(&field(7, &bucket(1, 1.0, &[])), size);
        let metric = metric(&[&label[..], &parts, &label].concat());
        delimited(&[field(1, b"a"), number(3, 4), metric].concat())
    }),
    ("parts of one histogram among labels", |size| {
        // Each bucket gives all labels, so there are fewer of them.
        let label = field(1, &[field(1, b"b"), field(2, b"c")].concat());
        let part = field(7, &bucket(1, 1.0, &[]));
        let labels_and_parts = [label, part.clone()].concat();
        let metric = [repeat_bytes(&labels_and_parts, isqrt(size)), repeat_bytes(&part, size)].concat();
        delimited(&[field(1, b"a"), number(3, 4), self::metric(&metric)].concat())
    }),
    ("parts of one summary", |size| {
        let part = field(4, &field(3, &[double(1, 0.5), double(2, 1.0)].concat()));
        delimited(&[field(1, b"a"), number(3, 2), metric(&repeat_bytes(&part, size))].concat())
    }),
    ("parts of one native histogram", |size| {
        let part = field(7, &[field(12, &[0x10, 1]), field(13, &[2])].concat());
        let parts = [field(7, &native()), repeat_bytes(&part, size)].concat();
        delimited(&[field(1, b"a"), number(3, 4), metric(&parts)].concat())
    }),
    ("buckets of one histogram", |size| {
        histogram_family(&[], &numbered_bytes(size, |n| bucket(u64::from(n), f64::from(n), &[])), &[])
    }),
    ("falling buckets of one histogram", |size| {
        histogram_family(&[], &numbered_bytes(size, |n| bucket(1, -f64::from(n), &[])), &[])
    }),
    ("buckets without anything", |size| histogram_family(&[], &repeat_bytes(&field(3, &[]), size), &[])),
    ("buckets with exemplars", |size| {
        histogram_family(&[], &numbered_bytes(size, |n| bucket(u64::from(n), f64::from(n), &exemplar())), &[])
    }),
    ("exemplars of one native histogram", |size| {
        histogram_family(&[], &native(), &repeat_bytes(&field(16, &exemplar()), size))
    }),
    ("exemplars of one native histogram, of its buckets too", |size| {
        let buckets = numbered_bytes(size / 2, |n| bucket(u64::from(n), f64::from(n), &exemplar()));
        histogram_family(&[], &[native(), buckets].concat(), &repeat_bytes(&field(16, &exemplar()), size / 2))
    }),
    ("exemplars of one bucket", |size| {
        histogram_family(&[], &field(3, &repeat_bytes(&field(3, &exemplar()), size)), &[])
    }),
    ("labels of one exemplar", |size| {
        let label = field(1, &[field(1, b"b"), field(2, b"c")].concat());
        histogram_family(&[], &bucket(1, 1.0, &repeat_bytes(&label, size)), &[])
    }),
    ("spans of nothing", |size| {
        histogram_family(&[], &native(), &repeat_bytes(&field(12, &[0x10, 0]), size))
    }),
    ("spans of one bucket", |size| {
        let spans = repeat_bytes(&field(12, &[0x08, 2, 0x10, 1]), size * 5 / 6);
        let deltas = repeat_bytes(&[0x68, 2], size / 6);
        histogram_family(&[], &native(), &[spans, deltas].concat())
    }),
    ("deltas", |size| {
        let deltas = vec![2; size];
        let span = field(12, &[vec![0x10], varint(size as u64)].concat());
        histogram_family(&[], &native(), &[span, field(13, &deltas)].concat())
    }),
    ("deltas of the longest varints", |size| {
        let delta = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        let span = field(12, &[vec![0x10], varint((size / 10) as u64)].concat());
        histogram_family(&[], &native(), &[span, field(13, &repeat_bytes(&delta, size / 10 * 10))].concat())
    }),
    ("deltas that are not packed", |size| {
        let span = field(12, &[vec![0x10], varint((size / 2) as u64)].concat());
        histogram_family(&[], &native(), &[span, repeat_bytes(&[0x68, 0], size)].concat())
    }),
    ("empty buckets to be left out", |size| {
        let deltas: Vec<u8> = (0..size)
            .map(|n| {
                if n % 4 == 0 {
                    2
                } else if n % 4 == 1 {
                    1
                } else {
                    0
                }
            })
            .collect();
        let span = field(12, &[vec![0x10], varint(size as u64)].concat());
        histogram_family(&[], &native(), &[span, field(13, &deltas)].concat())
    }),
    ("a span of more buckets than there can be", |size| {
        let span = field(12, &[vec![0x10], varint(u64::from(u32::MAX))].concat());
        histogram_family(&[], &native(), &repeat_bytes(&span, size))
    }),
    ("native histograms", |size| {
        let histogram = [native(), field(12, &[0x10, 2]), field(13, &[2, 0])].concat();
        let metrics = repeat_bytes(&metric(&field(7, &histogram)), size);
        delimited(&[field(1, b"a"), number(3, 4), metrics].concat())
    }),
    ("quantiles of one summary", |size| {
        let quantile = field(3, &[double(1, 0.5), double(2, 1.0)].concat());
        let summary = metric(&field(4, &repeat_bytes(&quantile, size)));
        delimited(&[field(1, b"a"), number(3, 2), summary].concat())
    }),
    ("one HELP", |size| {
        delimited(&[field(1, b"a"), field(2, &vec![b'b'; size]), metric(&gauge(1.0))].concat())
    }),
    ("one label of no UTF-8", |size| {
        let label = field(1, &[field(1, b"b"), field(2, &vec![0xff; size])].concat());
        delimited(&[field(1, b"a"), number(3, 1), metric(&[label, gauge(1.0)].concat())].concat())
    }),
];

fn repeated(text: &str, size: usize) -> Vec<u8> {
    text.repeat(size / text.len()).into_bytes()
}

fn repeat_bytes(bytes: &[u8], size: usize) -> Vec<u8> {
    bytes.repeat(size / bytes.len())
}

fn framed(before: &str, middle: &[u8], after: &str) -> Vec<u8> {
    [before.as_bytes(), middle, after.as_bytes()].concat()
}

fn numbered(size: usize, text: impl Fn(u32) -> String) -> Vec<u8> {
    numbered_bytes(size, |n| text(n).into_bytes())
}

fn numbered_bytes(size: usize, bytes: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut page = Vec::new();
    for n in 0.. {
        if page.len() >= size {
            break;
        }
        page.extend(bytes(n));
    }
    page
}

fn isqrt(size: usize) -> usize {
    size.isqrt()
}

fn metric(content: &[u8]) -> Vec<u8> {
    field(4, content)
}

fn gauge(value: f64) -> Vec<u8> {
    field(2, &double(1, value))
}

fn bucket(cumulative_count: u64, upper_bound: f64, exemplar: &[u8]) -> Vec<u8> {
    let exemplar = if exemplar.is_empty() { Vec::new() } else { field(3, exemplar) };
    field(3, &[number(1, cumulative_count), double(2, upper_bound), exemplar].concat())
}

fn exemplar() -> Vec<u8> {
    let label = field(1, &[field(1, b"b"), field(2, b"c")].concat());
    [label, double(2, 1.0), field(3, &number(1, 1))].concat()
}

/// What makes a histogram a native one: its schema and zero threshold.
fn native() -> Vec<u8> {
    [number(5, 6), double(6, 1e-9)].concat()
}

/// A family of one histogram, of labels and two parts of its content.
fn histogram_family(labels: &[u8], first: &[u8], second: &[u8]) -> Vec<u8> {
    let histogram = field(7, &[first, second].concat());
    delimited(&[field(1, b"a"), number(3, 4), metric(&[labels, &histogram].concat())].concat())
}
