//! Which bytes of a page decide where lines, strings and names end, found for many bytes at once.
//!
//! This is the only place with instructions of a kind of processor. What it gives are plain numbers: the places
//! where lines end, and sets of bytes as the bits of a `u64` for each block of 64 bytes, the first byte lowest.

const BLOCK_BYTES: usize = 64;
const BLOCKS: usize = 32;
/// How much of a page is looked at in one go: much less than the processor's nearest cache holds.
const WINDOW_BYTES: usize = BLOCK_BYTES * BLOCKS;
/// Up to so many ends of a block's lines are noted without asking how many there are.
const ENDS_AT_ONCE: usize = 2;

type Block = [u8; BLOCK_BYTES];

/// Where the lines of one part of a page end, and which of its bytes are unusual.
pub(crate) struct LineMarks {
    instructions: Instructions,
    /// Counts as unusual beside backslash, NUL and what is not ASCII.
    unusual_byte: u8,
    /// Where in the page the part starts.
    base: usize,
    /// How long that part is.
    length: usize,
    /// How many of `ends` are meant.
    count: usize,
    /// The first of `ends` that has not been passed.
    next: usize,
    /// Newlines, counted from `base`.
    ends: [u16; WINDOW_BYTES + ENDS_AT_ONCE],
    unusual: [u64; BLOCKS],
    /// Which blocks have unusual bytes.
    unusual_blocks: u32,
}

impl LineMarks {
    pub(crate) fn new(unusual_byte: u8) -> Self {
        Self {
            instructions: Instructions::best(),
            unusual_byte,
            base: 0,
            length: 0,
            count: 0,
            next: 0,
            ends: [0; WINDOW_BYTES + ENDS_AT_ONCE],
            unusual: [0; BLOCKS],
            unusual_blocks: 0,
        }
    }

    /// Where the part starts that is marked.
    pub(crate) const fn base(&self) -> usize {
        self.base
    }

    /// Whether all from `start` to `end` is in the part that is marked.
    #[inline(always)]
    pub(crate) const fn covers(&self, start: usize, end: usize) -> bool {
        start >= self.base && end <= self.base + self.length
    }

    /// Where the line ends that starts at `start`, if that is in the part that is marked.
    #[inline(always)]
    pub(crate) fn line_end(&mut self, start: usize) -> Option<usize> {
        loop {
            if self.next >= self.count {
                return None;
            }
            let end = self.base + usize::from(self.ends[self.next]);
            if end >= start {
                return Some(end);
            }
            self.next += 1;
        }
    }

    /// Passes over the line that [`LineMarks::line_end`] last gave the end of.
    #[inline(always)]
    pub(crate) const fn pass(&mut self) {
        self.next += 1;
    }

    /// Marks `page` from `start` on. With `open_end` the page's last line ends where the page does.
    pub(crate) fn mark(&mut self, page: &[u8], start: usize, open_end: bool) {
        self.base = start;
        self.count = 0;
        self.next = 0;
        let rest = &page[start..];
        let part = &rest[..rest.len().min(WINDOW_BYTES)];
        self.length = part.len();
        in_blocks(part, |first, blocks| self.instructions.run(blocks, Task::Lines { first, marks: self }));
        let unusual = self.unusual[..part.len().div_ceil(BLOCK_BYTES)].iter().enumerate();
        self.unusual_blocks = unusual.fold(0, |blocks, (at, bytes)| blocks | u32::from(*bytes != 0) << at);
        let ends_page = part.len() == rest.len();
        if ends_page && open_end && part.last().is_some_and(|&last| last != b'\n') {
            self.ends[self.count] = part.len() as u16;
            self.count += 1;
        }
    }

    /// Whether an unusual byte stands in the page from `start` to `end`, which are in the part that is marked.
    #[inline(always)]
    pub(crate) fn has_unusual(&self, start: usize, end: usize) -> bool {
        self.unusual_blocks != 0 && self.look_for_unusual(start - self.base, end - self.base)
    }

