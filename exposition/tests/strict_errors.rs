//! Which rule a page breaks in strict mode, where, and in what words.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::StrictRule::{
    Exemplar, ExemplarPlace, Grouping, Histogram, Labels, Metadata, MetadataOrder, Name, NameClash, Page,
    RequiredLabel, SampleName, SampleValue, Timestamp, Unit, Value,
};
use promferry_exposition::{StrictRule, validate};

/// Judges `lines` with `# EOF` behind them.
fn judge(lines: &str) -> Result<(), (StrictRule, usize, usize, String)> {
    match validate(format!("{lines}\n# EOF\n").as_bytes()) {
        Ok(_) => Ok(()),
        Err(refused) => Err((
            refused.rule,
            refused.error.line().unwrap(),
            refused.error.column().unwrap(),
            refused.error.problem().to_owned(),
        )),
    }
}

#[track_caller]
fn refused(cases: &[(&str, StrictRule, usize, usize, &str)]) {
    for &(lines, rule, line, column, problem) in cases {
        assert_eq!(judge(lines), Err((rule, line, column, problem.to_owned())), "{lines}");
    }
}

#[track_caller]
fn accepted(pages: &[&str]) {
    for page in pages {
        assert_eq!(judge(page), Ok(()), "{page}");
    }
}

#[test]
fn an_error_says_place_problem_rule_and_section() {
    let error = validate(b"# TYPE a counter\na_total{b=\"c\"} -1\n# EOF\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 16 (byte 32): expected a value that is not negative, at \"-1\"; rule sample-value: totals, \
         counts, buckets and sums are neither NaN nor negative, counts and buckets are integers, quantiles are not \
         negative, info is 1, a state is 0 or 1 (OpenMetrics 1.0, Metric Types)"
    );
}

#[test]
fn columns_count_bytes_and_characters() {
    let error = validate("a{b=\"äö\"}  1\n# EOF\n".as_bytes()).unwrap_err();
    assert_eq!((error.error.column(), error.error.column_chars()), (Some(13), Some(11)));
    assert_eq!((error.rule, error.error.offset()), (Value, 12));
}

#[test]
fn every_rule_has_a_name_a_text_and_a_section() {
    for (at, rule) in StrictRule::ALL.into_iter().enumerate() {
        assert!(!rule.text().ends_with('.') && rule.text().len() > 20, "{rule}");
        assert!(!rule.section().is_empty(), "{rule}");
        assert!(StrictRule::ALL[..at].iter().all(|other| other.to_string() != rule.to_string()), "{rule}");
    }
}

#[test]
fn the_frame_of_a_page() {
    for (page, line, column, problem) in [
        (&b""[..], 1, 1, "page does not end with # EOF"),
        (b"\n", 1, 1, "an empty line"),
        (b"a 1\n", 2, 1, "page does not end with # EOF"),
        (b"a 1", 1, 4, "page does not end with # EOF"),
        (b"a 1\n# EO", 2, 5, "page does not end with # EOF"),
        (b"# EOF\n\n", 2, 1, "text after # EOF"),
        (b"# EOF\na 1\n# EOF\n", 2, 1, "text after # EOF"),
        (b"a 1\n\n# EOF\n", 2, 1, "an empty line"),
        (b"a 1\r\n# EOF\r\n", 1, 4, "a carriage return at the end of a line"),
        (b"# HELP a b\r\n# EOF\n", 1, 11, "a carriage return at the end of a line"),
        (b"a{b=\"\xff\"} 1\n# EOF\n", 1, 6, "not UTF-8"),
        (b"# HELP a \xc3\n# EOF\n", 1, 10, "not UTF-8"),
    ] {
        let error = validate(page).unwrap_err();
        assert_eq!(
            (error.rule, error.error.line(), error.error.column(), error.error.problem()),
            (Page, Some(line), Some(column), problem),
            "{page:?}"
        );
    }
    for page in [&b"# EOF"[..], b"# EOF\n", b"a 1\n# EOF"] {
        assert!(validate(page).is_ok(), "{page:?}");
    }
    // A byte order mark is no part of a name.
    assert_eq!(validate(b"\xef\xbb\xbf# EOF\n").unwrap_err().rule, Name);
}

