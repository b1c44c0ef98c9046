//! Counts by hour: what is usual at this hour of day, and how unlikely a count is.

use super::windows::{SETTLED, Window};
use serde::{Deserialize, Serialize};

/// Windows whose counts are kept one by one.
const RECENT: usize = 32;
/// How many days of its own an hour of day must have to outweigh the account as a whole.
const POOLED_DAYS: f64 = 2.0;
/// Days after which the weight of a count has fallen to a half.
const HALF_LIFE_DAYS: f64 = 28.0;

/// Counts of one account by window, with the sums of all but the latest by hour of day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counts {
    first: Window,
    newest: Window,
    recent: [u32; RECENT],
    hours: [Sums; 24],
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Sums {
    days: f32,
    sum: f32,
    squares: f32,
}

impl Sums {
    fn add(&mut self, count: u32) {
        let count = count as f32;
        let keep = 0.5f32.powf(1.0 / HALF_LIFE_DAYS as f32);
        self.days = self.days * keep + 1.0;
        self.sum = self.sum * keep + count;
        self.squares = self.squares * keep + count * count;
    }
}

impl Counts {
    pub fn new(window: Window) -> Self {
        Self { first: window, newest: window, recent: [0; RECENT], hours: [Sums::default(); 24] }
    }

    /// Counts one event; the count of its window.
    pub fn add(&mut self, window: Window) -> u32 {
        if window > self.newest {
            self.advance(window);
        }
        self.first = self.first.min(window);
        let back = (self.newest - window) as usize;
        let Some(_) = self.recent.get(back) else { return 0 };
        let slot = &mut self.recent[window as usize % RECENT];
        *slot = slot.saturating_add(1);
        *slot
    }

    /// Folds what falls out of the recent windows, silent ones included.
    fn advance(&mut self, window: Window) {
        // More silence than this says nothing further.
        let from = (self.newest + 1).max(window.saturating_sub(90 * 24));
        for next in from..=window {
            let slot = next as usize % RECENT;
            if let Some(old) = next.checked_sub(RECENT as u32)
                && old >= self.first
            {
                self.hours[old as usize % 24].add(self.recent[slot]);
            }
            self.recent[slot] = 0;
        }
        self.newest = window;
    }

    /// Whether every day of the week was seen before `window`: a Monday is no spike on a Sunday.
    pub fn knows_the_week(&self, window: Window) -> bool {
        window.saturating_sub(self.first) >= 7 * 24
    }

    /// Mean and variance that are usual at the hour of `window`, from windows that are settled;
    /// `None` before a day of them.
    ///
    /// The account as a whole stands for an hour of day that is young, pooled by `POOLED_DAYS`.
    pub fn usual(&self, window: Window) -> Option<(f64, f64)> {
        let mut hours = self.hours;
        let settled = window.saturating_sub(SETTLED);
        let oldest = (self.newest + 1).saturating_sub(RECENT as u32).max(self.first);
        for recent in oldest..=settled.min(self.newest) {
            hours[recent as usize % 24].add(self.recent[recent as usize % RECENT]);
        }
        let all = hours.iter().fold((0.0, 0.0, 0.0), |all, hour| {
            (
                all.0 + f64::from(hour.days),
                all.1 + f64::from(hour.sum),
                all.2 + f64::from(hour.squares),
            )
        });
        if all.0 < 24.0 {
            return None;
        }
        let whole = (all.1 / all.0, all.2 / all.0);
        // The hours beside it count as well: jobs drift.
        let own = [23, 0, 1].map(|shift| hours[(window as usize + shift) % 24]);
        let days: f64 = own.iter().map(|hour| f64::from(hour.days)).sum();
        let mean = own.iter().map(|hour| f64::from(hour.sum)).sum::<f64>();
        let squares = own.iter().map(|hour| f64::from(hour.squares)).sum::<f64>();
        let mean = (mean + POOLED_DAYS * whole.0) / (days + POOLED_DAYS);
        let square = (squares + POOLED_DAYS * whole.1) / (days + POOLED_DAYS);
        // The rate itself is known only so well.
        let unsure = (mean + 0.5) / (days + POOLED_DAYS);
        Some((mean + 0.5 / (days + POOLED_DAYS), (square - mean * mean).max(mean) + unsure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::tail::overdispersed_tail;

    fn tail(counts: &Counts, window: Window, count: u32) -> Option<f64> {
        counts.usual(window).map(|(mean, variance)| overdispersed_tail(mean, variance, count))
    }

    fn steady(days: u32, per_hour: impl Fn(u32) -> u32) -> Counts {
        let mut counts = Counts::new(1000 * 24);
        for window in 1000 * 24..(1000 + days) * 24 {
            for _ in 0..per_hour(window % 24) {
                counts.add(window);
            }
        }
        counts
    }

    #[test]
    fn a_nightly_batch_is_usual_at_night_and_not_at_noon() {
        let counts = steady(14, |hour| if hour == 2 { 300 } else { 2 });
        let night = 1014 * 24 + 2;
        let at_night = tail(&counts, night, 310).unwrap_or(0.0);
        let at_noon = tail(&counts, night + 10, 310).unwrap_or(1.0);
        assert!(at_night > 0.05, "{at_night}");
        assert!(at_noon < 0.01, "{at_noon}");
    }

    #[test]
    fn a_spike_on_a_steady_rate_is_rare() {
        let counts = steady(7, |_| 10);
        assert!(tail(&counts, 1007 * 24 + 5, 60).is_some_and(|tail| tail < 1e-6));
        assert!(tail(&counts, 1007 * 24 + 5, 14).is_some_and(|tail| tail > 1e-2));
        assert_eq!(tail(&steady(0, |_| 0), 1000 * 24, 50), None);
    }
}
