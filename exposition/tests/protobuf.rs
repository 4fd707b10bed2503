//! The quick ways over a protobuf page say what the careful ones say, of any bytes.

#[path = "support/told.rs"]
mod told;

use promferry_exposition::{Event, Format, LabelBuffer, LeFormat, ParseError, ParseOptions, Parser};
use promferry_model::{Rng, SeededRng};
use proptest::prelude::*;
use told::told;

fn agree(page: &[u8]) {
    for flags in 0..32_u8 {
        let mut options = ParseOptions::default();
        options.native_histograms = flags & 1 != 0;
        options.always_classic_histograms = flags & 2 != 0;
        options.parse_start_timestamps = flags & 4 == 0;
        options.type_and_unit_labels = flags & 8 != 0;
        options.convert_classic_to_custom_buckets = flags & 16 != 0;
        options.le_format = if flags & 4 == 0 { LeFormat::Prometheus3 } else { LeFormat::Otel };
        let quick = told(Parser::new(Format::Protobuf, page, options));
        assert_eq!(
            quick,
            told(Parser::without_quick_ways(Format::Protobuf, page, options)),
            "{options:?} {page:02x?}"
        );
    }
}

/// A page of families as clients write them, and now and then as nobody does.
struct Writer {
    rng: SeededRng,
    /// One in so many things is odd; 0 for none.
    oddity: u64,
}

impl Writer {
    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn is_odd(&mut self) -> bool {
        self.oddity > 0 && self.below(self.oddity) == 0
    }

    fn varint(&mut self, mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        if self.is_odd() {
            // As many bytes as are allowed, or more.
            let longer = self.below(11) as usize;
            while bytes.len() <= longer {
                *bytes.last_mut().unwrap_or(&mut 0) |= 0x80;
                bytes.push(0);
            }
        }
        bytes
    }

