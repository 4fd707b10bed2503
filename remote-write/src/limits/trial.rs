/// How much is spent on finding out which series an endpoint takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// Tests that may fail before unknown series are parked untested.
    credit: u32,
    /// Series in the next test.
    size: usize,
    /// Tests that were taken.
    taken: u64,
}

/// Failing tests in a row after which unknown series are parked untested.
const CREDIT: u32 = 64;
/// The same, when a pass over the parked queue begins.
const PASS_CREDIT: u32 = 16;
/// A test that succeeds is worth this many that fail.
const CREDIT_EARNED: u32 = 8;
/// Series in a pass' first test.
const PASS_SIZE: usize = 2;

impl Default for Trial {
    /// Of what comes from the endpoint's own queue: nothing is known yet.
    fn default() -> Self {
        Self { credit: CREDIT, size: usize::MAX, taken: 0 }
    }
}

impl Trial {
    /// Of what a pass finds in the parked queue; without `tests` nothing is tested.
    pub(super) const fn of_pass(tests: bool) -> Self {
        Self { credit: if tests { PASS_CREDIT } else { 0 }, size: PASS_SIZE, taken: 0 }
    }

    /// Whether another test is worth a request.
    pub(super) const fn may_test(self) -> bool {
        self.credit > 0
    }

    /// How many series the next test should have.
    pub(super) const fn size(self) -> usize {
        self.size
    }

    /// How many tests were taken.
    pub(super) const fn taken(self) -> u64 {
        self.taken
    }

    /// A test of so many series was taken, or not.
    pub(super) fn tested(&mut self, series: usize, taken: bool) {
        if taken {
            self.taken += 1;
            self.earn();
            self.size = self.size.max(series).saturating_mul(2);
        } else {
            self.credit = self.credit.saturating_sub(1);
            self.size = (series / 2).max(1);
        }
    }

    /// The endpoint took something it did not know.
    pub(super) fn earn(&mut self) {
        self.credit = (self.credit + CREDIT_EARNED).min(CREDIT);
    }

    /// Of `series` most are taken: it is worth finding out which are not.
    pub(super) fn divide(&mut self, series: usize) {
        self.credit = CREDIT;
        self.size = self.size.max(series / 2).max(1);
    }

    /// One test is possible.
    pub(super) fn allow_one(&mut self) {
        self.credit = self.credit.max(1);
    }
}
