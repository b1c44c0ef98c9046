//! Activity and counts by window of time, readable as they stood some windows ago.

use serde::{Deserialize, Serialize};
use telltale_schema::Micros;
use telltale_schema::time::{DAY, HOUR};

/// Number of an hour since the epoch; what lies outside of the range is clamped into it.
pub type Window = u32;

/// What is seen again after this many windows has come to stay.
pub const LEARNING_LAG: u32 = 24;

/// A window this far back is complete for every lateness that an engine allows (an hour).
pub const SETTLED: u32 = 2;

/// The last window of which a score in `window` knows anything.
///
/// It is the same for all of a day, so that what is unusual about a day does not depend on which of
/// its events came first; and it is settled when the day begins.
pub fn known_before(window: Window) -> Window {
    (window / 24 * 24).saturating_sub(1 + SETTLED)
}

#[inline]
pub fn window_of(at: Micros) -> Window {
    (at / HOUR).clamp(0, i64::from(u32::MAX) - 1) as u32
}

pub fn window_start(window: Window) -> Micros {
    i64::from(window) * HOUR
}

/// In which windows an account was active: all of them counted, the last 64 one by one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Activity {
    pub first: Window,
    newest: Window,
    /// Bit `i` stands for window `newest - i`.
    recent: u64,
    total: u32,
    by_hour: [u16; 24],
}

impl Activity {
    /// Notes activity in `window`; true when it is the first there.
    #[inline]
    pub fn see(&mut self, window: Window) -> bool {
        if self.total == 0 {
            (self.first, self.newest) = (window, window);
        } else if window > self.newest {
            self.recent = self.recent.checked_shl(window - self.newest).unwrap_or(0);
            self.newest = window;
        }
        self.first = self.first.min(window);
        let back = self.newest - window;
        // Later than the memory reaches: the window was counted or is not worth counting.
        if back >= 64 || self.recent >> back & 1 == 1 {
            return false;
        }
        self.recent |= 1 << back;
        self.total += 1;
        let hour = &mut self.by_hour[window as usize % 24];
        *hour = hour.saturating_add(1);
        true
    }

    /// Active windows up to and with `window`, which is among the last 64.
    pub fn count_until(&self, window: Window) -> u32 {
        self.total - self.after(window).count_ones()
    }

    /// Active windows until `window` at the hour of day of `at` or the hours beside it.
    pub fn count_near_hour(&self, at: Window, window: Window) -> u32 {
        let mut after = self.after(window);
        let hours = [at + 23, at, at + 1].map(|hour| hour % 24);
        let mut count: u32 = hours.iter().map(|hour| u32::from(self.by_hour[*hour as usize])).sum();
        while after != 0 {
            let seen = self.newest - after.trailing_zeros();
            count = count.saturating_sub(u32::from(hours.contains(&(seen % 24))));
            after &= after - 1;
        }
        count
    }

    /// The bits of windows after `window`.
    fn after(&self, window: Window) -> u64 {
        match self.newest.saturating_sub(window) {
            0 => 0,
            back @ 1..64 => self.recent & ((1 << back) - 1),
            _ => self.recent,
        }
    }
}

/// A counter by day that can be read as it stood up to three days ago.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Daily {
    newest: u32,
    recent: [u32; 4],
    older: u64,
    older_days: u32,
}

impl Daily {
    pub fn add(&mut self, at: Micros) {
        let day = (at / DAY).clamp(0, i64::from(u32::MAX)) as u32;
        if self.newest == 0 {
            self.newest = day;
        }
        while day > self.newest {
            if day - self.newest > 64 {
                // A hole in the archive: what lies before it is folded at once.
                self.older += self.recent.iter().map(|n| u64::from(*n)).sum::<u64>();
                self.older_days += 4;
                self.recent = [0; 4];
                self.newest = day;
                break;
            }
            self.older += u64::from(self.recent[3]);
            self.older_days += u32::from(self.recent[3] > 0);
            self.recent.rotate_right(1);
            self.recent[0] = 0;
            self.newest += 1;
        }
        if let Some(slot) = self.recent.get_mut((self.newest - day) as usize) {
            *slot = slot.saturating_add(1);
        }
    }

    /// Sum over the days before the day before `at`.
    pub fn sum_before(&self, at: Micros) -> u64 {
        self.before(at).0
    }

    /// Mean of the days before the day before `at` on which there was anything.
    pub fn mean_before(&self, at: Micros) -> Option<f64> {
        let (sum, days) = self.before(at);
        (days > 0).then(|| sum as f64 / f64::from(days))
    }

    fn before(&self, at: Micros) -> (u64, u32) {
        let day = (at / DAY).clamp(0, i64::from(u32::MAX)) as u32;
        let (mut sum, mut days) = (self.older, self.older_days);
        for (back, count) in self.recent.iter().enumerate() {
            if *count > 0 && self.newest.saturating_sub(back as u32) + 2 <= day {
                sum += u64::from(*count);
                days += 1;
            }
        }
        (sum, days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_reads_the_past_whatever_the_order() {
        let count = |order: &[u32]| {
            let mut activity = Activity::default();
            order.iter().for_each(|window| {
                activity.see(*window);
            });
            (activity.count_until(100), activity.count_near_hour(101, 100))
        };
        assert_eq!(count(&[99, 100, 101, 102, 102]), (2, 1));
        assert_eq!(count(&[100, 99, 102, 101]), (2, 1));
    }

    #[test]
    fn daily_mean_leaves_out_the_days_that_may_still_grow() {
        let mut daily = Daily::default();
        for day in 10..13 {
            for _ in 0..=(day - 10) {
                daily.add(day * DAY);
            }
        }
        assert_eq!(daily.mean_before(12 * DAY), Some(1.0));
        assert_eq!(daily.mean_before(11 * DAY), None);
    }
}
