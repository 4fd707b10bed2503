//! The buffers that one CPU section works with.

use promferry_exposition::LabelBuffer;
use promferry_model::{LabelsBuilder, MemoryBudget, Purpose, SeriesId, Timestamp};

use crate::ScrapeError;
use crate::bits::SeriesSet;
use crate::cache::Walk;
use crate::cpu::Held;
use crate::exemplars::ExemplarBuffers;
use crate::family::Family;
use crate::inflate::{PageLimits, gunzip};

/// All that reading a page needs and no target has to keep between pages.
#[derive(Debug)]
pub(crate) struct Scratch {
    page: Vec<u8>,
    pub(crate) walk: Walk,
    pub(crate) labels: LabelBuffer,
    pub(crate) builder: LabelsBuilder,
    pub(crate) exemplars: ExemplarBuffers,
    pub(crate) family: Family,
    /// Series of this page.
    pub(crate) seen: SeriesSet,
    /// Series of this page that get a stale marker when they end.
    pub(crate) tracked: SeriesSet,
    /// The last timestamps that this page replaced, to be put back if it fails.
    pub(crate) replaced_timestamps: Vec<(SeriesId, Option<Timestamp>)>,
    pub(crate) ended: Vec<SeriesId>,
    /// The first series of this page that was refused, and why.
    pub(crate) refused: Option<String>,
    held: Held,
    /// How large pages have been lately.
    usual_bytes: usize,
}

impl Scratch {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        Self {
            page: Vec::new(),
            walk: Walk::default(),
            labels: LabelBuffer::new(),
            builder: LabelsBuilder::new(),
            exemplars: ExemplarBuffers::default(),
            family: Family::default(),
            seen: SeriesSet::default(),
            tracked: SeriesSet::default(),
            replaced_timestamps: Vec::new(),
            ended: Vec::new(),
            refused: None,
            held: Held::new(budget, Purpose::Bodies),
            usual_bytes: 0,
        }
    }

    /// Starts over for a page.
    pub(crate) fn start(&mut self) {
        self.walk.start();
        self.family.start();
        self.seen.clear();
        self.tracked.clear();
        self.replaced_timestamps.clear();
        self.ended.clear();
        self.refused = None;
        self.exemplars.start();
    }

    /// Ends a page: what only unusual pages need is given back.
    pub(crate) fn finish(&mut self) {
        self.walk.shrink_to(KEPT_LINES);
    }

    /// Inflates a page. The page leaves the scratch, so that the rest of it can be used meanwhile; bring it
    /// back with [`put_back`](Self::put_back).
    pub(crate) fn inflate(&mut self, compressed: &[u8], limits: PageLimits) -> Result<Vec<u8>, ScrapeError> {
        let mut page = std::mem::take(&mut self.page);
        match gunzip(compressed, &mut page, &mut self.held, limits) {
            Ok(()) => Ok(page),
            Err(error) => {
                // How far a page came that could not be inflated says nothing about pages.
                page.clear();
                self.put_back(page);
                Err(error)
            }
        }
    }

    /// Keeps the memory of a page for the next one, unless the page was unusually large.
    pub(crate) fn put_back(&mut self, mut page: Vec<u8>) {
        self.usual_bytes = (self.usual_bytes * 7 + page.len()) / 8;
        let keep = (self.usual_bytes * 4).max(KEPT_BYTES);
        page.clear();
        page.shrink_to(keep);
        self.held.shrink_to(page.capacity());
        self.page = page;
    }
}

/// Pages up to this size never make a buffer be given back.
const KEPT_BYTES: usize = 256 << 10;

/// As much of a page's order is kept room for.
const KEPT_LINES: usize = 4096;