    #[inline(never)]
    fn look_for_unusual(&self, start: usize, end: usize) -> bool {
        (start / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES)).any(|block| {
            let first = block * BLOCK_BYTES;
            let from = u64::MAX << start.saturating_sub(first);
            let to = u64::MAX >> (first + BLOCK_BYTES).saturating_sub(end);
            self.unusual[block] & from & to != 0
        })
    }

    /// Notes a block's marks behind `count` ends that have been noted, and returns how many these are then.
    #[inline(always)]
    fn note(&mut self, count: usize, block: usize, newlines: u64, unusual: u64) -> usize {
        self.unusual[block] = unusual;
        let first = (block * BLOCK_BYTES) as u16;
        let mut left = newlines;
        let (at_once, _) = self.ends[count..].split_at_mut(ENDS_AT_ONCE);
        for end in at_once {
            *end = first + left.trailing_zeros() as u16;
            left &= left.wrapping_sub(1);
        }
        let mut at = count + ENDS_AT_ONCE;
        while left != 0 {
            self.ends[at] = first + left.trailing_zeros() as u16;
            left &= left.wrapping_sub(1);
            at += 1;
        }
        count + newlines.count_ones() as usize
    }
}

/// Which bytes of one part of a page are quotes, and which may stand in a label's name.
pub(crate) struct LabelMarks {
    /// Where in the page the part starts.
    base: usize,
    quotes: [u64; 2 * BLOCKS],
    names: [u64; 2 * BLOCKS],
}

impl LabelMarks {
    pub(crate) const fn new() -> Self {
        Self { base: usize::MAX, quotes: [0; 2 * BLOCKS], names: [0; 2 * BLOCKS] }
    }

    /// Marks what `lines` has marked, unless that has been done.
    #[inline(always)]
    pub(crate) fn mark(&mut self, page: &[u8], lines: &LineMarks) {
        if self.base != lines.base {
            self.mark_anew(page, lines);
        }
    }

    #[inline(never)]
    fn mark_anew(&mut self, page: &[u8], lines: &LineMarks) {
        self.base = lines.base;
        let rest = &page[lines.base..];
        in_blocks(&rest[..rest.len().min(WINDOW_BYTES)], |first, blocks| {
            lines.instructions.run(blocks, Task::Labels { first, marks: self });
        });
    }

    /// The quotes of the text that starts at `start` and is so long, both counted from the part's start.
    #[inline(always)]
    pub(crate) fn quotes(&self, start: usize, length: usize) -> Quotes<'_> {
        let mut quotes = Quotes { quotes: &self.quotes, start, length, at: 0, left: 0 };
        quotes.look();
        quotes
    }

    /// How many bytes of a label's name, at most 64, stand from `at` on, counted from the part's start.
    #[inline(always)]
    pub(crate) fn name_length(&self, at: usize) -> usize {
        bits_from(&self.names, at).trailing_ones() as usize
    }

    /// Whether the `length` bytes from `at` on, at most 64 and at least one, may all stand in a label's name.
    #[inline(always)]
    pub(crate) fn are_of_names(&self, at: usize, length: usize) -> bool {
        !bits_from(&self.names, at) << (u64::BITS as usize - length) == 0
    }
}

/// The places of a text's quotes, counted from its start.
pub(crate) struct Quotes<'m> {
    quotes: &'m [u64; 2 * BLOCKS],
    start: usize,
    length: usize,
    /// Where in the text the bits start of which some are left.
    at: usize,
    left: u64,
}

impl Quotes<'_> {
    /// Looks at the text from `at` on.
    #[inline(always)]
    fn look(&mut self) {
        let bits = bits_from(self.quotes, self.start + self.at);
        let beyond = (self.at + u64::BITS as usize).saturating_sub(self.length);
        self.left = if beyond < u64::BITS as usize { bits << beyond >> beyond } else { 0 };
    }
}

