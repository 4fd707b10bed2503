//! Whatever a page holds: time in proportion to it and to what it gives, little memory beside it, and no panic.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/held_memory.rs"]
mod held_memory;
#[path = "support/hostile_pages.rs"]
mod hostile_pages;
#[path = "support/linear_time.rs"]
mod linear_time;
#[path = "support/protobuf_bytes.rs"]
mod protobuf_bytes;

use held_memory::taken_by;
use hostile_pages::MakePage;
use linear_time::{SIZES, assert_linear};
use promferry_exposition::{
    Event, Exemplars, Format, LabelBuffer, LabelSpans, LeFormat, ParseError, ParseOptions, Parser, validate,
};
use promferry_model::{BucketCounts, Histogram};

/// Asks for everything that a page says, and counts its bytes.
#[derive(Default)]
struct Reader {
    labels: LabelBuffer,
    spans: LabelSpans,
    histogram: Option<Histogram>,
    given: usize,
}

impl Reader {
    fn read(&mut self, format: Format, page: &[u8], options: ParseOptions) -> Result<(), ParseError> {
        let mut parser = Parser::new(format, page, options);
        while let Some(event) = parser.next()? {
            // What an event itself takes is counted too, however little it says.
            self.given += 8;
            match event {
                Event::Series(series) => {
                    std::hint::black_box((series.key(1), series.start(), series.series_bytes()));
                    series.labels(&mut self.labels)?;
                    for (name, value) in series.split(&mut self.spans)?.iter() {
                        self.given += name.len() + value.len() + 8;
                    }
                    self.read_exemplars(series.exemplars());
                }
                Event::Histogram(event) => {
                    std::hint::black_box((event.key(1), event.start()));
                    event.labels(&mut self.labels)?;
                    let histogram = match &mut self.histogram {
                        Some(histogram) => {
                            event.read_into(histogram);
                            histogram
                        }
                        none => none.insert(event.histogram()),
                    };
                    let buckets = match &histogram.counts {
                        BucketCounts::Integer { positive, negative, .. } => positive.len() + negative.len(),
                        BucketCounts::Float { positive, negative, .. } => positive.len() + negative.len(),
                    };
                    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
                    self.given += 8 * (buckets + spans + histogram.custom_values.len());
                    self.read_exemplars(event.exemplars());
                }
                Event::Help { family, help } => self.given += family.len() + help.unescape().len(),
                Event::Type { family, .. } => self.given += family.len(),
                Event::Unit { family, unit } => self.given += family.len() + unit.len(),
                Event::Comment(comment) => self.given += comment.len(),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_exemplars(&mut self, mut exemplars: Exemplars<'_>) {
        while exemplars.next(&mut self.labels).is_some() {
            self.given +=
                self.labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>() + 8;
        }
    }
}

/// Asks for what is wanted of a page whose series are all known.
fn read_known(format: Format, page: &[u8], options: ParseOptions) -> usize {
    let mut parser = Parser::new(format, page, options);
    let mut given = 0;
    while let Ok(Some(event)) = parser.next() {
        given += 8;
        match event {
            Event::Series(series) => {
                std::hint::black_box((series.key(1), series.value()));
            }
            Event::Histogram(event) => {
                std::hint::black_box(event.key(1));
            }
            _ => {}
        }
    }
    given
}

/// Nothing asked for, and everything that a configuration may ask for.
fn all_options() -> [ParseOptions; 3] {
    let mut most = ParseOptions::default();
    most.native_histograms = true;
    most.parse_start_timestamps = true;
    most.type_and_unit_labels = true;
    most.convert_classic_to_custom_buckets = true;
    most.le_format = LeFormat::Otel;
    let mut all = most;
    all.always_classic_histograms = true;
    [ParseOptions::default(), most, all]
}

fn text_formats() -> Vec<Format> {
    vec![
        Format::Text,
        Format::OpenMetrics,
        #[cfg(feature = "openmetrics2")]
        Format::OpenMetrics2,
    ]
}

fn pages(make: MakePage, end: &str) -> [Vec<u8>; 2] {
    SIZES.map(|size| [&make(size), end.as_bytes()].concat())
}

#[track_caller]
fn assert_reads_in_linear_time(name: &str, make: MakePage, end: &str, format: Format) {
    let pages = pages(make, end);
    for options in all_options() {
        let how = format!("as {format:?} with {options:?}");
        assert_linear(name, &how, &pages, |page| {
            let mut reader = Reader::default();
            let _ = reader.read(format, page, options);
            page.len() + reader.given
        });
        assert_linear(name, &format!("{how}, if known"), &pages, |page| {
            page.len() + read_known(format, page, options)
        });
    }
}

/// Every page, small enough to be walked often.
fn small_pages() -> Vec<(&'static str, Format, Vec<u8>)> {
    const SIZE: usize = 16 << 10;
    let text = hostile_pages::TEXT.iter().flat_map(|(name, make)| {
        let page = [&make(SIZE)[..], b"# EOF\n"].concat();
        text_formats().into_iter().map(move |format| (*name, format, page.clone()))
    });
    let protobuf = hostile_pages::PROTOBUF.iter().map(|(name, make)| (*name, Format::Protobuf, make(SIZE)));
    text.chain(protobuf).collect()
}

#[test]
fn walking_and_refusing_take_hardly_any_memory() {
    for (name, format, page) in small_pages() {
        let mut options = all_options()[2];
        // That one collects histograms.
        options.convert_classic_to_custom_buckets = false;
        let (taken, _) = taken_by(|| {
            let mut parser = Parser::new(format, &page, options);
            while let Some(event) = parser.next()? {
                std::hint::black_box(&event);
            }
            Ok::<(), ParseError>(())
        });
        let most = match format {
            Format::Text | Format::OpenMetrics | Format::Protobuf => 4 << 10,
            // A composite value is judged whole, and so read when it is reached.
            _ => (4 << 10) + 12 * page.len(),
        };
        let peak = taken.peak;
        assert!(peak <= most, "{name} as {format:?}: {peak} bytes, not {most}");
    }
}

/// A label takes two spans of 12 bytes and its share of a buffer, twice as much while a list grows; the shortest is 5
/// bytes long on the page.
#[test]
fn what_is_given_takes_memory_for_the_longest_line() {
    for (name, format, page) in small_pages() {
        for options in all_options() {
            let longest_line = match format {
                // Classic buckets are collected until their histogram ends.
                _ if options.convert_classic_to_custom_buckets => page.len(),
                Format::Protobuf => page.len(),
                _ => page.split(|&b| b == b'\n').map(<[u8]>::len).max().unwrap_or(0),
            };
            let (taken, _) = taken_by(|| Reader::default().read(format, &page, options));
            let most = (8 << 10) + 48 * longest_line;
            let peak = taken.peak;
            assert!(peak <= most, "{name} as {format:?} with {options:?}: {peak} bytes, not {most}");
        }
    }
}

#[test]
fn strict_mode_takes_memory_in_proportion_to_the_page() {
    for (name, make) in hostile_pages::TEXT {
        for size in [1 << 10, 64 << 10] {
            let page = [&make(size)[..], b"# EOF\n"].concat();
            let (taken, _) = taken_by(|| validate(&page).is_ok());
            let most = (4 << 10) + 40 * page.len();
            let peak = taken.peak;
            assert!(peak <= most, "{name}: {peak} bytes for {} of page", page.len());
        }
    }
}

#[test]
fn text_takes_linear_time() {
    for (name, make) in hostile_pages::TEXT {
        for format in text_formats() {
            assert_reads_in_linear_time(name, *make, "# EOF\n", format);
        }
    }
}

#[test]
fn protobuf_takes_linear_time() {
    for (name, make) in hostile_pages::PROTOBUF {
        assert_reads_in_linear_time(name, *make, "", Format::Protobuf);
    }
}

#[test]
fn strict_mode_takes_linear_time() {
    for (name, make) in hostile_pages::TEXT {
        assert_linear(name, "in strict mode", &pages(*make, "# EOF\n"), |page| {
            let _ = validate(page);
            page.len()
        });
    }
}
