//! The quick way through the lines that nearly all lines of a text page are: samples whose series ends without
//! doubt where it seems to end, metadata and comments. What it leaves alone is read by the whole grammar.

use promferry_model::{NORMAL_NAN_BITS, Timestamp};

use crate::Dialect;
use crate::block::name_bytes;
use crate::go_float;
use crate::number::{LastWord, bytes_equal};
use crate::text::{self, Entry, TextParser, metric_type};
use crate::text_lexer::{is_blank, is_metric_name, is_metric_name_start};

/// From so many series on that are asked for as texts, the page is judged as one.
const MANY_TEXTS: u32 = 8;
const EACH_TOPMOST_BIT: u64 = 0x8080_8080_8080_8080;

/// What a sample's line says behind its series.
pub(crate) type Sample = (f64, Option<Timestamp>);

impl<'a> TextParser<'a> {
    /// Reads the next line if it is a sample that can be read quickly; `None` reads nothing.
    #[inline(always)]
    pub(crate) fn quick_series(&mut self) -> Option<()> {
        let start = self.at;
        let end = match self.lines.line_end(start) {
            Some(end) => end,
            None => self.next_lines(start)?,
        };
        let &first = self.page.get(start)?;
        if !is_metric_name_start(first) && first != b'{' {
            return None;
        }
        let is_plain = !self.lines.has_unusual(start, end);
        let (series_end, sample) = self.quick_sample(start, end, is_plain)?;
        self.lines.pass();
        self.is_plain = is_plain && !self.options.type_and_unit_labels;
        self.series = start..series_end;
        self.exemplar = None;
        self.at = end + 1;
        self.sample = sample;
        Some(())
    }

    /// Reads the next line that is not empty if that can be done quickly; `None` reads no more than empty lines.
    pub(crate) fn quick_entry(&mut self) -> Option<Entry<'a>> {
        loop {
            if self.quick_series().is_some() {
                let (value, timestamp) = self.sample;
                return Some(Entry::Series { value, timestamp });
            }
            let start = self.at;
            let end = self.lines.line_end(start)?;
            match self.page.get(start)? {
                b'#' => return self.quick_comment(start, end),
                b'\n' if self.dialect == Dialect::Prometheus => self.at = end + 1,
                _ => return None,
            }
        }
    }

    /// Marks the page from the line at `start` on and returns where that ends, unless it is too long.
    #[inline(never)]
    fn next_lines(&mut self, start: usize) -> Option<usize> {
        if !self.quick || start >= self.page.len() {
            return None;
        }
        self.lines.mark(self.page, start, self.dialect == Dialect::Prometheus);
        if self.text.is_none() && self.asked_texts.get() > MANY_TEXTS {
            self.text = Some(str::from_utf8(self.page).ok());
        }
        self.lines.line_end(start)
    }

    /// Reads a sample's line if its series ends without doubt where it seems to end.
    ///
    /// The claim: if the page is accepted at all, then this line is a series and it ends here. A label list
    /// ends with the line's last '}' when that stands outside of strings, which it does if it follows a '"'
    /// that closes one. An opening '"' follows '{', ',', '=', a blank or another '"'; so a '"' behind any
    /// other byte closes, there being no backslash in the line, and behind these an even one does. Whether the series' bytes obey the grammar
    /// is judged when labels are first asked for.
    #[inline(always)]
    fn quick_sample(&self, start: usize, end: usize, is_plain: bool) -> Option<(usize, Sample)> {
        let page = self.page;
        let open_metrics = self.dialect == Dialect::OpenMetrics;
        if !is_plain && !seems_plain(open_metrics, &page[start..end]) {
            return None;
        }
        let (value, word) = last_number(page, start, end)?;
        let series_end = before_blanks(open_metrics, page, start, word)?;
        if ends_series(page, start, series_end) {
            return Some((series_end, (value, None)));
        }
        // The number is a timestamp, and the value stands before it.
        let timestamp = if open_metrics {
            seconds(value)?
        } else {
            Timestamp::from_millis(milliseconds(page, word, end)?)
        };
        let (value, word) = last_number(page, start, series_end)?;
        let series_end = before_blanks(open_metrics, page, start, word)?;
        ends_series(page, start, series_end).then_some((series_end, (value, Some(timestamp))))
    }

    /// Reads metadata and, in the Prometheus text format, other comments.
    fn quick_comment(&mut self, start: usize, end: usize) -> Option<Entry<'a>> {
        let page = self.page;
        let line = &page[start..end];
        // The '#' itself is unusual in OpenMetrics.
        if self.lines.has_unusual(start + 1, end) && !(line.is_ascii() && memchr::memchr(0, line).is_none()) {
            return None;
        }
        // The lexer of OpenMetrics passes over NUL bytes behind a metadata line.
        if page.get(end + 1) == Some(&0) {
            return None;
        }
        let is_help = line.starts_with(b"# HELP ");
        if !is_help && !line.starts_with(b"# TYPE ") {
            let is_keyword = line.get(1).copied().is_some_and(is_blank);
            if is_keyword || self.dialect == Dialect::OpenMetrics {
                return None;
            }
            self.at = end + 1;
            return Some(Entry::Comment(line));
        }
        let name_start = start + "# HELP ".len();
        let name_end = name_start + name_length(&page[name_start..end])?;
        let family = &page[name_start..name_end];
        // One blank and then something else: more of them mean what only the grammar knows.
        let [b' ', text @ ..] = &page[name_end..end] else { return None };
        if is_blank(*text.first()?) {
            return None;
        }
        let entry = if is_help {
            Entry::Help { family, help: text }
        } else {
            Entry::Type { family, metric_type: metric_type(self.dialect, text)? }
        };
        self.at = end + 1;
        self.enter(name_start..name_end, &entry);
        Some(entry)
    }
}