    fn number(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => self.below(130),
            2 => self.below(100_000),
            3 => u64::MAX - self.below(3),
            _ => self.rng.next_u64(),
        }
    }

    fn double(&mut self) -> Vec<u8> {
        let doubles = [0.0, 1.0, 0.5, -0.0, 2.5, 1e6, f64::INFINITY, f64::NAN, -3.0, 1e-128, 0.005];
        let at = self.below(doubles.len() as u64) as usize;
        doubles[at].to_le_bytes().to_vec()
    }

    /// A field, whose wire type and number may be wrong.
    fn field(&mut self, number: u64, wire: u64, content: &[u8]) -> Vec<u8> {
        let number = if self.is_odd() { self.below(20) } else { number };
        let wire = if self.is_odd() { self.below(8) } else { wire };
        let mut field = self.varint(number << 3 | wire);
        if wire == 2 {
            let off = u64::from(self.is_odd() && self.is_odd());
            let length = self.varint(content.len() as u64 + off);
            field.extend(length);
        }
        field.extend_from_slice(content);
        field
    }

    fn integer(&mut self, number: u64) -> Vec<u8> {
        let value = self.number();
        let content = self.varint(value);
        self.field(number, 0, &content)
    }

    fn small(&mut self, number: u64, bound: u64) -> Vec<u8> {
        let value = self.below(bound);
        let content = self.varint(value);
        self.field(number, 0, &content)
    }

    fn float(&mut self, number: u64) -> Vec<u8> {
        let content = self.double();
        self.field(number, 1, &content)
    }

    fn text(&mut self, number: u64) -> Vec<u8> {
        let texts = ["a", "code", "", "\u{fc}ber", "__name__", "__type__", "__unit__", "le", "seconds"];
        let at = self.below(texts.len() as u64) as usize;
        let mut text = texts[at].as_bytes().to_vec();
        if self.is_odd() {
            text = vec![b'x'; 100 + self.below(60) as usize];
        }
        if self.is_odd() {
            text.push(0xc3);
        }
        self.field(number, 2, &text)
    }

    /// A message of some of these fields, in their order but for odd ones, some of which come twice.
    fn message(&mut self, number: u64, fields: &[fn(&mut Self) -> Vec<u8>]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut written: Vec<Vec<u8>> = Vec::new();
        for field in fields {
            if self.below(5) > 0 {
                written.push(field(self));
            }
            if self.is_odd() {
                written.push(field(self));
            }
        }
        if self.is_odd() && written.len() > 1 {
            let at = self.below(written.len() as u64 - 1) as usize;
            written.swap(at, at + 1);
        }
        for field in written {
            content.extend(field);
        }
        self.field(number, 2, &content)
    }

    fn several(&mut self, bound: u64, field: fn(&mut Self) -> Vec<u8>) -> Vec<u8> {
        (0..self.below(bound)).flat_map(|_| field(self)).collect()
    }

    fn label(&mut self) -> Vec<u8> {
        self.message(1, &[|w| w.text(1), |w| w.text(2)])
    }

    fn time(&mut self, number: u64) -> Vec<u8> {
        self.message(number, &[|w| w.integer(1), |w| w.integer(2)])
    }

    fn exemplar(&mut self, number: u64) -> Vec<u8> {
        self.message(number, &[|w| w.several(3, Self::label), |w| w.float(2), |w| w.time(3)])
    }

    fn bucket(&mut self) -> Vec<u8> {
        self.message(
            3,
            &[
                |w| w.integer(1),
                |w| w.float(2),
                |w| w.several(2, |w| w.exemplar(3)),
                |w| w.several(2, |w| w.float(4)),
            ],
        )
    }

    fn value(&mut self, number: u64) -> Vec<u8> {
        match number {
            3 => self.message(3, &[|w| w.float(1), |w| w.several(2, |w| w.exemplar(2)), |w| w.time(3)]),
            4 => self.message(
                4,
                &[
                    |w| w.integer(1),
                    |w| w.float(2),
                    |w| w.several(4, |w| w.message(3, &[|w| w.float(1), |w| w.float(2)])),
                    |w| w.time(4),
                ],
            ),
            7 => self.histogram(),
            number => self.message(number, &[|w| w.float(1)]),
        }
    }

    fn histogram(&mut self) -> Vec<u8> {
        self.message(
            7,
            &[
                |w| w.integer(1),
                |w| w.float(2),
                |w| w.several(4, Self::bucket),
                |w| w.several(2, |w| w.float(4)),
                |w| w.integer(5),
                |w| w.float(6),
                |w| w.integer(7),
                |w| w.several(2, |w| w.float(8)),
                |w| w.side(9),
                |w| w.side(12),
                |w| w.time(15),
                |w| w.several(3, |w| w.exemplar(16)),
            ],
        )
    }

    /// Spans from field `number` on with as many buckets as they promise, if nothing is odd.
    fn side(&mut self, number: u64) -> Vec<u8> {
        let mut side = Vec::new();
        let mut promised = 0;
        for _ in 0..self.below(4) {
            let length = self.below(12);
            promised += length;
            let (offset, length) = (self.small(1, 8), [vec![2 << 3], self.varint(length)].concat());
            side.extend(self.field(number, 2, &[offset, length].concat()));
        }
        if self.is_odd() {
            promised += 1;
        }
        let is_float = self.below(4) == 0;
        let is_packed = self.below(2) == 0;
        let mut packed = Vec::new();
        for _ in 0..promised {
            let delta = if self.below(6) == 0 { self.number() } else { self.below(5) };
            let bucket = if is_float { self.double() } else { self.varint(delta) };
            if is_packed {
                packed.extend(bucket);
            } else if is_float {
                side.extend(self.field(number + 2, 1, &bucket));
            } else {
                side.extend(self.field(number + 1, 0, &bucket));
            }
        }
        if is_packed {
            side.extend(self.field(number + 1 + u64::from(is_float), 2, &packed));
        }
        side
    }

    fn family(&mut self) -> Vec<u8> {
        let metric_type = self.below(6);
        let number = [3, 2, 4, 5, 7, 7][metric_type as usize];
        let mut family = [self.field(1, 2, b"family"), self.text(2)].concat();
        let content = self.varint(metric_type);
        family.extend(self.field(3, 0, &content));
        for _ in 0..self.below(4) {
            let labels = self.several(4, Self::label);
            let mut metric = [labels, self.value(number)].concat();
            if self.below(3) == 0 {
                metric.extend(self.integer(6));
            }
            if self.is_odd() {
                metric.extend(self.value(7));
            }
            family.extend(self.field(4, 2, &metric));
        }
        if self.below(3) == 0 {
            family.extend(self.text(5));
        }
        [self.varint(family.len() as u64), family].concat()
    }

    fn page(&mut self) -> Vec<u8> {
        self.several(4, Self::family)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_pages_as_clients_write_them(seed: u64) {
        agree(&Writer { rng: SeededRng::new(seed), oddity: 0 }.page());
    }

    #[test]
    fn on_pages_with_odd_fields(seed: u64, oddity in 3_u64..200) {
        agree(&Writer { rng: SeededRng::new(seed), oddity }.page());
    }

    #[test]
    fn on_pages_with_a_changed_byte(seed: u64, at: prop::sample::Index, byte: u8, cut: bool) {
        let mut page = Writer { rng: SeededRng::new(seed), oddity: 0 }.page();
        if !page.is_empty() {
            let at = at.index(page.len());
            if cut {
                page.remove(at);
            } else {
                page[at] = byte;
            }
        }
        agree(&page);
    }

    #[test]
    fn on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&bytes);
    }
}

