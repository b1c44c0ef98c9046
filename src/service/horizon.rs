//! Which events were stored already: exact within a horizon, bounded in memory.
//!
//! Ids are kept by the minutes in which the event happened, so that a live event is looked up among
//! those of its own time. Such a slot is forgotten when both it and the last time it was added to
//! lie further back than the horizon: what is forgotten can be stored twice, and nothing that
//! happened is ever taken for a repeat. When memory is full, a part of the slot that was left alone
//! for the longest goes to a file, sorted; a Bloom filter in memory says of most ids that they are
//! not there. Filters have a room of their own: those of the slots left alone for the longest go
//! first, and what is looked for there is looked for in the file.
//!
//! The files outlive the process: `index` says what is in them. `runs` ids in a file.

mod index;
mod runs;

pub use index::Waiting;

use runs::{Files, IdFile, Run};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use telltale_schema::time::{MINUTE, UNKNOWN};
use telltale_schema::{EventBatch, EventId, Micros};

/// The time that one slot stands for.
const SLOT: Micros = 5 * MINUTE;
/// Parts of a slot, by the first bits of the id: so many go to the file one after another, each of
/// them in a moment.
const PARTS: usize = 16;
/// Ids that go to a file in a moment.
const MOMENT_IDS: usize = 1 << 17;
/// Bytes that filters take together.
const FILTER_BYTES: usize = 64 << 20;
/// Bytes of an id.
const ID: u64 = size_of::<EventId>() as u64;
/// Ids that may be added before those that are still in memory go to a file, in terms of those that
/// memory has room for: so much is read from the lake at a start.
const LATEST: u64 = 4;

/// The ids within the horizon.
pub struct Horizon {
    /// How far back a slot is remembered.
    span: Micros,
    /// Ids in memory at most.
    max_in_memory: usize,
    /// Bytes of filters at most.
    filter_bytes: usize,
    /// Ids that go to a file in a moment.
    moment_ids: usize,
    /// Where ids go that memory has no room for.
    files: Files,
    slots: BTreeMap<i64, Slot>,
    in_memory: usize,
    newest_event: Micros,
    newest_received: Micros,
    /// What the current group added, to be taken back if it fails.
    added: Vec<(i64, EventId)>,
    /// Ids that were ever added.
    total: u64,
    /// What no index says: something went to a file, or came before the time that it begins with.
    unsaid: Unsaid,
}

/// Why another index is to be written.
#[derive(Default)]
struct Unsaid {
    spilled: bool,
    early: bool,
    /// From when on was received what the last index does not name.
    since: Option<Micros>,
}

#[derive(Default)]
struct Slot {
    parts: [Part; PARTS],
    /// When it was last added to.
    touched: Micros,
}

#[derive(Default)]
struct Part {
    ids: FxHashSet<EventId>,
    /// How many ids were added before the first of them, and when the earliest was received.
    first: Option<(u64, Micros)>,
    runs: Vec<Run>,
}

/// Slots of events without a time, which are kept by when they were read, lie before all others.
const UNTIMED: i64 = i64::MIN / 2;

impl Horizon {
    pub fn new(span: Micros, max_in_memory: usize, folder: PathBuf) -> Self {
        Self {
            span,
            max_in_memory,
            filter_bytes: FILTER_BYTES,
            moment_ids: MOMENT_IDS,
            files: Files::new(folder),
            slots: BTreeMap::new(),
            in_memory: 0,
            newest_event: Micros::MIN,
            newest_received: Micros::MIN,
            added: Vec::new(),
            total: 0,
            unsaid: Unsaid::default(),
        }
    }

