//! The values that an account was seen with in one dimension, and since when.

use super::windows::{LEARNING_LAG, Window};
use serde::{Deserialize, Serialize};

/// A bounded set of values with the windows in which each was first seen, seen again a day later,
/// and last seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Known {
    /// The values, and of each the window in which it was first seen, the first one at least a day
    /// later in which it was seen again, and the last: columns, to be searched in few steps.
    values: Vec<u64>,
    first: Vec<Window>,
    again: Vec<Window>,
    last: Vec<Window>,
    /// Values forgotten that were seen on one day only.
    forgotten_once: u32,
}

const NEVER: Window = Window::MAX;

impl Known {
    /// Notes `value` in `window`. Remembers at most `cap`.
    ///
    /// Gives the window in which it was first seen as it was known before, and as it is known now.
    #[inline]
    pub fn see(&mut self, value: u64, window: Window, cap: usize) -> (Option<Window>, Window) {
        if let Some(at) = self.place_of(value) {
            let (first, last) = (&mut self.first[at], &mut self.last[at]);
            let before = *first;
            *first = before.min(window);
            *last = (*last).max(window);
            if window >= *first + LEARNING_LAG {
                self.again[at] = self.again[at].min(window);
            }
            return (Some(before), *first);
        }
        if self.values.len() >= cap {
            self.forget_oldest();
        }
        self.values.push(value);
        self.first.push(window);
        self.again.push(NEVER);
        self.last.push(window);
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
        for (first, again) in self.first.iter().zip(&self.again) {
            let known = *first <= window;
            once += u32::from(known && *again > window);
            recent += u32::from(known && *first + WEEK > window && *first >= began + LEARNING_LAG);
        }
        once.max(recent * windows.div_ceil(WEEK))
    }

    /// Values first seen until `window`, longest known first.
    pub fn until(&self, window: Window) -> Vec<u64> {
        let mut known: Vec<_> = self
            .values
            .iter()
            .zip(&self.first)
            .filter(|(_, first)| **first <= window)
            .map(|(value, first)| (*first, *value))
            .collect();
        known.sort_unstable();
        known.into_iter().map(|(_, value)| value).collect()
    }

    fn forget_oldest(&mut self) {
        // In two steps, each a loop over plain numbers: accounts that do ever new things come here
        // with each of them.
        let longest_ago = self.last.iter().copied().min();
        let oldest = (0..self.values.len()).filter(|at| Some(self.last[*at]) == longest_ago);
        if let Some(at) = oldest.min_by_key(|at| self.values[*at]) {
            self.values.swap_remove(at);
            self.first.swap_remove(at);
            self.last.swap_remove(at);
            self.forgotten_once += u32::from(self.again.swap_remove(at) == NEVER);
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