#[test]
fn what_a_valid_page_holds() {
    let page = b"# TYPE a gauge\n# TYPE b gauge\nb 1\nb{c=\"d\"} 2\ne 3\n# EOF\n";
    let validated = validate(page).unwrap();
    assert_eq!((validated.families, validated.samples), (3, 3));
}

#[test]
fn metadata() {
    refused(&[
        ("# TYPE a counter ", Metadata, 1, 10, "expected one of the eight types"),
        ("# TYPE a Counter", Metadata, 1, 10, "expected one of the eight types"),
        ("# TYPE a untyped", Metadata, 1, 10, "expected one of the eight types"),
        ("# TYPE a", Metadata, 1, 9, "expected one blank after the name"),
        ("# HELP a", Metadata, 1, 9, "expected one blank after the name"),
        ("# HELP a\tb", Metadata, 1, 9, "expected one blank after the name"),
        ("# HELP a b\\", Metadata, 1, 12, "a backslash escapes the end of the line"),
        ("# FOO a b", Metadata, 1, 1, "expected # TYPE, # HELP, # UNIT or # EOF"),
        ("#TYPE a gauge", Metadata, 1, 1, "expected # TYPE, # HELP, # UNIT or # EOF"),
        ("# EOF ", Metadata, 1, 1, "expected # TYPE, # HELP, # UNIT or # EOF"),
        ("# TYPE 1a gauge", Name, 1, 8, "expected a name"),
        ("# TYPE  a gauge", Name, 1, 8, "expected a name"),
        ("# TYPE \"\" gauge", Name, 1, 8, "a name is not empty"),
        ("# TYPE \"a gauge", Labels, 1, 16, "expected a double quote to end the text"),
        ("# TYPE a gauge\n# TYPE a gauge", MetadataOrder, 2, 8, "a second TYPE of the family"),
        ("# HELP a \n# HELP a ", MetadataOrder, 2, 8, "a second HELP of the family"),
        ("# UNIT a \n# UNIT a ", MetadataOrder, 2, 8, "a second UNIT of the family"),
        ("a 1\n# HELP a b", MetadataOrder, 2, 8, "metadata of a family whose samples have begun"),
    ]);
    accepted(&[
        "# HELP a ",
        "# HELP a  b ",
        "# HELP a b\\\\",
        "# HELP a \"b\"\\x",
        "# UNIT a \n# TYPE a info",
        "# HELP \"ä b\" c\n# TYPE \"ä b\" gauge\n{\"ä b\"} 1",
    ]);
}

