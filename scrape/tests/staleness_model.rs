//! Whatever pages a target shows, what is written equals what a plain model of staleness says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;
use support::{Pages, lines};

#[derive(Clone, Debug)]
enum Scrape {
    /// Series by number, in this order, perhaps repeated; every third has a second spelling.
    Page(Vec<u8>),
    /// A page that breaks after these series.
    Broken(Vec<u8>),
    Empty,
    Unreachable,
    /// The sink asks for every series anew.
    Generation,
}

fn scrape() -> impl Strategy<Value = Scrape> {
    let series = || prop::collection::vec(0u8..24, 0..30);
    prop_oneof![
        6 => series().prop_map(Scrape::Page),
        1 => series().prop_map(Scrape::Broken),
        1 => Just(Scrape::Empty),
        1 => Just(Scrape::Unreachable),
        1 => Just(Scrape::Generation),
    ]
}

fn line(at: usize, series: u8) -> String {
    // The same series, written in two ways.
    if series.is_multiple_of(3) && at.is_multiple_of(2) {
        format!("m{{n=\"{series}\", x=\"y\"}} {at}\n")
    } else {
        format!("m{{x=\"y\",n=\"{series}\"}} {at}\n")
    }
}

fn written(series: u8, value: &str) -> String {
    format!("m{{n=\"{series}\", x=\"y\"}} {value}")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn markers_and_values_are_those_of_the_model(scrapes in prop::collection::vec(scrape(), 1..14)) {
        let mut pages = Pages::new(json!({}));
        let mut live: BTreeSet<u8> = BTreeSet::new();
        for scrape in scrapes {
            let mut expected = Vec::new();
            let mut shown = BTreeSet::new();
            let text = |series: &[u8]| -> String {
                series.iter().enumerate().map(|(at, &series)| line(at, series)).collect()
            };
            let actual = match &scrape {
                Scrape::Page(series) => {
                    for (at, &series) in series.iter().enumerate() {
                        if shown.insert(series) {
                            expected.push(written(series, &at.to_string()));
                        }
                    }
                    pages.text(&(text(series) + "# end\n"))
                }
                Scrape::Broken(series) => pages.text(&(text(series) + "broken{\n")),
                Scrape::Empty => lines(&pages.read("", "").1),
                Scrape::Unreachable => pages.unreachable(),
                Scrape::Generation => {
                    pages.sink.advance_generation();
                    continue;
                }
            };
            let ended = live.difference(&shown).map(|&series| written(series, "stale"));
            let values = expected.len();
            expected.extend(ended);
            live = shown;
            let sorted = |lines: &[String]| -> BTreeSet<String> { lines.iter().cloned().collect() };
            prop_assert_eq!(&actual[..values.min(actual.len())], &expected[..values], "{:?}", scrape);
            prop_assert_eq!(sorted(&actual), sorted(&expected), "{:?}", scrape);
            prop_assert_eq!(actual.len(), expected.len(), "{:?}", scrape);
        }
    }
}