    /// How far back a slot is remembered.
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
            let mut earlier = self.slots.range(..0).filter(|(at, _)| **at < UNTIMED / 2);
            let known = earlier
                .try_fold(false, |known, (_, slot)| Ok::<_, io::Error>(known || slot.holds(id)?))?;
            (UNTIMED + received_at.div_euclid(SLOT), known)
        } else {
            // A clock that runs ahead does not move the horizon.
            if time <= received_at {
                self.newest_event = self.newest_event.max(time);
            }
            let at = time.div_euclid(SLOT);
            (at, self.slots.get(&at).map_or(Ok(false), |slot| slot.holds(id))?)
        };
        if !known {
            let slot = self.slots.entry(at).or_default();
            let part = &mut slot.parts[part_of(id)];
            part.ids.insert(id);
            let (_, earliest) = part.first.get_or_insert((self.total, received_at));
            *earliest = received_at.min(*earliest);
            self.total += 1;
            self.unsaid.early |= self.unsaid.since.is_some_and(|since| received_at < since);
            // By the latest clock: one that is set back makes nothing old.
            slot.touched = self.newest_received;
            self.in_memory += 1;
            self.added.push((at, id));
        }
        Ok(!known)
    }

    /// What was added since the last call stays.
    ///
    /// Errors: memory is full and ids cannot be written to a file; they stay in memory.
    pub fn keep(&mut self) -> io::Result<()> {
        self.added.clear();
        let (event, received) = (
            self.newest_event.saturating_sub(self.span).div_euclid(SLOT),
            self.newest_received.saturating_sub(self.span),
        );
        let in_memory = &mut self.in_memory;
        self.slots.retain(|at, slot| {
            let stays = *at >= event || slot.touched >= received;
            if !stays {
                *in_memory -= slot.in_memory();
            }
            stays
        });
        while self.in_memory > self.max_in_memory {
            let held = self.slots.values_mut().filter(|slot| slot.in_memory() > 0);
            let Some(slot) = held.min_by_key(|slot| slot.touched) else { break };
            // All of what is soon done, else a part.
            let parts = if slot.in_memory() <= self.moment_ids { PARTS } else { 1 };
            let file = self.files.at(self.newest_received)?;
            for _ in 0..parts {
                self.in_memory -= slot.spill(&file)?;
            }
            self.unsaid.spilled = true;
            self.bound_filters();
        }
        Ok(())
    }

    /// Whether the last index would lead to less than all ids.
    pub fn is_unsaid(&self) -> bool {
        self.unsaid.early
    }

    /// What the files hold, where no index says so yet: to be written beside them. Ids that have been
    /// in memory for long go to a file first.
    ///
    /// Errors: as for [`Horizon::keep`].
    pub fn waiting(&mut self) -> io::Result<Option<Waiting>> {
        if !self.unsaid.spilled && !self.unsaid.early {
            return Ok(None);
        }
        let room = LATEST.saturating_mul(self.max_in_memory as u64);
        let before = self.total.saturating_sub(room);
        let file = self.files.at(self.newest_received)?;
        for part in self.slots.values_mut().flat_map(|slot| &mut slot.parts) {
            if part.first.is_some_and(|(number, _)| number < before) {
                self.in_memory -= part.spill(&file)?;
            }
        }
        self.bound_filters();
        let parts = self.slots.values().flat_map(|slot| &slot.parts);
        let since = parts.filter_map(|part| part.first).map(|(_, at)| at).min();
        let since = since.unwrap_or(self.newest_received);
        self.unsaid = Unsaid { since: Some(since), ..Unsaid::default() };
        Ok(Some(Waiting::of(self, since)))
    }

    /// Drops filters where they have outgrown their room.
    fn bound_filters(&mut self) {
        let mut bytes: usize = self.slots.values().map(Slot::filter_bytes).sum();
        while bytes > self.filter_bytes {
            let filtered = self.slots.values_mut().filter(|slot| slot.filter_bytes() > 0);
            let Some(slot) = filtered.min_by_key(|slot| slot.touched) else { break };
            bytes -= slot.filter_bytes();
            slot.runs_mut().for_each(|run| run.filter = None);
        }
    }

    /// How much was added since the last [`Horizon::keep`].
    pub fn mark(&self) -> usize {
        self.added.len()
    }

    /// What was added since `mark` was not stored after all.
    pub fn take_back_to(&mut self, mark: usize) {
        for (at, id) in self.added.drain(mark..) {
            if let Some(slot) = self.slots.get_mut(&at)
                && slot.parts[part_of(id)].ids.remove(&id)
            {
                self.in_memory -= 1;
            }
        }
    }

    /// Ids that are remembered, in memory and in files.
    pub fn len(&self) -> usize {
        let runs = self.slots.values().flat_map(Slot::runs);
        self.in_memory + runs.map(|run| run.ids as usize).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Ids are hashes and so evenly spread.
fn part_of(id: EventId) -> usize {
    usize::from(id.0[0]) * PARTS / 256
}

impl Slot {
    fn holds(&self, id: EventId) -> io::Result<bool> {
        let part = &self.parts[part_of(id)];
        if part.ids.contains(&id) {
            return Ok(true);
        }
        for run in &part.runs {
            if run.holds(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn in_memory(&self) -> usize {
        self.parts.iter().map(|part| part.ids.len()).sum()
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.parts.iter().flat_map(|part| &part.runs)
    }

    fn runs_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.parts.iter_mut().flat_map(|part| &mut part.runs)
    }

    fn filter_bytes(&self) -> usize {
        self.runs().filter_map(|run| run.filter.as_ref()).map(|filter| filter.num_bits() / 8).sum()
    }

    /// Moves the largest part to a file; how many ids that were.
    fn spill(&mut self, file: &Arc<IdFile>) -> io::Result<usize> {
        let largest = self.parts.iter_mut().max_by_key(|part| part.ids.len());
        largest.map_or(Ok(0), |part| part.spill(file))
    }
}

impl Part {
    /// Moves what is in memory to a file; how many ids that were.
    fn spill(&mut self, file: &Arc<IdFile>) -> io::Result<usize> {
        let ids = self.ids.len();
        if ids > 0 {
            self.runs.push(Run::write(file, &self.ids)?);
            self.ids = FxHashSet::default();
        }
        self.first = None;
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use telltale_schema::time::{DAY, HOUR};
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
                (prop::collection::vec(0u16..400, 1..60), any::<bool>(), 0u8..6, 0i64..20), 1..40),
            room in 1usize..300,
            filter_bytes in prop::sample::select(vec![0, 100, FILTER_BYTES]),
            moment_ids in prop::sample::select(vec![0, 20, MOMENT_IDS]),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let new = || {
                let mut horizon = Horizon::new(DAY, room, folder.path().to_owned());
                (horizon.filter_bytes, horizon.moment_ids) = (filter_bytes, moment_ids);
                horizon
            };
            let mut horizon = new();
            let mut stored = BTreeMap::new();
            for (step, (ids, succeeds, end, late)) in (1..).zip(groups) {
                let events: Vec<_> = ids.iter().map(|id| (*id, 1 + i64::from(*id % 7) * HOUR)).collect();
                // Clocks are set back now and then.
                let received_at = 100 * HOUR + step - late;
                let fresh = horizon.add(&batch(&events), received_at).unwrap();
                let mut tried = stored.clone();
                for (id, fresh) in ids.iter().zip(fresh) {
                    prop_assert_eq!(!tried.contains_key(id), fresh);
                    tried.entry(*id).or_insert(received_at);
                }
                if succeeds {
                    horizon.keep().unwrap();
                    stored = tried;
                    prop_assert!(horizon.in_memory <= room);
                    let filters = horizon.slots.values().map(Slot::filter_bytes).sum::<usize>();
                    prop_assert!(filters <= filter_bytes);
                } else {
                    horizon.take_back_to(0);
                }
                if (end < 2 || horizon.is_unsaid())
                    && let Some(waiting) = horizon.waiting().unwrap()
                {
                    waiting.settle(7).unwrap();
                }
                if end == 1 {
                    // The process ends; the lake has everything that was stored.
                    horizon = new();
                    let since = horizon.load(7).unwrap_or(Micros::MIN);
                    for (id, received_at) in stored.iter().filter(|(_, at)| **at >= since) {
                        horizon.note(id_of(*id), 1 + i64::from(*id % 7) * HOUR, *received_at).unwrap();
                    }
                    horizon.keep().unwrap();
                }
                prop_assert_eq!(horizon.len(), stored.len());
            }
        }
    }

    #[test]
    fn files_of_ids_are_not_used_for_a_lake_that_lost_what_it_had_nor_for_a_longer_horizon() {
        let folder = tempfile::tempdir().unwrap();
        let new = |span| Horizon::new(span, 16, folder.path().to_owned());
        let write = || {
            let mut horizon = new(DAY);
            let events: Vec<_> = (0..100).map(|id| (id, 1)).collect();
            horizon.add(&batch(&events), 1).unwrap();
            horizon.keep().unwrap();
            horizon.waiting().unwrap().expect("memory is full").settle(7).unwrap();
        };
        let files = || std::fs::read_dir(folder.path()).unwrap().count();
        write();
        assert!(new(DAY).load(7).is_some());
        assert_eq!(files(), 2, "ids and index");
        assert!(new(DAY).load(6).is_none());
        assert_eq!(files(), 0);
        write();
        assert!(new(2 * DAY).load(7).is_none());
        assert_eq!(files(), 0);
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