/// Whether nothing in a line makes it another one than it seems to be. What is not ASCII does not: it is judged with
/// the labels.
#[cold]
fn seems_plain(open_metrics: bool, line: &[u8]) -> bool {
    memchr::memchr3(b'\\', 0, if open_metrics { b'#' } else { 0 }, line).is_none()
}

/// The number that ends `page[start..end]`, and where it starts.
#[inline(always)]
fn last_number(page: &[u8], start: usize, end: usize) -> Option<(f64, usize)> {
    if let Some(word) = LastWord::before(page, end)
        && let Some(value) = word.decimal()
    {
        return Some((value, end - word.len()));
    }
    other_number(&page[start..end]).map(|(value, at)| (value, start + at))
}

/// As [`last_number`], for any number.
#[inline(never)]
fn other_number(text: &[u8]) -> Option<(f64, usize)> {
    let at = memchr::memrchr(b' ', text)? + 1;
    let value = match &text[at..] {
        b"NaN" => f64::from_bits(NORMAL_NAN_BITS),
        b"+Inf" => f64::INFINITY,
        number => go_float::parse_value(number).ok()?,
    };
    Some((value, at))
}

/// Where what stands before the word at `word` ends.
#[inline(always)]
fn before_blanks(open_metrics: bool, page: &[u8], start: usize, word: usize) -> Option<usize> {
    let mut end = word.checked_sub(1).filter(|&end| end > start)?;
    if !open_metrics {
        while end > start && is_blank(page[end - 1]) {
            end -= 1;
        }
    }
    Some(end)
}

/// Whether a series, if it is one, that starts at `start` ends at `end`.
#[inline(always)]
fn ends_series(page: &[u8], start: usize, end: usize) -> bool {
    match &page[start..end] {
        series @ [.., before, b'"', b'}'] => {
            let may_open = matches!(before, b'{' | b',' | b'=' | b'"') || is_blank(*before);
            !may_open || last_quote_closes(series)
        }
        name => is_name(name),
    }
}

/// Whether the last '"' ends a string, as that of a last label without a value does: there being no backslash, each one
/// ends what the one before it began.
#[inline(never)]
fn last_quote_closes(series: &[u8]) -> bool {
    memchr::memchr_iter(b'"', series).count().is_multiple_of(2)
}

/// Whether all bytes may stand in a metric's name.
#[inline(always)]
fn is_name(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks();
    words.iter().all(|word| name_bytes_and_colons(word) == EACH_TOPMOST_BIT)
        && rest.iter().all(|&c| is_metric_name(c))
}

/// The length of the metric's name that `text` starts with, which is not all of it.
fn name_length(text: &[u8]) -> Option<usize> {
    if !text.first().copied().is_some_and(is_metric_name_start) {
        return None;
    }
    let (words, rest) = text.as_chunks();
    let others = words.iter().map(|word| !name_bytes_and_colons(word) & EACH_TOPMOST_BIT);
    match others.enumerate().find(|(_, others)| *others != 0) {
        Some((word, others)) => Some(8 * word + others.trailing_zeros() as usize / 8),
        None => Some(8 * words.len() + rest.iter().position(|&c| !is_metric_name(c))?),
    }
}

/// The topmost bit of every byte that may stand in a metric's name.
#[inline(always)]
fn name_bytes_and_colons(word: &[u8; 8]) -> u64 {
    let word = u64::from_le_bytes(*word);
    name_bytes(word) | bytes_equal(word, b':')
}

/// A timestamp of OpenMetrics.
fn seconds(seconds: f64) -> Option<Timestamp> {
    seconds.is_finite().then(|| Timestamp::from_millis(go_float::to_int64(seconds * 1000.0)))
}

/// A timestamp of the Prometheus text format.
fn milliseconds(page: &[u8], start: usize, end: usize) -> Option<i64> {
    match LastWord::before(page, end).and_then(LastWord::digits) {
        Some(digits) => i64::try_from(digits).ok(),
        None => text::milliseconds(&page[start..end]),
    }
}