/// The pages of the tests above are worth something: most are accepted, and the quick way is taken.
#[test]
fn the_quick_way_is_taken() {
    let (mut accepted, mut events) = (0, 0);
    for seed in 0..200 {
        let page = Writer { rng: SeededRng::new(seed), oddity: 0 }.page();
        let told = told(Parser::new(Format::Protobuf, &page, ParseOptions::default()));
        accepted += usize::from(!told.last().is_some_and(|last| last.starts_with("refused")));
        events += told.len();
    }
    assert!(accepted > 100 && events > 1_000, "{accepted} pages accepted, {events} events");
}

/// A length-delimited field of less than 128 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

fn refusal(page: &[u8]) -> ParseError {
    let mut options = ParseOptions::default();
    options.native_histograms = true;
    options.type_and_unit_labels = true;
    options.convert_classic_to_custom_buckets = true;
    let mut parser = Parser::new(Format::Protobuf, page, options);
    let mut labels = LabelBuffer::new();
    loop {
        let judged = match parser.next() {
            Err(error) => return error,
            Ok(None) => panic!("accepted: {page:02x?}"),
            Ok(Some(Event::Series(series))) => series.labels(&mut labels),
            Ok(Some(Event::Histogram(histogram))) => histogram.labels(&mut labels),
            Ok(Some(_)) => Ok(()),
        };
        if let Err(error) = judged {
            return error;
        }
    }
}

