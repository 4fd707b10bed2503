//! Inflating a page into a reused buffer, within limits.

use flate2::{Decompress, FlushDecompress, Status};

use crate::ScrapeError;
use crate::cpu::Held;

/// How large a page may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageLimits {
    /// `body_size_limit`, zero for none: that many bytes are too many.
    pub(crate) body_size_limit: u64,
    /// The most that one page may take of the memory budget.
    pub(crate) memory: usize,
}

impl PageLimits {
    /// Whether a page may have `bytes` bytes.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), ScrapeError> {
        if self.body_size_limit > 0 && bytes as u64 >= self.body_size_limit {
            return Err(ScrapeError::BodySizeLimit { limit: self.body_size_limit });
        }
        if bytes > self.memory {
            return Err(ScrapeError::PageTooLarge { limit: self.memory });
        }
        Ok(())
    }
}

/// Inflates gzip data of one or more members into `page`, whose memory `held` accounts for.
///
/// Output is checked every 64 KiB, so a small body that inflates to a huge one fails long before it does.
pub(crate) fn gunzip(
    compressed: &[u8],
    page: &mut Vec<u8>,
    held: &mut Held,
    limits: PageLimits,
) -> Result<(), ScrapeError> {
    page.clear();
    let damaged = |reason: &str| ScrapeError::Inflate { reason: reason.to_owned() };
    let mut rest = compressed;
    let mut inflater = Decompress::new_gzip(WINDOW_BITS);
    loop {
        if page.len() == page.capacity() {
            let grown = page.capacity().saturating_add((page.capacity() / 4).max(STEP_BYTES));
            let grown = grown.min(limits.memory.saturating_add(1)).max(page.len() + 1);
            held.grow_to(grown)?;
            page.reserve_exact(grown - page.len());
        }
        let (in_before, out_before) = (inflater.total_in(), inflater.total_out());
        let status = inflater
            .decompress_vec(rest, page, FlushDecompress::None)
            .map_err(|error| damaged(error.message().unwrap_or("not valid gzip data")))?;
        let taken = (inflater.total_in() - in_before) as usize;
        rest = &rest[taken..];
        limits.check(page.len())?;
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(()),
            Status::StreamEnd => inflater = Decompress::new_gzip(WINDOW_BITS),
            _ if taken == 0 && inflater.total_out() == out_before && page.len() < page.capacity() => {
                return Err(damaged("it ends in the middle"));
            }
            _ => {}
        }
    }
}

const WINDOW_BITS: u8 = 15;
const STEP_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use promferry_model::{MemoryBudget, Purpose};
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(
        compressed: &[u8],
        body_size_limit: u64,
        budget: &MemoryBudget,
    ) -> Result<Vec<u8>, ScrapeError> {
        let mut page = Vec::new();
        let mut held = Held::new(budget, Purpose::Bodies);
        let limits = PageLimits { body_size_limit, memory: budget.limit() };
        gunzip(compressed, &mut page, &mut held, limits)?;
        assert!(held.bytes() >= page.capacity());
        Ok(page)
    }

    #[test]
    fn one_member_several_members_and_damage() {
        let budget = MemoryBudget::unlimited();
        let text = "up 1\n".repeat(100_000).into_bytes();
        assert_eq!(inflated(&gzip(&text), 0, &budget).unwrap(), text);
        let two = [gzip(b"a 1\n"), gzip(b""), gzip(b"b 2\n")].concat();
        assert_eq!(inflated(&two, 0, &budget).unwrap(), b"a 1\nb 2\n");
        let whole = gzip(&text);
        for broken in
            [&whole[..whole.len() - 4], &whole[..20], b"", b"up 1\n", &[whole.as_slice(), b"x"].concat()]
        {
            let error = inflated(broken, 0, &budget).unwrap_err();
            assert!(matches!(error, ScrapeError::Inflate { .. }), "{error}");
        }
    }

    #[test]
    fn limits_hold_while_inflating() {
        let text = vec![b' '; 1 << 20];
        let compressed = gzip(&text);
        let budget = MemoryBudget::unlimited();
        assert!(inflated(&compressed, (1 << 20) + 1, &budget).is_ok());
        let error = inflated(&compressed, 1 << 20, &budget).unwrap_err();
        assert!(matches!(error, ScrapeError::BodySizeLimit { limit: 1_048_576 }));
        let small = MemoryBudget::new(200_000);
        let error = inflated(&compressed, 0, &small).unwrap_err();
        assert_eq!(error.reason(), "memory");
        assert!(small.peak() <= 200_000);
        assert_eq!(small.used(), 0);
    }
}
