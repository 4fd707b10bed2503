//! Whether work takes time in proportion to what it reads and gives.

use rustix::time::{ClockId, clock_gettime};

/// About how long a small input is and a large one, in bytes.
pub(crate) const SIZES: [usize; 2] = [4 << 10, 32 << 10];

/// By how much the cost of a byte may grow when the input is eight times as long. It does a little, as caches are left
/// behind and labels are sorted; in quadratic time it grows eightfold.
const MOST_GROWTH: f64 = 3.0;

/// `work` takes inputs of [`SIZES`] and returns how many bytes it read and gave.
#[track_caller]
pub(crate) fn assert_linear<T>(name: &str, how: &str, [small, large]: &[T; 2], work: impl Fn(&T) -> usize) {
    let cost = |input: &T| {
        let start = cpu_time();
        let bytes = work(input);
        (cpu_time() - start) / bytes as f64
    };
    // Nanoseconds for each byte, the least of some tries.
    let (mut of_small, mut of_large) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        of_small = of_small.min(cost(small));
        of_large = of_large.min(cost(large));
        if of_large <= of_small * MOST_GROWTH {
            return;
        }
    }
    panic!("{name} {how}: {of_small:.1} ns a byte became {of_large:.1}");
}

/// The processor's time that the current thread has taken, in nanoseconds: other programs' work does not count.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
