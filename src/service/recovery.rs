//! The journal read again after a start: what was stored, where sources go on, what detectors know.

use super::horizon::Horizon;
use super::watcher;
use crate::journal::{Entry, FindingRow, JournalError, Ledger, Reader};
use std::collections::BTreeMap;
use telltale_detect::engine::Engine;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum RecoveryError {
    #[error("the journal cannot be read")]
    Journal(#[from] JournalError),
    #[error("ids of stored events cannot be moved to disk")]
    Horizon(#[source] std::io::Error),
}

/// What a journal says.
pub struct Recovered {
    pub horizon: Horizon,
    pub engine: Engine,
    pub totals: BTreeMap<(String, String), Ledger>,
    /// Findings that detectors know of and the journal does not have, or not as they are now: the
    /// process ended between the events and what they say.
    pub unwritten: Vec<FindingRow>,
    pub entries: u64,
    pub events: u64,
}

/// Reads the journal from its beginning.
pub fn replay(
    mut reader: Reader,
    mut horizon: Horizon,
    mut engine: Engine,
) -> Result<Recovered, RecoveryError> {
    let mut totals: BTreeMap<(String, String), Ledger> = BTreeMap::new();
    let mut written: BTreeMap<String, FindingRow> = BTreeMap::new();
    let (mut entries, mut events) = (0, 0);
    while let Some((number, body)) = reader.next_entry()? {
        let entry = Entry::decode(number, body)?;
        for ledger in &entry.head.ledger {
            let key = (ledger.source.clone(), ledger.partition.clone());
            totals.entry(key).or_default().add(ledger);
        }
        for batch in &entry.events {
            horizon.add(batch, entry.head.received_at).map_err(RecoveryError::Horizon)?;
            events += batch.len() as u64;
        }
        horizon.keep().map_err(RecoveryError::Horizon)?;
        watcher::show(&mut engine, &entry.events);
        for row in entry.head.findings {
            written.insert(row.finding_id.clone(), row);
        }
        entries += 1;
    }
    engine.take();
    let known = engine.findings();
    let unwritten = known
        .iter()
        .map(FindingRow::of)
        .filter(|row| written.get(&row.finding_id) != Some(row))
        .collect();
    Ok(Recovered { horizon, engine, totals, unwritten, entries, events })
}
