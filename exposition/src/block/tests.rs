use proptest::prelude::*;

use super::*;

/// The ends of lines, then for each byte whether it is unusual, a quote, of a name.
fn marks(instructions: Instructions, page: &[u8], base: usize) -> (Vec<usize>, Vec<[bool; 3]>) {
    let mut lines = LineMarks::new(b'#');
    lines.instructions = instructions;
    lines.mark(page, base, false);
    let ends = (0..lines.count).map(|at| base + usize::from(lines.ends[at])).collect();
    let mut labels = LabelMarks::new();
    labels.mark(page, &lines);
    let end = page.len().min(base + WINDOW_BYTES);
    let of_bytes = (base..end)
        .map(|at| {
            [
                lines.has_unusual(at, at + 1),
                labels.quotes(at - base, 1).next() == Some(0),
                labels.are_of_names(at - base, 1),
            ]
        })
        .collect();
    let quotes = page[base..end].iter().enumerate().filter(|(_, byte)| **byte == b'"').map(|(at, _)| at);
    assert!(labels.quotes(0, end - base).eq(quotes));
    (ends, of_bytes)
}

fn expected(page: &[u8], base: usize) -> (Vec<usize>, Vec<[bool; 3]>) {
    let end = page.len().min(base + WINDOW_BYTES);
    let ends = (base..end).filter(|&at| page[at] == b'\n').collect();
    let of_bytes = page[base..end]
        .iter()
        .map(|&byte| {
            [
                matches!(byte, b'\\' | b'#' | 0 | 0x80..),
                byte == b'"',
                byte.is_ascii_alphanumeric() || byte == b'_',
            ]
        })
        .collect();
    (ends, of_bytes)
}

#[test]
fn every_byte() {
    let page: Vec<u8> = (0..=255).collect();
    for instructions in Instructions::all() {
        assert_eq!(marks(instructions, &page, 0), expected(&page, 0), "{instructions:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_instructions_mark_the_same(
        page in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\n\"\\#a{=,} \0_:".to_vec())], 1..5000),
        base in any::<prop::sample::Index>(),
    ) {
        let base = base.index(page.len());
        let expected = expected(&page, base);
        for instructions in Instructions::all() {
            prop_assert_eq!(&marks(instructions, &page, base), &expected, "{:?}", instructions);
        }
    }

    #[test]
    fn lengths_are_those_of_runs(page in "[a\" ]{0,300}", at in 0..300_usize, length in 1..65_usize) {
        let mut lines = LineMarks::new(b'#');
        lines.mark(page.as_bytes(), 0, true);
        let mut labels = LabelMarks::new();
        labels.mark(page.as_bytes(), &lines);
        if let Some(rest) = page.get(at..).filter(|rest| rest.len() > 64) {
            prop_assert_eq!(labels.name_length(at), rest.find(|c| c != 'a').unwrap_or(64).min(64));
            prop_assert_eq!(labels.are_of_names(at, length), rest[..length].bytes().all(|c| c == b'a'));
            prop_assert_eq!(labels.quotes(at, rest.len()).next(), rest.find('"'));
            prop_assert_eq!(labels.quotes(at, length).next(), rest[..length].find('"'));
        }
    }
}
