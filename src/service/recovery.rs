//! What is known at the start: from the last snapshot, the lake, and the journal behind them.

use super::horizon::Horizon;
use super::lake::Lake;
use super::snapshot::{self, Snapshot};
use super::watcher::State;
use crate::journal::disk::Disk;
use crate::journal::entry::Head;
use crate::journal::{Entry, Reader};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use telltale_detect::engine::Engine;
use telltale_schema::time::HOUR;
use telltale_schema::{EventBatch, Finding, Micros};
use tracing::warn;

/// Entries that wait for the detectors while the journal is read.
const UNSEEN: usize = 16;

/// Ids that are read from the lake before those that memory has no room for go to files.
const KEPT_AT_ONCE: usize = 1 << 16;

/// What a data folder says.
pub struct Recovered {
    pub state: State,
    pub horizon: Horizon,
    /// Findings that are known and not in the journal, or not as they are now: the process ended
    /// between the events and what they say.
    pub unwritten: Vec<Finding>,
    /// Entries and events that were read from the journal.
    pub entries: u64,
    pub events: u64,
}

/// Reads a data folder.
pub fn recover(
    data: &Path,
    disk: &dyn Disk,
    lake: &Lake,
    mut horizon: Horizon,
    engine: impl Fn() -> Result<Engine>,
) -> Result<Recovered> {
    let mut state = State {
        entry: 0,
        engine: engine()?,
        totals: BTreeMap::new(),
        newest_event: Micros::MIN,
        newest_received: Micros::MIN,
    };
    let mut unwritten: BTreeMap<String, Finding> = BTreeMap::new();
    let (mut in_lake, mut relearns) = (0, false);
    if let Some((snapshot, detectors)) = snapshot::read(data)? {
        let Snapshot { entry, totals, newest_event, newest_received, .. } = snapshot;
        if let Err(cause) = state.engine.load(detectors.as_slice()) {
            warn!(%cause, "what detectors had learnt cannot be read; they begin with what the journal still holds. `telltale learn --lake` teaches them all that was stored");
            state.engine = engine()?;
            relearns = true;
        }
        drop(detectors);
        state.entry = entry;
        (state.newest_event, state.newest_received) = (newest_event, newest_received);
        let totals = totals.into_iter();
        state.totals = totals.map(|l| ((l.source.clone(), l.partition.clone()), l)).collect();
        unwritten.extend(snapshot.unwritten.into_iter().map(by_id));
        in_lake = lake.events.flushed()?;
        // An hour more, because the horizon forgets whole slots.
        let span = horizon.span().saturating_add(HOUR);
        let since = |newest: Micros| newest.saturating_sub(span);
        let (event, received) = match horizon.load(in_lake) {
            // The files have the others.
            Some(since) => (Micros::MAX, since),
            None => (since(newest_event), since(newest_received)),
        };
        let (mut result, mut noted) = (Ok(()), 0usize);
        lake.events
            .recent(event, received, |id, time, received_at| {
                noted += 1;
                if result.is_ok() {
                    result = horizon.note(id, time, received_at).map(|_| ());
                }
                if result.is_ok() && noted.is_multiple_of(KEPT_AT_ONCE) {
                    result = horizon.keep();
                }
            })
            .context("the ids of stored events cannot be read from the lake")?;
        result.and_then(|()| horizon.keep()).context("the ids of stored events cannot be kept")?;
    } else {
        // All of them are in the journal.
        horizon.begin();
    }
    let covered = state.entry;
    let from = if relearns { 1 } else { covered.min(in_lake) + 1 };
    let mut reader = Reader::open(disk, from)?;
    let mut written: BTreeMap<String, Finding> = BTreeMap::new();
    let (mut entries, mut events) = (0, 0);
    // Reading, and knowing the ids again, takes as long as the detectors do: both at once.
    let mut state = thread::scope(|scope| -> Result<State> {
        let (detectors, unseen) = sync_channel::<(u64, Head, Vec<EventBatch>)>(UNSEEN);
        let detecting = scope.spawn(move || {
            for (number, head, batches) in unseen {
                if number > covered {
                    state.advance(number, &head.ledger, &batches, head.received_at);
                } else if relearns {
                    let events = batches.iter().flat_map(|batch| batch.events());
                    events.for_each(|event| state.engine.observe(&event));
                }
            }
            state
        });
        while let Some((number, body)) = reader.next_entry()? {
            let Entry { mut head, events: batches } = Entry::decode(number, body)?;
            for batch in &batches {
                horizon.add(batch, head.received_at)?;
                events += batch.len() as u64;
            }
            horizon.keep()?;
            entries += 1;
            written.extend(std::mem::take(&mut head.findings).into_iter().map(by_id));
            if detectors.send((number, head, batches)).is_err() {
                break;
            }
        }
        drop(detectors);
        detecting.join().map_err(|_| {
            anyhow::anyhow!("the detectors panicked, which is a fault of telltale; nothing is lost")
        })
    })?;
    unwritten.extend(state.engine.take().into_iter().map(by_id));
    unwritten.retain(|id, finding| written.get(id) != Some(finding));
    let unwritten = unwritten.into_values().collect();
    Ok(Recovered { state, horizon, unwritten, entries, events })
}

fn by_id(finding: Finding) -> (String, Finding) {
    (finding.id.clone(), finding)
}
