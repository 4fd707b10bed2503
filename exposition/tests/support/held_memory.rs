//! What the current thread allocates and holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
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
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
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

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each test asks for a part")]
pub(crate) struct Taken {
    /// How often it allocated.
    pub(crate) allocations: u64,
    /// Bytes held behind it, what it returned included.
    pub(crate) kept: usize,
    /// The most bytes it held at one time.
    pub(crate) peak: usize,
}

pub(crate) fn taken_by<T>(work: impl FnOnce() -> T) -> (Taken, T) {
    let (allocations, before) = (ALLOCATIONS.get(), HELD.get());
    PEAK.set(before);
    let result = work();
    let more = |now: isize| usize::try_from(now - before).unwrap_or(0);
    let allocations = ALLOCATIONS.get() - allocations;
    (Taken { allocations, kept: more(HELD.get()), peak: more(PEAK.get()) }, result)
}
