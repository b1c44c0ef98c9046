//! The values that an account was seen with in one dimension, and since when.

use super::push_to_few;
use super::windows::{LEARNING_LAG, Window};
use serde::{Deserialize, Serialize};

/// A bounded set of values with the windows in which each was first seen, seen again a day later,
/// and last seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    values: Vec<u64>,
    times: Vec<Times>,
    /// Values forgotten that were seen on one day only.
    forgotten_once: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Times {
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
        if let Some(at) = self.place_of(value) {
            let times = &mut self.times[at];
            let before = times.first;
            times.first = times.first.min(window);
            times.last = times.last.max(window);
            if window >= times.first + LEARNING_LAG {
                times.again = times.again.min(window);
            }
            return (Some(before), times.first);
        }
        if self.values.len() >= cap {
            self.forget_oldest();
        }
        push_to_few(&mut self.values, value);
        push_to_few(&mut self.times, Times { first: window, again: NEVER, last: window });
        (None, window)
    }

    #[inline]
    fn place_of(&self, value: u64) -> Option<usize> {
        /// Compared at once, without a branch for each.
        const STEP: usize = 8;
        let has = |some: &[u64]| some.iter().fold(false, |has, known| has | (*known == value));
        let start = self.values.chunks(STEP).position(has)? * STEP;
        let within = self.values[start..].iter().position(|known| *known == value)?;
        Some(start + within)
    }

    /// How many values were new to an account that began in `began`, as of `window`, in terms of
    /// `windows` of activity.
    ///
    /// The larger of two estimates: the values that were seen on one day only (Good and Turing),
    /// and the new ones of the last week, where the account meets new ones that then stay.
    pub fn new_until(&self, window: Window, began: Window, windows: u32) -> u32 {
        const WEEK: u32 = 7 * 24;
        let (mut once, mut recent) = (self.forgotten_once, 0);
        for times in self.times.iter().filter(|times| times.first <= window) {
            once += u32::from(times.again > window);
            recent += u32::from(times.first + WEEK > window && times.first >= began + LEARNING_LAG);
        }
        once.max(recent * windows.div_ceil(WEEK))
    }

    /// Values first seen until `window`, longest known first.
    pub fn until(&self, window: Window) -> Vec<u64> {
        let mut known: Vec<_> = self
            .values
            .iter()
            .zip(&self.times)
            .filter(|(_, times)| times.first <= window)
            .map(|(value, times)| (times.first, *value))
            .collect();
        known.sort_unstable();
        known.into_iter().map(|(_, value)| value).collect()
    }

    fn forget_oldest(&mut self) {
        let oldest =
            (0..self.values.len()).min_by_key(|at| (self.times[*at].last, self.values[*at]));
        if let Some(at) = oldest {
            self.values.swap_remove(at);
            let times = self.times.swap_remove(at);
            self.forgotten_once += u32::from(times.again == NEVER);
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
