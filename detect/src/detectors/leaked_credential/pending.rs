//! What can be judged when the watermark has passed it.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use telltale_schema::Micros;

/// What waits at once, at half a kilobyte each; above it the one that came first is forgotten.
const MAX_WAITING: usize = 1 << 14;

/// A queue of what the watermark has not passed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pending<T> {
    waiting: VecDeque<T>,
    evicted: u64,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), evicted: 0 }
    }
}

impl<T> Pending<T> {
    pub fn push(&mut self, item: T) {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
            self.evicted += 1;
        }
        self.waiting.push_back(item);
    }

    /// Takes those that the watermark has passed, in the order in which they came.
    pub fn before(&mut self, watermark: Micros, time: impl Fn(&T) -> Micros) -> VecDeque<T> {
        let all = std::mem::take(&mut self.waiting).into_iter();
        let (passed, waiting) = all.partition(|item| time(item) < watermark);
        self.waiting = waiting;
        passed
    }

    pub fn evicted_total(&self) -> u64 {
        self.evicted
    }
}
