//! Mutations of pages in the text formats: of bytes, tokens, lines, numbers and names.

use std::ops::Range;

use promferry_exposition::Format;
use promferry_model::SeededRng;

use super::below;
use super::traps::PIECES;

/// Some lines of the page with one mutation, in every tenth two.
pub(crate) fn mutate(lines: &[Vec<u8>], format: Format, rng: &mut SeededRng) -> Vec<u8> {
    let mut mutant = Mutant { lines: window(lines, rng), rng };
    for _ in 0..1 + usize::from(mutant.one_in(10)) {
        mutant.mutate(lines);
    }
    let has_end = format != Format::Text && !mutant.one_in(30);
    let mut page = mutant.lines.concat();
    if has_end {
        page.extend_from_slice(b"# EOF\n");
    }
    // Bytes are changed last, so that there is an end to change too.
    match below(rng, 4) {
        0 if !page.is_empty() => change_byte(&mut page, rng),
        1 if !page.is_empty() => change_byte_at_the_edge_of_a_block(&mut page, rng),
        _ => {}
    }
    page
}

/// What [`mutate`] takes for a page: its lines without the end.
pub(crate) fn lines(page: &[u8]) -> Vec<Vec<u8>> {
    page.split_inclusive(|&b| b == b'\n').filter(|line| *line != b"# EOF\n").map(<[u8]>::to_vec).collect()
}

/// A family or more of the page, or lines from the midst of one.
fn window(lines: &[Vec<u8>], rng: &mut SeededRng) -> Vec<Vec<u8>> {
    let mut first = below(rng, lines.len());
    if below(rng, 4) > 0 {
        while first > 0 && (!lines[first].starts_with(b"#") || lines[first - 1].starts_with(b"#")) {
            first -= 1;
        }
    }
    let bytes = 300 + below(rng, 900);
    let mut length = 0;
    lines[first..]
        .iter()
        .take_while(|line| {
            length += line.len();
            length <= bytes || length == line.len()
        })
        .cloned()
        .collect()
}

struct Mutant<'a> {
    lines: Vec<Vec<u8>>,
    rng: &'a mut SeededRng,
}