impl Iterator for Quotes<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            self.at += u64::BITS as usize;
            if self.at >= self.length {
                return None;
            }
            self.look();
        }
        let quote = self.at + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(quote)
    }
}

/// The 64 bits from `at` on; those behind the part that is marked mean nothing.
#[inline(always)]
fn bits_from(marks: &[u64; 2 * BLOCKS], at: usize) -> u64 {
    let (block, bit) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
    let (low, high) = (marks[block % (2 * BLOCKS)], marks[(block + 1) % (2 * BLOCKS)]);
    low >> bit | (high << 1) << (63 - bit)
}

/// Gives the blocks of `part`, with the number of the first one, and those that are not full with blanks behind.
#[inline(always)]
fn in_blocks(part: &[u8], mut look_at: impl FnMut(usize, &[Block])) {
    let (blocks, rest) = part.as_chunks();
    look_at(0, blocks);
    if !rest.is_empty() {
        let mut last = [b' '; BLOCK_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        look_at(blocks.len(), &[last]);
    }
}

/// What is to be marked, from the block `first` on.
enum Task<'m> {
    Lines { first: usize, marks: &'m mut LineMarks },
    Labels { first: usize, marks: &'m mut LabelMarks },
}

/// The instructions that look at bytes. Only [`Instructions::all`] makes one, of what the processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instructions(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Sse2,
    Portable,
}

impl Instructions {
    fn best() -> Self {
        Self::all().next().unwrap_or(Self(Set::Portable))
    }

    /// What the processor has, the fastest first.
    fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let faster = {
            let has_avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("popcnt");
            // The processors before the first with VBMI2 run slower for a while after the widest instructions.
            let has_avx512 = has_avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vbmi2");
            [
                has_avx512.then_some(Self(Set::Avx512)),
                has_avx2.then_some(Self(Set::Avx2)),
                Some(Self(Set::Sse2)),
            ]
            .into_iter()
            .flatten()
        };
        #[cfg(not(target_arch = "x86_64"))]
        let faster = std::iter::empty();
        faster.chain([Self(Set::Portable)])
    }

    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "as fast as memory goes only by the processor's wide instructions")
    )]
    #[inline(always)]
    fn run(self, blocks: &[Block], task: Task<'_>) {
        match self.0 {
            // SAFETY: there is no such value unless the processor was asked and has these instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::run(blocks, task) },
            // SAFETY: there is no such value unless the processor was asked and has these instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::run(blocks, task) },
            // SAFETY: every x86-64 processor has these.
            #[cfg(target_arch = "x86_64")]
            Set::Sse2 => unsafe { sse2::run(blocks, task) },
            Set::Portable => portable::run(blocks, task),
        }
    }
}