#[test]
fn refusals_name_the_field() {
    let page = |family: &[u8]| field(0, family)[1..].to_vec();
    // A family `a` of a type with these metrics.
    let family = |metric_type: u8, metrics: &[Vec<u8>]| {
        let metrics: Vec<u8> = metrics.iter().flat_map(|metric| field(4, metric)).collect();
        page(&[field(1, b"a"), vec![3 << 3, metric_type], metrics].concat())
    };
    let gauge = |fields: &[u8]| family(1, &[vec![], fields.to_vec()]);
    let histogram = |fields: &[u8]| family(4, &[field(7, fields)]);
    let cases = [
        (
            gauge(&[0x0c]),
            "byte 10, family \"a\", metric[1]: group ends that did not start, expected a field or the end of the message, at 0c",
        ),
        (
            gauge(&[0x00]),
            "byte 10, family \"a\", metric[1]: illegal field number, expected a field number from 1 on, at 00",
        ),
        (
            gauge(&[0x47]),
            "byte 10, family \"a\", metric[1]: illegal wire type, expected a wire type from 0 to 5, at 47",
        ),
        (
            gauge(&[0x15, 0]),
            "byte 11, family \"a\", metric[1].gauge: wrong wire type for the field, expected a length and as many bytes (wire type 2), at 00",
        ),
        (
            gauge(&[0x35, 0]),
            "byte 11, family \"a\", metric[1].timestamp_ms: wrong wire type for the field, expected an integer (wire type 0), at 00",
        ),
        (
            gauge(&field(2, &[0x08, 0])),
            "byte 13, family \"a\", metric[1].gauge.value: wrong wire type for the field, expected a 64-bit number (wire type 1), at 00",
        ),
        (
            gauge(&[0x30, 0x80]),
            "byte 11, family \"a\", metric[1].timestamp_ms: message ends within a number, expected the rest of the number, at 80",
        ),
        (
            gauge(&[&[0x30][..], &[0x80; 10], &[0]].concat()),
            "byte 11, family \"a\", metric[1].timestamp_ms: number longer than ten bytes, expected a number of ten bytes at most, at 80 80 80 80 80 80 80 80 80 80 00",
        ),
        (
            gauge(&field(2, &[0x09, 1, 2])),
            "byte 13, family \"a\", metric[1].gauge.value: message ends within a field, expected as many bytes as the field's wire type says, at 01 02",
        ),
        (
            gauge(&[0x12, 5]),
            "byte 11, family \"a\", metric[1].gauge: field is longer than its message, expected a length within the message, at 05",
        ),
        (
            vec![0x80, 0x80, 0x80, 0x80, 0x80, 0],
            "byte 0: length of the metric family is out of range, expected a length of five bytes at most, at 80 80 80 80 80 00",
        ),
        (
            vec![9, 1],
            "byte 0: metric family is longer than the page, expected a length within the page, at 09 01",
        ),
        (
            page(&field(4, &[])),
            "byte 0: name of the metric family is empty or not valid UTF-8, expected a name in UTF-8, at 02 22 00",
        ),
        (
            page(&[field(1, b"\xff"), field(4, &[])].concat()),
            "byte 2, family \"\u{fffd}\", name: name of the metric family is empty or not valid UTF-8, expected a name in UTF-8, at 01 ff 22 00",
        ),
        (
            page(&[field(1, b"a"), field(2, b"\xff"), field(4, &[])].concat()),
            "byte 5, family \"a\", help: help text is not valid UTF-8, expected text in UTF-8, at 01 ff 22 00",
        ),
        (
            page(&[field(1, b"a"), field(4, &[]), field(5, b"\xff")].concat()),
            "byte 7, family \"a\", unit: unit is not valid UTF-8, expected text in UTF-8, at 01 ff",
        ),
        (
            family(6, &[vec![]]),
            "byte 5, family \"a\", type: unknown metric type, expected a type from 0 to 5, at 06 22 00",
        ),
        (
            histogram(&field(12, &[0x10, 3])),
            "byte 12, family \"a\", metric[0].histogram.positive_span[0].length: spans of the native histogram promise another number of buckets than there are, expected as many buckets as the spans' lengths add up to, at 10 03",
        ),
        (
            histogram(&[field(3, &[]), field(3, &field(3, &field(1, &[7])))].concat()),
            "byte 18, family \"a\", metric[0].histogram.bucket[1].exemplar.label[0]: illegal field number, expected a field number from 1 on, at 07",
        ),
        (
            histogram(&[0x08, 1, 0x1a, 2, 0x08, 2]),
            "byte 9, family \"a\", metric[0].histogram: counts of classic buckets do not grow with their bounds, expected a histogram that custom buckets can hold, at 06 08 01 1a 02 08 02",
        ),
        (
            gauge(&field(1, &field(1, b""))),
            "byte 13, family \"a\", metric[1].label[0].name: label name is empty, expected a label name in UTF-8, at 00",
        ),
        (
            gauge(&[field(1, &field(1, b"a")), field(1, &field(1, b"\xff"))].concat()),
            "byte 19, family \"a\", metric[1].label[1].name: label name is not valid UTF-8, expected a label name in UTF-8, at ff",
        ),
        (
            gauge(&field(1, &field(2, b"\xff"))),
            "byte 14, family \"a\", metric[1].label[0].value: label value is not valid UTF-8, expected text in UTF-8, at ff",
        ),
    ];
    for (page, expected) in &cases {
        let error = refusal(page);
        assert_eq!(error.to_string(), *expected, "{page:02x?}");
        assert!(expected.contains(error.expected().unwrap_or("nothing")));
        assert!(error.field().is_none_or(|field| expected.contains(field)));
        assert_eq!((error.line(), error.column()), (None, None));
    }
}