impl Mutant<'_> {
    fn mutate(&mut self, page: &[Vec<u8>]) {
        match below(self.rng, 12) {
            0..=2 => self.change_token(),
            3 | 4 => self.change_lines(page),
            5 | 6 => self.change_value(),
            7 => self.change_name(),
            8 => self.change_bound(),
            9 => self.add_to_sample(),
            10 => self.add_piece(),
            // Left to the bytes.
            _ => {}
        }
    }

    fn one_in(&mut self, bound: usize) -> bool {
        below(self.rng, bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[below(self.rng, from.len())]
    }

    /// A line's number, of a sample three times in four.
    fn line(&mut self) -> usize {
        for _ in 0..8 {
            let at = below(self.rng, self.lines.len());
            if !self.lines[at].starts_with(b"#") || self.one_in(6) {
                return at;
            }
        }
        0
    }

    fn change_token(&mut self) {
        let at = self.line();
        let tokens = tokens(&self.lines[at]);
        let (one, other) = (below(self.rng, tokens.len()), below(self.rng, tokens.len()));
        let line = self.lines[at].clone();
        let mut pieces: Vec<&[u8]> = tokens.iter().map(|token| &line[token.clone()]).collect();
        match below(self.rng, 4) {
            0 => drop(pieces.remove(one)),
            1 => pieces.insert(one, pieces[one]),
            2 => pieces.swap(one, other),
            _ => pieces[one] = pieces[other],
        }
        self.lines[at] = pieces.concat();
    }

    fn change_lines(&mut self, page: &[Vec<u8>]) {
        let (one, other) = (below(self.rng, self.lines.len()), below(self.rng, self.lines.len()));
        match below(self.rng, 5) {
            0 => drop(self.lines.remove(one)),
            1 => self.lines.insert(other, self.lines[one].clone()),
            2 => self.lines.swap(one, other),
            3 => {
                let stranger = window(page, self.rng).swap_remove(0);
                self.lines.insert(one, stranger);
            }
            // A TYPE or another comment comes after what it is about.
            _ => {
                if let Some(comment) = self.lines.iter().position(|line| line.starts_with(b"#")) {
                    let comment = self.lines.remove(comment);
                    let to = below(self.rng, self.lines.len() + 1);
                    self.lines.insert(to, comment);
                }
            }
        }
        if self.lines.is_empty() {
            self.lines.push(b"a 1\n".to_vec());
        }
    }

    fn change_value(&mut self) {
        let at = self.line();
        let Some(value) = value_of(&self.lines[at]) else { return };
        let number = self.pick(NUMBERS);
        self.lines[at].splice(value, number.bytes());
    }

    fn change_name(&mut self) {
        let at = self.line();
        let line = &self.lines[at];
        let names: Vec<Range<usize>> = tokens(line)
            .into_iter()
            .filter(|token| line[token.start].is_ascii_alphabetic() || line[token.start] == b'"')
            .collect();
        if names.is_empty() {
            return;
        }
        let name = names[below(self.rng, names.len())].clone();
        let hostile = self.pick(NAMES);
        self.lines[at].splice(name, hostile.iter().copied());
    }

    /// Another `le` or `quantile`, or a label that becomes one.
    fn change_bound(&mut self) {
        let at = self.line();
        let line = &self.lines[at];
        let Some(brace) = line.iter().position(|&b| b == b'{') else { return };
        let Some(equals) = line[brace..].iter().position(|&b| b == b'=').map(|offset| brace + offset) else {
            return;
        };
        let value = tokens(line).into_iter().find(|token| token.start == equals + 1);
        let Some(value) = value else { return };
        let number = self.pick(NUMBERS);
        self.lines[at].splice(value, format!("\"{number}\"").bytes());
        let name = self.pick(&["le", "quantile", "le", "\"le\"", "__name__", "__type__", "__unit__"]);
        if !self.one_in(2) {
            self.lines[at].splice(brace + 1..equals, name.bytes());
        }
    }

    /// A timestamp, exemplar or rest where there is none.
    fn add_to_sample(&mut self) {
        let at = self.line();
        let end = self.lines[at].len().saturating_sub(1);
        let rest = match below(self.rng, 4) {
            0 => format!(" {}", self.pick(NUMBERS)),
            1 => format!(" # {{trace_id=\"a\"}} {}", self.pick(NUMBERS)),
            2 => format!(" # {{a=\"b\",c=\"d\"}} 0.5 {}", self.pick(NUMBERS)),
            _ => self
                .pick(&[
                    " ",
                    "\t",
                    "\r",
                    "  # ",
                    " # {",
                    " #{}",
                    " # {} 1",
                    " st@5",
                    "\0",
                    " # {le=\"1\"} 1 2 3",
                ])
                .to_owned(),
        };
        self.lines[at].splice(end..end, rest.into_bytes());
    }

    fn add_piece(&mut self) {
        let at = self.line();
        let to = below(self.rng, self.lines[at].len() + 1);
        let piece = self.pick(PIECES);
        self.lines[at].splice(to..to, piece.bytes());
    }
}

fn change_byte(page: &mut Vec<u8>, rng: &mut SeededRng) {
    let at = below(rng, page.len());
    change_byte_at(page, at, rng);
}

/// Such a change at one of the first or last bytes of a block of 16, 32 or 64 bytes: what parsers look at at once.
fn change_byte_at_the_edge_of_a_block(page: &mut Vec<u8>, rng: &mut SeededRng) {
    let wanted = [0, 15, 16, 31, 32, 47, 48, 63][below(rng, 8)];
    let mut at = below(rng, page.len());
    // The first line's name or text becomes longer by as much as is missing.
    let missing = (64 + wanted - at % 64) % 64;
    let to =
        page.iter().position(|&b| b == b' ').map_or(0, |blank| if page[0] == b'#' { blank + 6 } else { 1 });
    if to < at {
        page.splice(to..to, std::iter::repeat_n(b'x', missing));
        at += missing;
    }
    change_byte_at(page, at, rng);
}

