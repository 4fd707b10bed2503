//! The quick ways give what the whole grammar gives, on any bytes and wherever in a block of the page they fall.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/corpus.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod corpus;
#[path = "support/told.rs"]
mod told;

use promferry_exposition::{Format, LeFormat, ParseOptions, Parser};
use proptest::prelude::*;
use told::told;

fn agrees(format: Format, page: &[u8], options: ParseOptions) {
    let quick = told(Parser::new(format, page, options));
    let careful = told(Parser::without_quick_ways(format, page, options));
    assert_eq!(quick, careful, "{format:?} {options:?} {:?}", String::from_utf8_lossy(page));
}

fn agrees_in_all(page: &[u8]) {
    let mut options = ParseOptions::default();
    agrees(Format::Text, page, options);
    agrees(Format::OpenMetrics, page, options);
    // Each that the quick ways know, alone: what the next ones ask for they leave to the whole grammar.
    for le_format in [LeFormat::Verbatim, LeFormat::Otel] {
        options.le_format = le_format;
        agrees(Format::Text, page, options);
        agrees(Format::OpenMetrics, page, options);
    }
    options.type_and_unit_labels = true;
    options.parse_start_timestamps = true;
    agrees(Format::Text, page, options);
    agrees(Format::OpenMetrics, page, options);
}

#[test]
fn pages_of_the_corpus() {
    // Of the thousands of mutations a quarter is enough beside the properties below.
    for (_, case) in corpus::cases().into_iter().enumerate().filter(|(at, case)| !case.digest || at % 4 == 0)
    {
        agrees(case.format, &case.page, case.options);
    }
}

/// What a byte or two more or less could change: each piece of a sample's line, metadata and what breaks them, at
/// every place of a block and of its neighbour.
#[test]
fn edges_of_blocks() {
    let lines = [
        "a{b=\"?\"} 1",
        "a{b=\"c\"?} 1",
        "a{?b=\"c\"} 1",
        "a?{b=\"c\"} 1",
        "a{b=\"c\",?} 1",
        "a{b?=\"c\"} 1",
        "a{b=?\"c\"} 1",
        "a{b=\"c\"}? 1",
        "a{b=\"c\"} ?1",
        "a{b=\"c\"} 1?",
        "a{b=\"c\"} 1 ?2",
        "a{b=\"c\"} 1.5 2?",
        "a? 1",
        "a:b? 1",
        "a 12345678?",
        "a 1?2345678901234",
        "a 0.123456789?1234",
        "a 1.5e?+09",
        "a -1?",
        "?a 1",
        "a 1 # {b=\"c?\"} 1",
        "a 1 # {b=\"c\"}? 1 2",
        "# HELP a b?c",
        "# HELP a? b",
        "# HELP ?a b",
        "# TYPE a gauge?",
        "# TYPE? a gauge",
        "#? TYPE a gauge",
        "# ?",
    ];
    let inserted: [&[u8]; 19] = [
        b"",
        b"\"",
        b"\n",
        b"}",
        b"{",
        b"#",
        b"\\",
        b"\xc3\xa4",
        b"\x80",
        b"\0",
        b" ",
        b"\t",
        b",",
        b"=",
        b":",
        b"_",
        b"0",
        b"\r",
        b"le=\"1\"",
    ];
    for line in lines {
        let (before, behind) = line.split_once('?').unwrap();
        for piece in inserted {
            for pad in 0..70 {
                // The padding is a part of the line's first name or text, or a line of its own.
                let padding = "p".repeat(pad);
                let pages = [
                    [
                        b"#",
                        padding.as_bytes(),
                        b"\n",
                        before.as_bytes(),
                        piece,
                        behind.as_bytes(),
                        b"\nz 1\n",
                    ]
                    .concat(),
                    [padding.as_bytes(), before.as_bytes(), piece, behind.as_bytes(), b"\n# EOF\n"].concat(),
                ];
                for page in pages {
                    let options = ParseOptions::default();
                    agrees(Format::Text, &page, options);
                    agrees(Format::OpenMetrics, &page, options);
                }
            }
        }
    }
}

/// Lines that begin and end at every place, names and values of every length, around the length of what is looked
/// at in one go.
#[test]
fn lengths() {
    let mut page = String::from("# TYPE a histogram\n");
    for length in (0..140).chain(2000..2120) {
        let text = "x".repeat(length);
        page += &format!("a{text}{{b=\"{text}\",b{text}=\"c\",le=\"1\"}} {length}\n");
        page += &format!("a{text} 1.{length}\n# HELP a {text}\n# {text}\n");
    }
    agrees(Format::Text, page.as_bytes(), ParseOptions::default());
    agrees(Format::Text, page.trim_end().as_bytes(), ParseOptions::default());
    agrees(Format::OpenMetrics, format!("{page}# EOF\n").as_bytes(), ParseOptions::default());
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "a",
        "a{b=\"c\"}",
        "a{b=\"c\",le=\"1\"} 12",
        "{\"a\"}",
        "{\"a.b\",c=\"d\"} 1",
        "{",
        "}",
        "\"",
        "\"} 1\n",
        "=\"",
        ",",
        "\\",
        "\\\"",
        " ",
        " 1",
        " 1\n",
        " 2 3\n",
        "\n",
        "# TYPE a histogram\n",
        "# TYPE a summary\n",
        "# TYPE a counter",
        "# HELP a ",
        "# HELP a b\n",
        "# UNIT a_b b\n",
        "#",
        "# ",
        "le=\"1\"",
        "quantile=\"0.50\"",
        "le=\"+Inf\"} 7\n",
        "a{le=\"1\"}",
        " # {x=\"}\"} 1",
        " # {x=\"y\",z=\"w\"} 1.5 2.5\n",
        "a_created 1.5\n",
        "\t",
        "b",
        "=",
        "_",
        ":",
        "0",
        "+Inf",
        "NaN",
        " 1.7e+09\n",
        " 0.001234\n",
        " -12345678.5\n",
        " 123456789012345 1700000000000\n",
        " 1_0\n",
        " 0x1p2\n",
        "\u{e4}",
        "\0",
        "\r",
        "# EOF",
    ]);
    prop_oneof![
        20 => pieces.prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        1 => (1..100_usize).prop_map(|length| "n".repeat(length).into_bytes()),
        1 => "[0-9.eE+-]{0,24}\n?".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_pages(pieces in prop::collection::vec(piece(), 0..30), ended: bool) {
        let mut page = pieces.concat();
        if ended {
            page.extend_from_slice(b"\n# EOF\n");
        }
        agrees_in_all(&page);
    }

    #[test]
    fn any_bytes(page in prop::collection::vec(any::<u8>(), 0..200)) {
        agrees_in_all(&page);
    }

    #[test]
    fn any_number(number in "[-+]?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][-+]?[0-9]{0,3})?", time in "( [0-9.]{1,20})?") {
        agrees_in_all(format!("a {number}{time}\n# EOF\n").as_bytes());
        agrees_in_all(format!("# TYPE a histogram\nabc{{le=\"{number}\",x=\"y\"}} {number}{time}\n# EOF\n").as_bytes());
    }
}