/// Does a task with a module's `lines` and `labels`, which look at one block.
macro_rules! run {
    ($blocks:expr, $task:expr) => {
        match $task {
            Task::Lines { first, marks } => {
                let unusual_byte = marks.unusual_byte;
                let mut count = marks.count;
                for (at, block) in $blocks.iter().enumerate() {
                    let (newlines, unusual) = lines(block, unusual_byte);
                    count = marks.note(count, first + at, newlines, unusual);
                }
                marks.count = count;
            }
            Task::Labels { first, marks } => {
                let places = marks.quotes[first..].iter_mut().zip(&mut marks.names[first..]);
                for (block, (quotes, names)) in $blocks.iter().zip(places) {
                    (*quotes, *names) = labels(block);
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_cmpeq_epi8_mask, _mm512_cmple_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_loadu_si512,
        _mm512_or_si512, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_sub_epi8,
    };

    use super::{Block, Task};

    #[target_feature(enable = "avx512f,avx512bw,bmi1,popcnt")]
    pub(super) fn run(blocks: &[Block], task: Task<'_>) {
        run!(blocks, task);
    }

    /// Newlines, and what is unusual.
    #[target_feature(enable = "avx512f,avx512bw,bmi1,popcnt")]
    #[inline]
    fn lines(block: &Block, unusual_byte: u8) -> (u64, u64) {
        let bytes = load(block);
        let is = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
        // Bytes beyond ASCII are negative numbers.
        let zero_or_less = _mm512_cmple_epi8_mask(bytes, _mm512_setzero_si512());
        (is(b'\n'), zero_or_less | is(b'\\') | is(unusual_byte))
    }

    /// Quotes, and bytes of names.
    #[target_feature(enable = "avx512f,avx512bw,bmi1,popcnt")]
    #[inline]
    fn labels(block: &Block) -> (u64, u64) {
        let bytes = load(block);
        let is = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
        let in_range = |bytes: __m512i, first: u8, length: i8| {
            let moved = _mm512_sub_epi8(bytes, _mm512_set1_epi8(first as i8));
            _mm512_cmplt_epu8_mask(moved, _mm512_set1_epi8(length))
        };
        let lower = _mm512_or_si512(bytes, _mm512_set1_epi8(0x20));
        (is(b'"'), in_range(lower, b'a', 26) | in_range(bytes, b'0', 10) | is(b'_'))
    }

    #[expect(unsafe_code, reason = "put together from numbers it takes several times as long")]
    #[target_feature(enable = "avx512f,avx512bw,bmi1,popcnt")]
    #[inline]
    fn load(block: &Block) -> __m512i {
        // SAFETY: it reads the array's 64 bytes, at any address.
        unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::{Block, Task};

    #[target_feature(enable = "avx2,bmi1,popcnt")]
    pub(super) fn run(blocks: &[Block], task: Task<'_>) {
        run!(blocks, task);
    }

    /// Newlines, and what is unusual.
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    #[inline]
    fn lines(block: &Block, unusual_byte: u8) -> (u64, u64) {
        let (mut newlines, mut unusual) = (0, 0);
        for half in 0..2 {
            let bytes = load(block, half);
            let is = |byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
            newlines |= bits(is(b'\n')) << (32 * half);
            // Bytes beyond ASCII have the bit that counts.
            let unusual_bytes =
                _mm256_or_si256(_mm256_or_si256(is(b'\\'), is(unusual_byte)), _mm256_or_si256(is(0), bytes));
            unusual |= bits(unusual_bytes) << (32 * half);
        }
        (newlines, unusual)
    }

    /// Quotes, and bytes of names.
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    #[inline]
    fn labels(block: &Block) -> (u64, u64) {
        let (mut quotes, mut names) = (0, 0);
        for half in 0..2 {
            let bytes = load(block, half);
            let is = |byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
            // Moved so that the range starts at the smallest signed number.
            let in_range = |bytes: __m256i, first: u8, length: i8| {
                let moved = _mm256_sub_epi8(bytes, _mm256_set1_epi8(first.wrapping_sub(0x80) as i8));
                _mm256_cmpgt_epi8(_mm256_set1_epi8(-0x80 + length), moved)
            };
            let lower = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
            let alphanumeric = _mm256_or_si256(in_range(lower, b'a', 26), in_range(bytes, b'0', 10));
            quotes |= bits(is(b'"')) << (32 * half);
            names |= bits(_mm256_or_si256(alphanumeric, is(b'_'))) << (32 * half);
        }
        (quotes, names)
    }

    #[expect(unsafe_code, reason = "put together from numbers it takes twice as long")]
    #[target_feature(enable = "avx2,bmi1,popcnt")]
    #[inline]
    fn load(block: &Block, half: usize) -> __m256i {
        let bytes: &[u8; 32] = &block.as_chunks().0[half];
        // SAFETY: it reads the array's 32 bytes, at any address.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2,bmi1,popcnt")]
    #[inline]
    fn bits(bytes: __m256i) -> u64 {
        u64::from(_mm256_movemask_epi8(bytes) as u32)
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::{Block, Task};

    #[target_feature(enable = "sse2")]
    pub(super) fn run(blocks: &[Block], task: Task<'_>) {
        run!(blocks, task);
    }

    /// Newlines, and what is unusual.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn lines(block: &Block, unusual_byte: u8) -> (u64, u64) {
        let (mut newlines, mut unusual) = (0, 0);
        for quarter in 0..4 {
            let bytes = load(block, quarter);
            let is = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
            newlines |= bits(is(b'\n')) << (16 * quarter);
            // Bytes beyond ASCII have the bit that counts.
            let unusual_bytes =
                _mm_or_si128(_mm_or_si128(is(b'\\'), is(unusual_byte)), _mm_or_si128(is(0), bytes));
            unusual |= bits(unusual_bytes) << (16 * quarter);
        }
        (newlines, unusual)
    }

    /// Quotes, and bytes of names.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn labels(block: &Block) -> (u64, u64) {
        let (mut quotes, mut names) = (0, 0);
        for quarter in 0..4 {
            let bytes = load(block, quarter);
            let is = |byte: u8| _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8));
            // Moved so that the range starts at the smallest signed number.
            let in_range = |bytes: __m128i, first: u8, length: i8| {
                let moved = _mm_sub_epi8(bytes, _mm_set1_epi8(first.wrapping_sub(0x80) as i8));
                _mm_cmpgt_epi8(_mm_set1_epi8(-0x80 + length), moved)
            };
            let lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let alphanumeric = _mm_or_si128(in_range(lower, b'a', 26), in_range(bytes, b'0', 10));
            quotes |= bits(is(b'"')) << (16 * quarter);
            names |= bits(_mm_or_si128(alphanumeric, is(b'_'))) << (16 * quarter);
        }
        (quotes, names)
    }

    #[expect(unsafe_code, reason = "put together from numbers it takes twice as long")]
    #[target_feature(enable = "sse2")]
    #[inline]
    fn load(block: &Block, quarter: usize) -> __m128i {
        let bytes: &[u8; 16] = &block.as_chunks().0[quarter];
        // SAFETY: it reads the array's 16 bytes, at any address.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn bits(bytes: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(bytes) as u16)
    }
}

mod portable {
    use super::{Block, Task};
    use crate::number::bytes_equal;

    pub(super) fn run(blocks: &[Block], task: Task<'_>) {
        run!(blocks, task);
    }

    /// Newlines, and what is unusual.
    fn lines(block: &Block, unusual_byte: u8) -> (u64, u64) {
        let newlines = by_words(block, |word| bytes_equal(word, b'\n'));
        let unusual = by_words(block, |word| {
            word | bytes_equal(word, b'\\') | bytes_equal(word, unusual_byte) | bytes_equal(word, 0)
        });
        (newlines, unusual)
    }

    /// Quotes, and bytes of names.
    fn labels(block: &Block) -> (u64, u64) {
        (by_words(block, |word| bytes_equal(word, b'"')), by_words(block, super::name_bytes))
    }

    /// The topmost bits of the bytes that `mark` gives for each eight bytes.
    fn by_words(block: &Block, mark: impl Fn(u64) -> u64) -> u64 {
        block.as_chunks::<8>().0.iter().enumerate().fold(0, |bits, (at, bytes)| {
            let marked = (mark(u64::from_le_bytes(*bytes)) >> 7) & 0x0101_0101_0101_0101;
            // Gathers the eight bits in the topmost byte.
            bits | (marked.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * at)
        })
    }
}

/// The topmost bit of every byte that may stand in a label's name.
#[inline(always)]
pub(crate) const fn name_bytes(word: u64) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    /// For bytes below 0x80: whether each is one of `first..=last`.
    #[inline(always)]
    const fn in_range(word: u64, first: u8, last: u8) -> u64 {
        (word + each(0x80 - first)) & !(word + each(0x7f - last))
    }
    let ascii = word & LOW_BITS;
    let letters = in_range(ascii | each(0x20), b'a', b'z');
    let digits = in_range(ascii, b'0', b'9');
    (letters | digits | crate::number::bytes_equal(ascii, b'_')) & !word & !LOW_BITS
}

#[cfg(test)]
mod tests;