fn change_byte_at(page: &mut Vec<u8>, at: usize, rng: &mut SeededRng) {
    match below(rng, 9) {
        0 => page[at] ^= 1 << below(rng, 8),
        1 => page[at] |= 0x80,
        2 => page[at] = 0,
        3 => page[at] = b'\r',
        4 => page[at] = b"\"\\\n{},= \t#_:0e+"[below(rng, 15)],
        5 => page.insert(at, b"\"\\\n{},= \t#_:0e+"[below(rng, 15)]),
        6 => drop(page.remove(at)),
        7 => drop(page.splice(at..at, "\u{fc}".bytes())),
        _ => page.truncate(at),
    }
}

/// What a line is made of, from its start to its end: words, quoted texts, runs of blanks, single signs.
fn tokens(line: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let rest = &line[at..];
        let length = match rest[0] {
            b'"' => {
                let mut end = 1;
                while end < rest.len() && rest[end] != b'"' {
                    end += if rest[end] == b'\\' { 2 } else { 1 };
                }
                (end + 1).min(rest.len())
            }
            b' ' | b'\t' => run(rest, |b| b == b' ' || b == b'\t'),
            first if is_word(first) => run(rest, is_word),
            _ => 1,
        };
        tokens.push(at..at + length);
        at += length;
    }
    tokens
}

fn run(bytes: &[u8], belongs: fn(u8) -> bool) -> usize {
    bytes.iter().position(|&b| !belongs(b)).unwrap_or(bytes.len())
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_:.+-@".contains(&byte)
}

/// The first word after the series, or a later one.
fn value_of(line: &[u8]) -> Option<Range<usize>> {
    let tokens = tokens(line);
    let after = tokens.iter().rposition(|token| line[token.start] == b'}').unwrap_or(0);
    tokens[after + 1..].iter().find(|token| is_word(line[token.start])).cloned()
}

/// Spellings of numbers, and some that are none.
pub(crate) const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "+0",
    "1",
    "1.0",
    "01",
    "1.",
    ".5",
    ".",
    "-",
    "+",
    "",
    "1e3",
    "1E3",
    "1e+3",
    "1e-3",
    "1e",
    "1e+",
    "e1",
    "1e400",
    "-1e400",
    "1e-400",
    "1e22",
    "1e23",
    "123456789012345678",
    "1234567890123456789",
    "12345678901234567890",
    "18446744073709551616",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "0.1",
    "0.30000000000000004",
    "0.000001",
    "0.0000001",
    "123456.789",
    "1234567.0",
    "100000",
    "999999",
    "1000000",
    "0.00001",
    "99999999999999999999999",
    "3.141592653589793",
    "2.2250738585072011e-308",
    "4.9e-324",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "NaN",
    "nan",
    "+NaN",
    "-NaN",
    "Inf",
    "+Inf",
    "-Inf",
    "inf",
    "Infinity",
    "-INFINITY",
    "infinit",
    "0x1",
    "0x1p-2",
    "0x.8p1",
    "1_000",
    "1__0",
    "_1",
    "1,5",
    "1z",
    "true",
    "--1",
    "1605301325.123",
    "1605301325.1239",
    "1e999999999999",
    "0e999999",
    "00000000000000000000000000000000001",
    "0.00000000000000000000000000000000001",
    "1.5e3.5",
    "\u{661}",
];

/// Names that are none, or stand for something else.
const NAMES: &[&[u8]] = &[
    b"a",
    b"__name__",
    b"le",
    b"quantile",
    b"\"le\"",
    b"\"\"",
    b"\"a.b\"",
    b"\"a b\"",
    b"\"a\\\"b\"",
    b"\"a\\nb\"",
    b"\"a",
    b"a\"",
    b"1a",
    b":a",
    b"a:b",
    b"a-b",
    b"a.b",
    b"\xc3\xbc",
    b"\xff",
    b"\"\xff\"",
    b"\"\xc3\xbc\"",
    b"a\xe2\x82",
    b"{",
    b"}",
    b"HELP",
    b"TYPE",
    b"UNIT",
    b"EOF",
    b"histogram",
    b"summary",
    b"counter",
    b"unknown",
    b"gaugehistogram",
    b"a_total",
    b"a_created",
    b"a_bucket",
    b"a_count",
    b"a_sum",
    b"a_info",
    b"\0",
    b"a\0b",
];