#[test]
fn names_and_labels() {
    refused(&[
        ("1a 1", Name, 1, 1, "expected a name"),
        (" a 1", Name, 1, 1, "expected a name"),
        ("a.b 1", Value, 1, 2, "expected one blank and a value after the series"),
        ("{} 1", Name, 1, 1, "expected a metric's name"),
        ("{a=\"b\"} 1", Name, 1, 1, "expected a metric's name"),
        ("{a=\"b\",\"c\"} 1", Labels, 1, 11, "expected = after the label's name"),
        ("a{\"b\"} 1", Labels, 1, 6, "expected = after the label's name"),
        ("{\"\"} 1", Name, 1, 2, "a name is not empty"),
        ("a {b=\"c\"} 1", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a{ b=\"c\"} 1", Labels, 1, 3, "expected a label's name"),
        ("a{b:c=\"d\"} 1", Labels, 1, 4, "expected = after the label's name"),
        ("a{1=\"b\"} 1", Labels, 1, 3, "expected a label's name"),
        ("a{b=\"c\",} 1", Labels, 1, 9, "expected a label's name"),
        ("a{,b=\"c\"} 1", Labels, 1, 3, "expected a label's name"),
        ("a{b=\"c\",,d=\"e\"} 1", Labels, 1, 9, "expected a label's name"),
        ("a{b=\"c\" ,d=\"e\"} 1", Labels, 1, 8, "expected a comma or a closing brace"),
        ("a{b=\"c\"d=\"e\"} 1", Labels, 1, 8, "expected a comma or a closing brace"),
        ("a{b= \"c\"} 1", Labels, 1, 5, "expected a text in double quotes"),
        ("a{b='c'} 1", Labels, 1, 5, "expected a text in double quotes"),
        ("a{b=\"c} 1", Labels, 1, 10, "expected a double quote to end the text"),
        ("a{b=\"c\\\"} 1", Labels, 1, 12, "expected a double quote to end the text"),
        ("a{b=\"c\"", Labels, 1, 8, "expected a comma or a closing brace"),
        ("a{c=\"\",b=\"c\",c=\"\",b=\"d\"} 1", Labels, 1, 14, "the label is there already"),
        ("a{b=\"c\",\"b\"=\"d\"} 1", Labels, 1, 9, "the label is there already"),
    ]);
    accepted(&[
        "a{} 1",
        "a:b{_c=\"\"} 1",
        "a{b=\"\\z\\\\\\\"\\n{}, \"} 1",
        "{\"a\"} 1",
        "{\"a b\",c=\"d\"} 1",
        "a{\"b c\"=\"d\"} 1",
        "a{b=\"\0\t\"} 1",
    ]);
}

#[test]
fn numbers() {
    refused(&[
        ("a", Value, 1, 2, "expected one blank and a value after the series"),
        ("a ", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a  1", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a\t1", Value, 1, 2, "expected one blank and a value after the series"),
        ("a 0x1", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a 1_0", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a +NaN", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a Infin", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a ٣", Value, 1, 3, "expected a decimal number, NaN or Inf"),
        ("a 1e400", Value, 1, 3, "number out of the range of a 64-bit float"),
        ("a 1 ", Timestamp, 1, 5, "expected a timestamp in decimal seconds or the end of the line"),
        ("a 1  2", Timestamp, 1, 5, "expected a timestamp in decimal seconds or the end of the line"),
        ("a 1 NaN", Timestamp, 1, 5, "expected a timestamp in decimal seconds or the end of the line"),
        ("a 1 +Inf", Timestamp, 1, 5, "expected a timestamp in decimal seconds or the end of the line"),
        ("a 1 1e400", Timestamp, 1, 5, "number out of the range of a 64-bit float"),
        ("a 1 2 3", Timestamp, 1, 6, "expected the end of the line"),
    ]);
    accepted(&[
        "a nan",
        "a +iNf",
        "a -INFINITY",
        "a 1.",
        "a .5e-3",
        "a 0042",
        "a 1e-400",
        "a -1 -1.5E3",
        "a 1 0.0",
    ]);
}

#[test]
fn exemplars() {
    let counter = |sample: &str| format!("# TYPE a counter\na_total {sample}");
    for (sample, rule, column, problem) in [
        ("1 # ", Exemplar, 13, "expected the exemplar's labels in braces"),
        ("1 # 1", Exemplar, 13, "expected the exemplar's labels in braces"),
        ("1 #{} 1", Exemplar, 11, "expected an exemplar, which starts with # {"),
        ("1 2 #{} 1", Exemplar, 12, "expected the end of the line"),
        ("1 # {}", Exemplar, 15, "expected one blank and the exemplar's value"),
        ("1 # {}1", Exemplar, 15, "expected one blank and the exemplar's value"),
        ("1 # {\"b\"} 1", Exemplar, 14, "an exemplar has no name"),
        ("1 # {b=\"c\",} 1", Labels, 20, "expected a label's name"),
        ("1 # {} x", Value, 16, "expected a decimal number, NaN or Inf"),
        ("1 # {} 1 inf", Timestamp, 18, "expected a timestamp in decimal seconds or the end of the line"),
        ("1 # {} 1 2 3", Exemplar, 19, "expected the end of the line"),
    ] {
        assert_eq!(judge(&counter(sample)), Err((rule, 2, column, problem.to_owned())), "{sample}");
    }
    let exemplar = |name: &str, value: &str| format!("1 # {{{name}=\"{value}\"}} 1");
    let too_long = "more than 128 characters in the exemplar's labels";
    assert_eq!(judge(&counter(&exemplar("b", &"ä".repeat(127)))), Ok(()));
    assert_eq!(
        judge(&counter(&exemplar("b", &"ä".repeat(128)))),
        Err((ExemplarPlace, 2, 11, too_long.to_owned()))
    );
    refused(&[
        ("a 1 # {} 1", ExemplarPlace, 1, 5, "only buckets and counters' _total have exemplars"),
        (
            "# TYPE a counter\na_total 1\na_created 1 # {} 1",
            ExemplarPlace,
            3,
            13,
            "only buckets and counters' _total have exemplars",
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"1\"} 1 # {} 1.5\na_bucket{le=\"+Inf\"} 1",
            ExemplarPlace,
            2,
            25,
            "the exemplar's value is above the bucket's bound",
        ),
    ]);
    accepted(&["# TYPE a histogram\na_bucket{le=\"1\"} 1 # {} 1\na_bucket{le=\"+Inf\"} 1 # {} NaN 3"]);
}

#[test]
fn units() {
    refused(&[
        ("# UNIT a b", Unit, 1, 10, "unit is not a suffix of the family's name"),
        ("# UNIT b b", Unit, 1, 10, "unit is not a suffix of the family's name"),
        ("# UNIT a_b b\n# TYPE a_b info", Unit, 1, 12, "info and stateset have no unit"),
        ("# TYPE a_b stateset\n# UNIT a_b b", Unit, 2, 12, "info and stateset have no unit"),
    ]);
    accepted(&["# UNIT a_b b\n# TYPE a_b counter\na_b_total 1", "# UNIT _b b"]);
}

#[test]
fn families_that_clash_or_come_twice() {
    refused(&[
        (
            "# TYPE a counter\n# TYPE a_created gauge",
            NameClash,
            2,
            8,
            "a family that could have the sample name of one on line 1, with no suffix",
        ),
        (
            "# TYPE a_sum gauge\n# TYPE b gauge\n# TYPE a summary",
            NameClash,
            3,
            8,
            "a family that could have the sample name of one on line 1, with _sum",
        ),
        (
            "a 1\nb 1\na 1",
            NameClash,
            3,
            1,
            "a family that could have the sample name of one on line 1, with no suffix",
        ),
        (
            "# TYPE a info\na_info 1\nb 1\na_info{c=\"d\"} 1",
            NameClash,
            4,
            1,
            "a family that could have the sample name of one on line 1, with no suffix",
        ),
        (
            "# TYPE a counter\na_total 1\n# TYPE b counter\nb_total 1\n# TYPE a counter\na_total{c=\"d\"} 1",
            NameClash,
            5,
            8,
            "a family that could have the sample name of one on line 1, with no suffix",
        ),
    ]);
    accepted(&[
        "# TYPE a counter\n# TYPE a_sum gauge\n# TYPE a_count gauge",
        "# TYPE a gauge\n# TYPE a_total gauge",
    ]);
}

#[test]
fn samples_of_a_type() {
    refused(&[
        ("# TYPE a counter\na 1", SampleName, 2, 1, "a sample of type counter needs a suffix"),
        ("# TYPE a histogram\na 1", SampleName, 2, 1, "a sample of type histogram needs a suffix"),
        ("# TYPE a counter\na_created 1", SampleName, 2, 1, "a counter without a sample _total"),
        (
            "# TYPE a counter\na_total 1\na_created{b=\"c\"} 1\na_total{d=\"e\"} 1",
            SampleName,
            3,
            1,
            "a counter without a sample _total",
        ),
        ("# TYPE a histogram\na_bucket 1", RequiredLabel, 2, 1, "a bucket without the label le"),
        ("# TYPE a summary\na 1", RequiredLabel, 2, 1, "a quantile without the label quantile"),
        (
            "# TYPE a stateset\na{b=\"c\"} 1",
            RequiredLabel,
            2,
            1,
            "a state without the label of the family's name",
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"Inf\"} 1",
            RequiredLabel,
            2,
            13,
            "expected a bucket's bound, a decimal number or +Inf",
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"NaN\"} 1",
            RequiredLabel,
            2,
            13,
            "expected a bucket's bound, a decimal number or +Inf",
        ),
        ("# TYPE a summary\na{quantile=\"1.1\"} 1", RequiredLabel, 2, 12, "expected a quantile from 0 to 1"),
        ("# TYPE a summary\na{quantile=\"NaN\"} 1", RequiredLabel, 2, 12, "expected a quantile from 0 to 1"),
        (
            "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count{le=\"1\"} 1",
            RequiredLabel,
            3,
            9,
            "only buckets have the label le, only quantiles the label quantile",
        ),
        (
            "# TYPE a summary\na_sum{b=\"c\",quantile=\"1\"} 1",
            RequiredLabel,
            2,
            13,
            "only buckets have the label le, only quantiles the label quantile",
        ),
    ]);
    accepted(&[
        "# TYPE a counter\na_created 1\na_total 1",
        "# TYPE a summary\na{quantile=\"0.5\"} NaN\na{quantile=\"1e-1\"} 1\na_count 2",
        "# TYPE a stateset\na{a=\"on\"} 1\na{a=\"off\"} 0",
        "# TYPE a gauge\na{le=\"x\",quantile=\"y\"} 1",
    ]);
}

#[test]
fn histograms() {
    let histogram = |samples: &str| format!("# TYPE a histogram\n{samples}");
    let gauge = |samples: &str| format!("# TYPE a gaugehistogram\n{samples}");
    let not_closed = "a histogram without the bucket +Inf at the end of its buckets";
    for (page, line, column, problem) in [
        (histogram("a_bucket{le=\"1\"} 1"), 2, 1, not_closed),
        (histogram("a_created 1"), 2, 1, not_closed),
        (histogram("a_bucket{b=\"c\",le=\"1\"} 1\na_bucket{b=\"d\",le=\"+Inf\"} 1"), 2, 1, not_closed),
        (
            histogram("a_bucket{le=\"+Inf\"} 1\na_bucket{le=\"1\"} 1"),
            3,
            1,
            "the bounds of a histogram's buckets do not rise",
        ),
        (
            histogram("a_bucket{le=\"1\"} 1\na_bucket{le=\"1.0\"} 1"),
            3,
            1,
            "the bounds of a histogram's buckets do not rise",
        ),
        (
            histogram("a_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1"),
            3,
            21,
            "the counts of a histogram's buckets fall",
        ),
        (
            histogram("a_count 1\na_sum 1\na_bucket{le=\"+Inf\"} 1"),
            2,
            1,
            "a histogram's count or sum before its buckets",
        ),
        (histogram("a_bucket{le=\"+Inf\"} 1\na_count 1"), 3, 9, "a histogram's count without a sum"),
        (histogram("a_bucket{le=\"+Inf\"} 1\na_sum 1"), 3, 7, "a histogram's sum without a count"),
        (
            histogram("a_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2"),
            4,
            9,
            "the count differs from that of the bucket +Inf",
        ),
        (
            histogram("a_bucket{le=\"-1\"} 0\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1"),
            4,
            7,
            "a sum although a bucket has a negative bound",
        ),
        (
            gauge("a_bucket{le=\"1\"} 0\na_bucket{le=\"+Inf\"} 1\na_gsum -1\na_gcount 1"),
            4,
            8,
            "a negative sum although no bucket has a negative bound",
        ),
        // The second point of a metric is judged like the first.
        (
            histogram(
                "a_bucket{le=\"+Inf\"} 1 1\na_count 1 1\na_sum 1 1\na_bucket{le=\"+Inf\"} 2 2\na_sum 1 2",
            ),
            6,
            7,
            "a histogram's sum without a count",
        ),
    ] {
        assert_eq!(judge(&page), Err((Histogram, line, column, problem.to_owned())), "{page}");
    }
    let closed = [
        histogram("a_bucket{le=\"+Inf\"} 1"),
        histogram("a_created 1\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1"),
        histogram(
            "a_bucket{le=\"1\"} 1 1\na_bucket{le=\"+Inf\"} 1 1\na_bucket{le=\"1\"} 1 2\na_bucket{le=\"+Inf\"} 1 2",
        ),
        gauge("a_bucket{le=\"-1\"} 0\na_bucket{le=\"+Inf\"} 1\na_gsum -1\na_gcount 1"),
    ];
    accepted(&closed.each_ref().map(String::as_str));
}

#[test]
fn values() {
    let refusal = |metric_type: &str, sample: &str, problem: &str| {
        let judged = judge(&format!("# TYPE a {metric_type}\n{sample}"));
        let (rule, line, _, said) = judged.unwrap_err();
        assert_eq!((rule, line, said.as_str()), (SampleValue, 2, problem), "{metric_type} {sample}");
    };
    for (metric_type, samples) in [
        ("counter", &["a_total"][..]),
        ("histogram", &["a_bucket{le=\"+Inf\"}", "a_sum", "a_count"]),
        ("gaugehistogram", &["a_bucket{le=\"+Inf\"}", "a_gcount"]),
        ("summary", &["a_sum", "a_count"]),
    ] {
        for sample in samples {
            refusal(metric_type, &format!("{sample} NaN"), "expected a number, not NaN");
            refusal(metric_type, &format!("{sample} -0.5"), "expected a value that is not negative");
        }
    }
    for (metric_type, sample) in [
        ("histogram", "a_bucket{le=\"+Inf\"} 1.5"),
        ("histogram", "a_count 1.5"),
        ("gaugehistogram", "a_gcount 1.5"),
        ("summary", "a_count 1.5"),
        ("summary", "a_count +Inf"),
    ] {
        refusal(metric_type, sample, "expected an integer");
    }
    refusal("gaugehistogram", "a_gsum NaN", "expected a number, not NaN");
    refusal("summary", "a{quantile=\"1\"} -1", "expected a quantile's value that is not negative");
    refusal("info", "a_info 0", "the value of an info is 1");
    refusal("stateset", "a{a=\"b\"} 0.5", "the value of a state is 0 or 1");
    refusal("stateset", "a{a=\"b\"} NaN", "the value of a state is 0 or 1");
    accepted(&[
        "# TYPE a counter\na_total +Inf",
        "# TYPE a summary\na_count 1e3",
        "# TYPE a info\na_info 1.0",
    ]);
}

#[test]
fn metrics_that_do_not_stand_together() {
    let apart = "the samples of a metric do not stand together";
    let twice = "the sample is there already";
    refused(&[
        // Each metric is complete, so that nothing but its way of standing is wrong.
        ("# TYPE a gauge\na{b=\"1\"} 1 1\na{b=\"2\"} 1 1\na{b=\"1\"} 1 2", Grouping, 4, 1, apart),
        ("# TYPE a summary\na_count{b=\"1\"} 1\na_count{b=\"2\"} 1\na_sum{b=\"1\"} 1", Grouping, 4, 1, apart),
        (
            "# TYPE a counter\na_total{b=\"1\"} 1\na_total{b=\"2\"} 1\na_created{b=\"2\"} 1\na_total{b=\"1\"} 1",
            Grouping,
            5,
            1,
            apart,
        ),
        (
            "# TYPE a histogram\na_bucket{b=\"1\",le=\"+Inf\"} 1\na_bucket{b=\"2\",le=\"+Inf\"} 1\na_created{b=\"1\"} 1",
            Grouping,
            4,
            1,
            apart,
        ),
        (
            "# TYPE a stateset\na{b=\"1\",a=\"x\"} 1\na{a=\"x\"} 1\na{a=\"y\",b=\"1\"} 1",
            Grouping,
            4,
            1,
            apart,
        ),
        ("a{b=\"1\",c=\"2\"} 1\na 1\na{c=\"2\",b=\"1\"} 1", Grouping, 3, 1, apart),
        ("a 1\na 1", Grouping, 2, 1, twice),
        ("# TYPE a info\na_info{b=\"1\"} 1\na_info{b=\"1\"} 1", Grouping, 3, 1, twice),
        ("# TYPE a summary\na{quantile=\"0.5\"} 1\na{quantile=\"0.50\"} 1", Grouping, 3, 1, twice),
        ("# TYPE a summary\na{quantile=\"0\"} 1\na{quantile=\"-0.0\"} 1", Grouping, 3, 1, twice),
        ("# TYPE a stateset\na{a=\"x\"} 1\na{a=\"y\"} 1\na{a=\"x\"} 1", Grouping, 4, 1, twice),
        ("a 1 2\na 1 1.999999999999999999999", Grouping, 2, 5, "the metric's timestamps go back"),
        ("a 1 1\na 1", Grouping, 2, 1, "samples of one metric with and without timestamps"),
        ("a 1\na 1 1", Grouping, 2, 5, "samples of one metric with and without timestamps"),
        (
            "# TYPE a summary\na_count 1 1\na_count 1 2\na_sum 1 1",
            Grouping,
            4,
            9,
            "the metric's timestamps go back",
        ),
    ]);
    accepted(&[
        "a{b=\"1\"} 1 2\na{b=\"2\"} 1 1",
        "a{b=\"1\"} 1 2\na{b=\"2\"} 1",
        "a 1 1\na 1 1.0000000000000000000000000001\na 1 1.5",
        // As the test data has it.
        "a 1 1\na 2 1",
        // Labels, not their texts one after the other.
        "a{b=\"c\",d=\"e\"} 1\na{b=\"cd\",e=\"\"} 1",
    ]);
}
