//! Protobuf's wire format, read as the code that gogo-protobuf generates reads it: what that takes or
//! refuses, Prometheus takes or refuses.

use crate::classic_histogram::Unconvertible;

/// A cursor over one message within a page. Positions count from the page's start.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    page: &'a [u8],
    at: usize,
    end: usize,
}

/// A field's number and wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: i32,
    pub(crate) wire: u8,
}

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LENGTH: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// What is wrong with a message, and where in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireError {
    pub(crate) at: usize,
    pub(crate) problem: WireProblem,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireProblem {
    #[error("group ends that did not start")]
    GroupEnd,
    #[error("illegal field number")]
    FieldNumber,
    #[error("illegal wire type")]
    WireType,
    #[error("wrong wire type for the field")]
    NotVarint,
    #[error("wrong wire type for the field")]
    NotFixed64,
    #[error("wrong wire type for the field")]
    NotLength,
    #[error("message ends within a number")]
    CutVarint,
    #[error("number longer than ten bytes")]
    LongVarint,
    #[error("message ends within a field")]
    CutFixed,
    #[error("field is longer than its message")]
    CutLength,
    #[error("length of the metric family is out of range")]
    FamilyLength,
    #[error("metric family is longer than the page")]
    CutFamily,
    #[error("name of the metric family is empty or not valid UTF-8")]
    FamilyName,
    #[error("help text is not valid UTF-8")]
    Help,
    #[error("unit is not valid UTF-8")]
    Unit,
    #[error("unknown metric type")]
    MetricType,
    #[error("spans of the native histogram promise another number of buckets than there are")]
    Spans,
    #[error("{}", .0.problem())]
    ClassicHistogram(Unconvertible),
    #[error("label name is not valid UTF-8")]
    LabelName,
    #[error("label name is empty")]
    EmptyLabelName,
    #[error("label value is not valid UTF-8")]
    LabelValue,
}

impl WireProblem {
    /// What could have stood there.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::GroupEnd => "a field or the end of the message",
            Self::FieldNumber => "a field number from 1 on",
            Self::WireType => "a wire type from 0 to 5",
            Self::NotVarint => "an integer (wire type 0)",
            Self::NotFixed64 => "a 64-bit number (wire type 1)",
            Self::NotLength => "a length and as many bytes (wire type 2)",
            Self::CutVarint => "the rest of the number",
            Self::LongVarint => "a number of ten bytes at most",
            Self::CutFixed => "as many bytes as the field's wire type says",
            Self::CutLength => "a length within the message",
            Self::FamilyLength => "a length of five bytes at most",
            Self::CutFamily => "a length within the page",
            Self::FamilyName => "a name in UTF-8",
            Self::Help | Self::Unit | Self::LabelValue => "text in UTF-8",
            Self::MetricType => "a type from 0 to 5",
            Self::Spans => "as many buckets as the spans' lengths add up to",
            Self::ClassicHistogram(_) => "a histogram that custom buckets can hold",
            Self::LabelName | Self::EmptyLabelName => "a label name in UTF-8",
        }
    }
}

impl<'a> Message<'a> {
    pub(crate) const fn new(page: &'a [u8], start: usize, end: usize) -> Self {
        Self { page, at: start, end }
    }

