//! What a caller usually does: how often it acts as others, and as whom.

use super::verdict::Unusual;
use crate::baseline::counts::Counts;
use crate::baseline::known::Known;
use crate::baseline::profile::Profile;
use crate::baseline::tail::overdispersed_tail;
use crate::baseline::windows::Window;
use crate::episode::Item;
use serde::{Deserialize, Serialize};
use telltale_schema::{Event, EventId, Micros};

/// A count below this is no spike, however steady the past.
pub const FEWEST: u32 = 8;

/// One caller.
#[derive(Serialize, Deserialize)]
pub struct Caller {
    pub profile: Profile,
    pub counts: Counts,
    pub distinct: Counts,
    pub targets: Known,
    /// What kinds of identities it acts as: see [`super::targets`].
    pub classes: Known,
    pub refusing: Known,
    /// The latest windows, oldest first.
    pub hours: Vec<Hour>,
}

/// What a caller did in one window.
#[derive(Serialize, Deserialize)]
pub struct Hour {
    window: Window,
    /// The earliest impersonations.
    pub events: Vec<(Micros, EventId)>,
    /// The earliest one of each target.
    targets: Vec<(u64, (Micros, EventId))>,
}

impl Hour {
    /// Impersonations and targets of one window that are kept one by one.
    const MAX_EVENTS: usize = 64;
    const MAX_TARGETS: usize = 1024;

    /// Notes an impersonation; true when its target is new in the window.
    pub fn see(&mut self, target: u64, sighting: (Micros, EventId)) -> bool {
        let place = self.events.partition_point(|known| *known < sighting);
        if place < Self::MAX_EVENTS {
            self.events.insert(place, sighting);
            self.events.truncate(Self::MAX_EVENTS);
        }
        let room = self.targets.len() < Self::MAX_TARGETS;
        match self.targets.iter_mut().find(|(known, _)| *known == target) {
            Some((_, first)) => {
                *first = (*first).min(sighting);
                false
            }
            None if room => {
                self.targets.push((target, sighting));
                true
            }
            None => false,
        }
    }

    /// The earliest one of each target, oldest first.
    pub fn firsts(&self) -> Vec<(Micros, EventId)> {
        let mut firsts: Vec<_> = self.targets.iter().map(|(_, first)| *first).collect();
        firsts.sort_unstable();
        firsts
    }
}

impl Caller {
    pub fn new(window: Window) -> Self {
        Self {
            profile: Profile::default(),
            counts: Counts::new(window),
            distinct: Counts::new(window),
            targets: Known::default(),
            classes: Known::default(),
            refusing: Known::default(),
            hours: Vec::new(),
        }
    }

    /// The window, made if need be; windows further back than the lateness are forgotten.
    pub fn hour(&mut self, window: Window) -> usize {
        if let Some(at) = self.hours.iter().position(|hour| hour.window == window) {
            return at;
        }
        self.hours.push(Hour { window, events: Vec::new(), targets: Vec::new() });
        self.hours.sort_unstable_by_key(|hour| hour.window);
        if self.hours.len() > 3 {
            self.hours.remove(0);
        }
        self.hours.iter().position(|hour| hour.window == window).unwrap_or(0)
    }
}

/// No count is rarer than this before a whole week is known.
const YOUNG_LEAST: f64 = 1e-3;

/// A count that is far above what is usual, as evidence that rests on the events counted.
///
/// It stands at the event with which the count became remarkable, by order of time.
pub fn far_above(
    event: &Event<'_>,
    dimension: Unusual,
    (counts, window, count): (&Counts, Window, u32),
    events: &[(Micros, EventId)],
    fewest: u32,
) -> Option<Item<Unusual>> {
    if count < fewest {
        return None;
    }
    let (mean, variance) = counts.usual(window)?;
    if f64::from(count) < 3.0 * mean {
        return None;
    }
    let least = if counts.knows_the_week(window) { 0.0 } else { YOUNG_LEAST };
    let tail = |count| overdispersed_tail(mean, variance, count).max(least);
    let reached = tail(count);
    if reached >= 0.01 {
        return None;
    }
    let remarkable = if reached <= 1e-6 { 1e-6 } else { 0.01 };
    let from = fewest.max((3.0 * mean) as u32);
    let turn = (from..count).find(|count| tail(*count) <= remarkable).unwrap_or(count);
    let (at, id) = *events.get(turn as usize - 1).or(events.last())?;
    let mut item =
        Item::new(event, dimension, u64::from(window), reached).usual(format!("{mean:.1} an hour"));
    (item.at, item.id) = (at, id);
    item.also = events.iter().take(10).map(|(_, id)| *id).collect();
    // These belong to whichever event came last.
    (item.target_id, item.source_ip) = (None, None);
    Some(item)
}
