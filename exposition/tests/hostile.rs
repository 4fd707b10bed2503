//! Whatever a page holds: time in proportion to it and to what it gives, little memory beside it, and no panic.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/hostile_pages.rs"]
mod hostile_pages;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hostile_pages::MakePage;
use promferry_exposition::{
    Event, Exemplars, Format, LabelBuffer, LabelSpans, LeFormat, ParseError, ParseOptions, Parser, validate,
};
use promferry_model::{BucketCounts, Histogram};
use rustix::time::{ClockId, clock_gettime};

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts the bytes that the current thread holds.
struct Counting;

impl Counting {
    fn add(bytes: isize) {
        let _ = HELD.try_with(|held| {
            held.set(held.get() + bytes);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
        });
    }
}

#[expect(unsafe_code, reason = "counting allocations takes an allocator; it passes everything on unchanged")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::add(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes that `work` holds at one time, what it returns included.
fn peak_in<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    ((PEAK.get() - before).unsigned_abs(), result)
}

/// The processor's time that the current thread has taken, in nanoseconds: other programs' work does not count.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

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

/// Nanoseconds for each byte that `work` reads or gives, for pages of two sizes, the least of some tries. `work` returns
/// how many bytes it gave.
fn costs(make: MakePage, end: &str, work: impl Fn(&[u8]) -> usize) -> (f64, f64) {
    const SIZES: [usize; 2] = [4 << 10, 32 << 10];
    let [small, large] = SIZES.map(|size| [&make(size), end.as_bytes()].concat());
    let cost = |page: &[u8]| {
        let start = cpu_time();
        let given = work(page);
        (cpu_time() - start) / (page.len() + given) as f64
    };
    let (mut of_small, mut of_large) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        of_small = of_small.min(cost(&small));
        of_large = of_large.min(cost(&large));
        if of_large <= of_small * MOST_GROWTH {
            break;
        }
    }
    (of_small, of_large)
}

/// By how much the cost of a byte may grow when the page is eight times as long. It does a little, as caches are left
/// behind and labels are sorted; in quadratic time it grows eightfold.
const MOST_GROWTH: f64 = 3.0;

#[track_caller]
fn assert_linear(name: &str, how: &str, (small, large): (f64, f64)) {
    assert!(large <= small * MOST_GROWTH, "{name} {how}: {small:.1} ns a byte became {large:.1}");
}

#[track_caller]
fn assert_reads_in_linear_time(name: &str, make: MakePage, end: &str, format: Format) {
    for options in all_options() {
        let all = costs(make, end, |page| {
            let mut reader = Reader::default();
            let _ = reader.read(format, page, options);
            reader.given
        });
        assert_linear(name, &format!("as {format:?} with {options:?}"), all);
        let known = costs(make, end, |page| read_known(format, page, options));
        assert_linear(name, &format!("as {format:?} with {options:?}, if known"), known);
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
        let (peak, _) = peak_in(|| {
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
            let (peak, _) = peak_in(|| Reader::default().read(format, &page, options));
            let most = (8 << 10) + 48 * longest_line;
            assert!(peak <= most, "{name} as {format:?} with {options:?}: {peak} bytes, not {most}");
        }
    }
}

#[test]
fn strict_mode_takes_memory_in_proportion_to_the_page() {
    for (name, make) in hostile_pages::TEXT {
        for size in [1 << 10, 64 << 10] {
            let page = [&make(size)[..], b"# EOF\n"].concat();
            let (peak, _) = peak_in(|| validate(&page).is_ok());
            let most = (4 << 10) + 40 * page.len();
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
        let cost = costs(*make, "# EOF\n", |page| {
            let _ = validate(page);
            0
        });
        assert_linear(name, "in strict mode", cost);
    }
}
