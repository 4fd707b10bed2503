//! CPU sections: as many pages are worked on at once as there are cores.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use promferry_model::{MemoryBudget, OverBudget, Purpose, Reservation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::scratch::Scratch;

/// The permits to inflate and read pages. Each permit is a set of buffers that is used again and again, so
/// memory for pages being read is the number of permits times the largest page, however many targets there
/// are.
///
/// Clones share the permits.
#[derive(Clone)]
pub struct CpuSections(Arc<Shared>);

struct Shared {
    permits: usize,
    free: Arc<Semaphore>,
    idle: Mutex<Vec<Scratch>>,
}

impl CpuSections {
    /// `permits` sections at once, at least one: the number of cores.
    pub fn new(permits: usize) -> Self {
        let permits = permits.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared { permits, free: Arc::new(Semaphore::new(permits)), idle: Mutex::default() }))
    }

    /// How many sections may run at once.
    pub fn permits(&self) -> usize {
        self.0.permits
    }

    /// Waits for a section. Dropping it gives the buffers back.
    pub(crate) async fn enter(&self, budget: &MemoryBudget) -> Section {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0.free).acquire_owned().await.ok();
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let scratch = idle.unwrap_or_else(|| Scratch::new(budget));
        Section { scratch: Some(scratch), shared: Some(Arc::clone(&self.0)), _permit: permit }
    }
}

impl fmt::Debug for CpuSections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuSections")
            .field("permits", &self.0.permits)
            .field("free", &self.0.free.available_permits())
            .finish()
    }
}

/// The right to work on one page, with the buffers to do it.
pub(crate) struct Section {
    scratch: Option<Scratch>,
    /// Where the buffers go afterwards.
    shared: Option<Arc<Shared>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Section {
    /// A section that belongs to its owner alone and counts against no permits.
    pub(crate) fn alone() -> Self {
        Self { scratch: None, shared: None, _permit: None }
    }

    /// The buffers.
    pub(crate) fn scratch(&mut self, budget: &MemoryBudget) -> &mut Scratch {
        self.scratch.get_or_insert_with(|| Scratch::new(budget))
    }

    /// Forgets the buffers: after a panic nothing is known about them.
    pub(crate) fn discard_scratch(&mut self) {
        self.scratch = None;
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        if let (Some(scratch), Some(shared)) = (self.scratch.take(), &self.shared) {
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        }
    }
}

/// Memory whose size is kept in step with the budget.
#[derive(Debug)]
pub(crate) struct Held {
    reservation: Option<Reservation>,
    budget: MemoryBudget,
    purpose: Purpose,
}

impl Held {
    pub(crate) fn new(budget: &MemoryBudget, purpose: Purpose) -> Self {
        Self { reservation: None, budget: budget.clone(), purpose }
    }

    /// Reserves up to `bytes` in all; never gives back.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), OverBudget> {
        match &mut self.reservation {
            Some(held) if held.bytes() >= bytes => Ok(()),
            Some(held) => held.resize(bytes),
            None => {
                self.reservation = Some(self.budget.try_reserve(self.purpose, bytes)?);
                Ok(())
            }
        }
    }

    /// Gives back what is more than `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if let Some(held) = &mut self.reservation
            && held.bytes() > bytes
        {
            // Shrinking cannot fail.
            let _ = held.resize(bytes);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.reservation.as_ref().map_or(0, Reservation::bytes)
    }
}
