use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// One number of bytes for a whole process, from which every buffer is reserved before it is filled.
///
/// Clones share the budget. What is reserved is given back when the [`Reservation`] is dropped.
///
/// ```
/// use promferry_model::{MemoryBudget, Purpose};
/// let budget = MemoryBudget::new(1000);
/// let mut body = budget.try_reserve(Purpose::Bodies, 600).unwrap();
/// assert!(budget.try_reserve(Purpose::Series, 500).is_err());
/// body.resize(100).unwrap();
/// assert_eq!(budget.used(), 100);
/// drop(body);
/// assert_eq!((budget.used(), budget.peak()), (0, 600));
/// ```
#[derive(Clone)]
pub struct MemoryBudget(Arc<Inner>);

struct Inner {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    by_purpose: [AtomicUsize; Purpose::ALL.len()],
    waiting: Mutex<VecDeque<Waker>>,
    /// Lets a release skip the lock when nobody waits.
    waiters: AtomicUsize,
}

/// What memory is for; used where its use is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Pages that are being read, inflated or parsed.
    Bodies,
    /// What is known about series.
    Series,
    /// Samples being encoded, queued for the disk, or read back and in flight to an endpoint.
    Buffers,
    /// Samples kept in memory because the disk does not take them.
    Fallback,
}

impl Purpose {
    /// Every purpose, in the order of display.
    pub const ALL: [Self; 4] = [Self::Bodies, Self::Series, Self::Buffers, Self::Fallback];

    /// A word for it, as a label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Series => "series",
            Self::Buffers => "buffers",
            Self::Fallback => "fallback",
        }
    }
}

/// There was not enough left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory budget exceeded: {wanted} bytes wanted for {purpose}, {available} of {limit} bytes left", purpose = purpose.as_str())]
pub struct OverBudget {
    /// What it was for.
    pub purpose: Purpose,
    /// Bytes that were wanted.
    pub wanted: usize,
    /// Bytes that were left.
    pub available: usize,
    /// The whole budget in bytes.
    pub limit: usize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            by_purpose: Default::default(),
            waiting: Mutex::default(),
            waiters: AtomicUsize::new(0),
        }))
    }

    /// A budget that never runs out, for tests and for programs that bound memory otherwise.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX / 2)
    }

    /// Reserves `bytes` now.
    ///
    /// # Errors
    /// [`OverBudget`] when less than that is left.
    pub fn try_reserve(&self, purpose: Purpose, bytes: usize) -> Result<Reservation, OverBudget> {
        self.take(purpose, bytes)?;
        Ok(Reservation { budget: self.clone(), purpose, bytes })
    }

    /// Reserves `bytes` as soon as they are left.
    ///
    /// Only the first reservation of a piece of work may wait; growing it fails at once
    /// ([`Reservation::resize`]), so that those who hold memory never wait for each other. Resolves to an
    /// error at once when `bytes` exceeds the whole budget.
    pub fn reserve(&self, purpose: Purpose, bytes: usize) -> Reserve {
        Reserve { budget: self.clone(), purpose, bytes, waiting: false }
    }

    /// The whole budget in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Bytes reserved now for `purpose`.
    pub fn used_by(&self, purpose: Purpose) -> usize {
        self.0.by_purpose[purpose as usize].load(Ordering::Relaxed)
    }

    /// Bytes left.
    pub fn available(&self) -> usize {
        self.0.limit.saturating_sub(self.used())
    }

    /// The most bytes that were ever reserved at once.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    fn take(&self, purpose: Purpose, bytes: usize) -> Result<(), OverBudget> {
        let inner = &*self.0;
        let taken = inner.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|&sum| sum <= inner.limit)
        });
        match taken {
            Ok(before) => {
                inner.peak.fetch_max(before + bytes, Ordering::Relaxed);
                inner.by_purpose[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => Err(OverBudget {
                purpose,
                wanted: bytes,
                available: inner.limit.saturating_sub(used),
                limit: inner.limit,
            }),
        }
    }

    fn give_back(&self, purpose: Purpose, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let inner = &*self.0;
        inner.by_purpose[purpose as usize].fetch_sub(bytes, Ordering::Relaxed);
        inner.used.fetch_sub(bytes, Ordering::SeqCst);
        if inner.waiters.load(Ordering::SeqCst) > 0 {
            let wakers = std::mem::take(&mut *inner.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("limit", &self.limit()).field("used", &self.used()).finish()
    }
}

/// Bytes taken from a [`MemoryBudget`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    purpose: Purpose,
    bytes: usize,
}

impl Reservation {
    /// Bytes reserved.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Grows or shrinks to `bytes`.
    ///
    /// # Errors
    /// [`OverBudget`] when growing and too little is left; the reservation stays as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), OverBudget> {
        if bytes > self.bytes {
            self.budget.take(self.purpose, bytes - self.bytes)?;
        } else {
            self.budget.give_back(self.purpose, self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Moves up to `bytes` of this reservation into one of their own.
    pub fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), purpose: self.purpose, bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.purpose, self.bytes);
    }
}

/// Waits for memory; see [`MemoryBudget::reserve`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Reserve {
    budget: MemoryBudget,
    purpose: Purpose,
    bytes: usize,
    waiting: bool,
}

impl Future for Reserve {
    type Output = Result<Reservation, OverBudget>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let over = match self.budget.try_reserve(self.purpose, self.bytes) {
            Ok(reservation) => return Poll::Ready(Ok(reservation)),
            Err(over) => over,
        };
        if self.bytes > over.limit {
            return Poll::Ready(Err(over));
        }
        if !self.waiting {
            self.waiting = true;
            self.budget.0.waiters.fetch_add(1, Ordering::SeqCst);
        }
        self.budget.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(cx.waker().clone());
        // What was given back between the first try and the registration woke nobody: try once more.
        match self.budget.try_reserve(self.purpose, self.bytes) {
            Ok(reservation) => Poll::Ready(Ok(reservation)),
            Err(_) => Poll::Pending,
        }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if self.waiting {
            self.budget.0.waiters.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_first_reservation_waits_until_memory_is_given_back() {
        let budget = MemoryBudget::new(100);
        let held = budget.try_reserve(Purpose::Bodies, 80).unwrap();
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut reserve = Box::pin(budget.reserve(Purpose::Bodies, 50));
        assert!(reserve.as_mut().poll(&mut cx).is_pending());
        drop(held);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(matches!(reserve.as_mut().poll(&mut cx), Poll::Ready(Ok(r)) if r.bytes() == 50));
    }

    #[test]
    fn more_than_the_whole_budget_fails_at_once_and_says_so() {
        let budget = MemoryBudget::new(100);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(over)) = Box::pin(budget.reserve(Purpose::Bodies, 101)).as_mut().poll(&mut cx)
        else {
            panic!("has to fail");
        };
        assert_eq!(
            over.to_string(),
            "memory budget exceeded: 101 bytes wanted for bodies, 100 of 100 bytes left"
        );
    }

    #[test]
    fn splitting_and_resizing_keep_the_sum() {
        let budget = MemoryBudget::new(100);
        let mut a = budget.try_reserve(Purpose::Buffers, 60).unwrap();
        let b = a.split(25);
        assert_eq!((a.bytes(), b.bytes(), budget.used_by(Purpose::Buffers)), (35, 25, 60));
        assert!(a.resize(76).is_err());
        assert_eq!(a.bytes(), 35);
        a.resize(75).unwrap();
        drop(b);
        assert_eq!(budget.used(), 75);
    }
}
