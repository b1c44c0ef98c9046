//! Which events were stored already: exact within a horizon, bounded in memory.
//!
//! Ids are kept by the hour in which the event happened, so that a live event is looked up among
//! those of its own hour. An hour is forgotten when both it and the last time it was added to lie
//! further back than the horizon: what is forgotten can be stored twice, and nothing that happened
//! is ever taken for a repeat. When memory is full, the hour that was left alone for the longest
//! goes to a sorted file.

use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use telltale_schema::time::{HOUR, UNKNOWN};
use telltale_schema::{EventBatch, EventId, Micros};

/// The ids within the horizon.
pub struct Horizon {
    /// How far back an hour is remembered.
    span: Micros,
    /// Ids in memory at most.
    max_in_memory: usize,
    /// Where hours go that memory has no room for.
    folder: PathBuf,
    hours: BTreeMap<i64, Hour>,
    in_memory: usize,
    newest_event: Micros,
    newest_received: Micros,
    /// What the current group added, to be taken back if it fails.
    added: Vec<(i64, EventId)>,
}

#[derive(Default)]
struct Hour {
    ids: FxHashSet<EventId>,
    spilled: Vec<Spilled>,
    /// When it was last added to.
    touched: Micros,
}

/// Hours of events without a time, which are kept by when they were read, lie before all others.
const UNTIMED: i64 = i64::MIN / 2;

impl Horizon {
    pub fn new(span: Micros, max_in_memory: usize, folder: PathBuf) -> Self {
        Self {
            span,
            max_in_memory,
            folder,
            hours: BTreeMap::new(),
            in_memory: 0,
            newest_event: Micros::MIN,
            newest_received: Micros::MIN,
            added: Vec::new(),
        }
    }

    /// How far back an hour is remembered.
    pub fn span(&self) -> Micros {
        self.span
    }

    /// Which events of a batch are new: one flag a row. They are known from now on, until they are
    /// taken back.
    ///
    /// Errors: an hour that lies in a file cannot be read.
    pub fn add(&mut self, batch: &EventBatch, received_at: Micros) -> io::Result<Vec<bool>> {
        batch
            .rows()
            .map(|row| self.note(batch.event_id(row), batch.event_time(row), received_at))
            .collect()
    }

    /// Whether one event is new, as [`Horizon::add`] says it.
    pub fn note(&mut self, id: EventId, time: Micros, received_at: Micros) -> io::Result<bool> {
        self.newest_received = self.newest_received.max(received_at);
        let (at, known) = if time == UNKNOWN {
            let mut earlier = self.hours.range(..0).filter(|(at, _)| **at < UNTIMED / 2);
            let known = earlier
                .try_fold(false, |known, (_, hour)| Ok::<_, io::Error>(known || hour.holds(id)?))?;
            (UNTIMED + received_at.div_euclid(HOUR), known)
        } else {
            // A clock that runs ahead does not move the horizon.
            if time <= received_at {
                self.newest_event = self.newest_event.max(time);
            }
            let at = time.div_euclid(HOUR);
            (at, self.hours.get(&at).map_or(Ok(false), |hour| hour.holds(id))?)
        };
        if !known {
            let hour = self.hours.entry(at).or_default();
            hour.ids.insert(id);
            // By the latest clock: one that is set back makes nothing old.
            hour.touched = self.newest_received;
            self.in_memory += 1;
            self.added.push((at, id));
        }
        Ok(!known)
    }

    /// What was added since the last call stays.
    ///
    /// Errors: memory is full and an hour cannot be written to its file; it stays in memory.
    pub fn keep(&mut self) -> io::Result<()> {
        self.added.clear();
        let (event, received) = (
            self.newest_event.saturating_sub(self.span).div_euclid(HOUR),
            self.newest_received.saturating_sub(self.span),
        );
        let in_memory = &mut self.in_memory;
        self.hours.retain(|at, hour| {
            let stays = *at >= event || hour.touched >= received;
            if !stays {
                *in_memory -= hour.ids.len();
            }
            stays
        });
        while self.in_memory > self.max_in_memory {
            let oldest = self.hours.values_mut().filter(|hour| !hour.ids.is_empty());
            let Some(hour) = oldest.min_by_key(|hour| (hour.touched, hour.ids.len())) else {
                break;
            };
            hour.spilled.push(Spilled::write(&self.folder, &hour.ids)?);
            self.in_memory -= hour.ids.len();
            hour.ids = FxHashSet::default();
        }
        Ok(())
    }

    /// How much was added since the last [`Horizon::keep`].
    pub fn mark(&self) -> usize {
        self.added.len()
    }

    /// What was added since `mark` was not stored after all.
    pub fn take_back_to(&mut self, mark: usize) {
        for (at, id) in self.added.drain(mark..) {
            if let Some(hour) = self.hours.get_mut(&at)
                && hour.ids.remove(&id)
            {
                self.in_memory -= 1;
            }
        }
    }