    /// Another message of the same page.
    pub(crate) const fn part(&self, start: usize, end: usize) -> Self {
        Self { page: self.page, at: start, end }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn end(&self) -> usize {
        self.end
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        &self.page[self.at..self.end]
    }

    /// The next field's tag; `None` at the end of the message.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<Field>, WireError> {
        #[cfg(test)]
        FIELDS_READ.with(|count| count.set(count.get() + 1));
        if self.at >= self.end {
            return Ok(None);
        }
        let start = self.at;
        let tag = self.varint()?;
        // The generated code keeps 32 bits of the number.
        let field = Field { number: (tag >> 3) as i32, wire: (tag & 7) as u8 };
        if field.wire == GROUP_END {
            return Err(WireError { at: start, problem: WireProblem::GroupEnd });
        }
        if field.number <= 0 {
            return Err(WireError { at: start, problem: WireProblem::FieldNumber });
        }
        Ok(Some(field))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        if let Some(&byte) = self.page[..self.end].get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let start = self.at;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.page[..self.end].get(self.at) else {
                // Where nothing is left the message's last byte is said, which is the field's own.
                let at = start.min(self.end.saturating_sub(1));
                return Err(WireError { at, problem: WireProblem::CutVarint });
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError { at: start, problem: WireProblem::LongVarint })
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, WireError> {
        let Some(bytes) = self.page[..self.end].get(self.at..).and_then(|rest| rest.first_chunk::<8>())
        else {
            let at = self.at.min(self.end.saturating_sub(1));
            return Err(WireError { at, problem: WireProblem::CutFixed });
        };
        self.at += 8;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(crate) fn double(&mut self, field: Field) -> Result<f64, WireError> {
        self.expect(field, FIXED64)?;
        Ok(f64::from_bits(self.fixed64()?))
    }

    pub(crate) fn integer(&mut self, field: Field) -> Result<u64, WireError> {
        self.expect(field, VARINT)?;
        self.varint()
    }

    /// A length-delimited field's content.
    #[inline]
    pub(crate) fn message(&mut self, field: Field) -> Result<Self, WireError> {
        self.expect(field, LENGTH)?;
        let start = self.at;
        let length = self.varint()?;
        let end = usize::try_from(length)
            .ok()
            .filter(|length| *length <= isize::MAX as usize)
            .and_then(|length| self.at.checked_add(length))
            .filter(|end| *end <= self.end)
            .ok_or(WireError { at: start, problem: WireProblem::CutLength })?;
        let content = Self { page: self.page, at: self.at, end };
        self.at = end;
        Ok(content)
    }

    /// Calls `read` for each number of a repeated field, packed or not.
    pub(crate) fn repeated(
        &mut self,
        field: Field,
        wire: u8,
        mut read: impl FnMut(u64),
    ) -> Result<(), WireError> {
        let mut number = |message: &mut Self| {
            read(if wire == VARINT { message.varint()? } else { message.fixed64()? });
            Ok(())
        };
        if field.wire == wire {
            return number(self);
        }
        let packed = self.message(field)?;
        // The generated code bounds packed numbers by the message, not by the field.
        self.at = packed.at;
        while self.at < packed.end {
            number(self)?;
        }
        Ok(())
    }

    /// Passes over a field's content, groups included.
    pub(crate) fn skip(&mut self, field: Field) -> Result<(), WireError> {
        let mut depth = 0_usize;
        let mut wire = field.wire;
        loop {
            let start = self.at;
            match wire {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => self.pass(8)?,
                LENGTH => {
                    self.message(Field { number: field.number, wire: LENGTH })?;
                }
                GROUP_START => depth += 1,
                GROUP_END if depth > 0 => depth -= 1,
                FIXED32 => self.pass(4)?,
                // The last byte of the tag that says so.
                _ => return Err(WireError { at: start - 1, problem: WireProblem::WireType }),
            }
            if depth == 0 {
                return Ok(());
            }
            wire = (self.varint()? & 7) as u8;
        }
    }

    fn pass(&mut self, bytes: usize) -> Result<(), WireError> {
        if self.end - self.at < bytes {
            let at = self.at.min(self.end.saturating_sub(1));
            return Err(WireError { at, problem: WireProblem::CutFixed });
        }
        self.at += bytes;
        Ok(())
    }

    fn expect(&self, field: Field, wire: u8) -> Result<(), WireError> {
        if field.wire == wire {
            Ok(())
        } else {
            let problem = match wire {
                VARINT => WireProblem::NotVarint,
                FIXED64 => WireProblem::NotFixed64,
                _ => WireProblem::NotLength,
            };
            Err(WireError { at: self.at, problem })
        }
    }
}

pub(crate) const fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
thread_local! {
    static FIELDS_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How often this thread has asked for a message's next field: what a walk costs, without a clock.
#[cfg(test)]
pub(crate) fn fields_read() -> u64 {
    FIELDS_READ.with(std::cell::Cell::get)
}
