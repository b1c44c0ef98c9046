//! The values that an account was seen with in one dimension, and since when.

use super::push_to_few;
use super::windows::{LEARNING_LAG, Window};
use serde::{Deserialize, Serialize};

/// A bounded set of values with the windows in which each was first seen, seen again a day later,
/// and last seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    values: Vec<Value>,
    /// Values forgotten that were seen on one day only.
    forgotten_once: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Value {
    value: u64,
    first: Window,
    /// The first window at least a day after `first` in which it was seen again.
    again: Window,
    last: Window,
}

const NEVER: Window = Window::MAX;

impl Known {
    /// Notes `value` in `window`. Remembers at most `cap`.
    ///
    /// Gives the window in which it was first seen as it was known before, and as it is known now.
    #[inline]
    pub fn see(&mut self, value: u64, window: Window, cap: usize) -> (Option<Window>, Window) {
        if let Some(at) = self.values.iter().position(|known| known.value == value) {
            // What comes often moves to the front, where it is found soon.
            self.values.swap(at, at / 2);
            let known = &mut self.values[at / 2];
            let before = known.first;
            known.first = known.first.min(window);
            known.last = known.last.max(window);
            if window >= known.first + LEARNING_LAG {
                known.again = known.again.min(window);
            }
            return (Some(before), known.first);
        }
        if self.values.len() >= cap {
            self.forget_oldest();
        }
        let new = Value { value, first: window, again: NEVER, last: window };
        push_to_few(&mut self.values, new);
        (None, window)
    }

    /// How many values were new to an account that began in `began`, as of `window`, in terms of
    /// `windows` of activity.
    ///
    /// The larger of two estimates: the values that were seen on one day only (Good and Turing),
    /// and the new ones of the last week, where the account meets new ones that then stay.
    pub fn new_until(&self, window: Window, began: Window, windows: u32) -> u32 {
        self.new_among(|_| true, window, began, windows)
    }

    /// The same of some of the values; all that were forgotten count as such.
    pub fn new_among(
        &self,
        counts: impl Fn(u64) -> bool,
        window: Window,
        began: Window,
        windows: u32,
    ) -> u32 {
        const WEEK: u32 = 7 * 24;
        let (mut once, mut recent) = (self.forgotten_once, 0);
        let counted = |known: &&Value| known.first <= window && counts(known.value);
        for known in self.values.iter().filter(counted) {
            once += u32::from(known.again > window);
            recent += u32::from(known.first + WEEK > window && known.first >= began + LEARNING_LAG);
        }
        once.max(recent * windows.div_ceil(WEEK))
    }

    /// Values first seen until `window`, longest known first.
    pub fn until(&self, window: Window) -> Vec<u64> {
        let mut known: Vec<_> = self
            .values
            .iter()
            .filter(|known| known.first <= window)
            .map(|known| (known.first, known.value))
            .collect();
        known.sort_unstable();
        known.into_iter().map(|(_, value)| value).collect()
    }

    fn forget_oldest(&mut self) {
        let oldest =
            (0..self.values.len()).min_by_key(|at| (self.values[*at].last, self.values[*at].value));
        if let Some(at) = oldest {
            let forgotten = self.values.swap_remove(at);
            self.forgotten_once += u32::from(forgotten.again == NEVER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_once_is_told_from_what_stays() {
        let mut known = Known::default();
        for window in 0..100 {
            known.see(1, window, 8);
        }
        known.see(2, 10, 8);
        assert_eq!(known.new_until(90, 0, 90), 1);
        assert!(known.until(10).contains(&2) && !known.until(9).contains(&2));
        for value in 10..30 {
            known.see(value, 100 + value as Window, 8);
        }
        assert!(known.new_until(200, 0, 100) >= 20, "forgotten values still count as new ones");
    }
}