    /// Ids that are remembered, in memory and in files.
    pub fn len(&self) -> usize {
        let spilled = self.hours.values().flat_map(|hour| &hour.spilled);
        self.in_memory + spilled.map(|file| file.ids as usize).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Hour {
    fn holds(&self, id: EventId) -> io::Result<bool> {
        if self.ids.contains(&id) {
            return Ok(true);
        }
        for file in &self.spilled {
            if file.contains(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Sorted ids in a file that is gone when this is dropped, or the process is.
struct Spilled {
    file: File,
    ids: u64,
}

const ID: u64 = size_of::<EventId>() as u64;

impl Spilled {
    fn write(folder: &PathBuf, ids: &FxHashSet<EventId>) -> io::Result<Self> {
        let mut sorted: Vec<EventId> = ids.iter().copied().collect();
        sorted.sort_unstable();
        std::fs::create_dir_all(folder)?;
        let file = tempfile::tempfile_in(folder)?;
        let mut out = BufWriter::new(&file);
        for id in &sorted {
            out.write_all(&id.0)?;
        }
        out.flush()?;
        drop(out);
        Ok(Self { file, ids: sorted.len() as u64 })
    }

    /// Ids are hashes and so evenly spread: the first look is close.
    fn contains(&self, id: EventId) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;
        let value = |id: EventId| u64::from_be_bytes(*id.0.first_chunk().unwrap_or(&[0; 8]));
        let (mut low, mut high) = (0, self.ids);
        let mut guess = ((u128::from(value(id)) * u128::from(self.ids)) >> 64) as u64;
        let mut reach = 64;
        while low < high {
            // An ever wider window around the guess, then halves of it.
            let at = guess.clamp(low, high - 1);
            let mut found = EventId::default();
            self.file.read_exact_at(&mut found.0, at * ID)?;
            match found.cmp(&id) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => {
                    low = at + 1;
                    guess = if high - low > reach { low + reach } else { low + (high - low) / 2 };
                }
                std::cmp::Ordering::Greater => {
                    high = at;
                    guess = if high - low > reach { high - reach } else { low + (high - low) / 2 };
                }
            }
            reach = (reach * 2).min(self.ids);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use telltale_schema::time::DAY;
    use telltale_schema::{Event, EventBuilder};

    fn batch(events: &[(u16, i64)]) -> EventBatch {
        let mut builder = EventBuilder::new("aws_cloudtrail", Default::default(), 0);
        for (id, time) in events {
            builder.push(&Event { event_id: id_of(*id), ..Event::new("aws_cloudtrail", *time) });
        }
        builder.finish()
    }

    fn id_of(id: u16) -> EventId {
        // Spread like a hash.
        EventId(
            u128::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes(),
        )
    }

    #[test]
    fn a_clock_that_is_set_back_loses_no_event_and_repeats_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut horizon = Horizon::new(DAY, 1000, folder.path().to_owned());
        let events = [(1, 100 * HOUR), (2, 100 * HOUR)];
        assert_eq!(horizon.add(&batch(&events), 100 * HOUR).unwrap(), [true, true]);
        horizon.keep().unwrap();
        // Two days back: what was stored is a repeat, and what is new is stored.
        let later = [(1, 100 * HOUR), (3, 101 * HOUR), (4, 52 * HOUR)];
        assert_eq!(horizon.add(&batch(&later), 52 * HOUR).unwrap(), [false, true, true]);
        horizon.keep().unwrap();
        assert_eq!(horizon.add(&batch(&later), 52 * HOUR + 1).unwrap(), [false; 3]);
        // And set right again.
        assert_eq!(horizon.add(&batch(&later), 101 * HOUR).unwrap(), [false; 3]);
    }

    proptest! {
        #[test]
        fn within_the_horizon_every_id_is_new_once(
            groups in prop::collection::vec(
                (prop::collection::vec(0u16..400, 1..60), any::<bool>()), 1..40),
            room in 1usize..300,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut horizon = Horizon::new(DAY, room, folder.path().to_owned());
            let mut stored = BTreeSet::new();
            for (ids, succeeds) in groups {
                let events: Vec<_> = ids.iter().map(|id| (*id, 1 + i64::from(*id % 7) * HOUR)).collect();
                let fresh = horizon.add(&batch(&events), 100 * HOUR).unwrap();
                let mut tried = stored.clone();
                for (id, fresh) in ids.iter().zip(fresh) {
                    prop_assert_eq!(tried.insert(*id), fresh);
                }
                if succeeds {
                    horizon.keep().unwrap();
                    stored = tried;
                    prop_assert!(horizon.in_memory <= room);
                } else {
                    horizon.take_back_to(0);
                }
                prop_assert_eq!(horizon.len(), stored.len());
            }
        }
    }

    #[test]
    fn what_lies_behind_the_horizon_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut horizon = Horizon::new(DAY, 1000, folder.path().to_owned());
        for day in 0..10 {
            let events: Vec<_> =
                (0..10).map(|n| (day * 10 + n, i64::from(day) * DAY + 1)).collect();
            assert!(
                horizon
                    .add(&batch(&events), i64::from(day) * DAY + HOUR)
                    .unwrap()
                    .iter()
                    .all(|f| *f)
            );
            horizon.keep().unwrap();
        }
        assert_eq!(horizon.len(), 20);
    }
}
