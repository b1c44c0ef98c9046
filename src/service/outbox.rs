//! Findings between the detectors and the journal: the latest of each, until it is written.

use crate::journal::FindingRow;
use crate::pipeline::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What detectors have found and the journal does not have yet.
#[derive(Default)]
pub struct Outbox {
    rows: Mutex<BTreeMap<String, FindingRow>>,
}

impl Outbox {
    /// Adds findings; a later one replaces an earlier one of the same id.
    pub fn put(&self, rows: impl IntoIterator<Item = FindingRow>) {
        let mut held = lock(&self.rows);
        for row in rows {
            held.insert(row.finding_id.clone(), row);
        }
    }

    /// Takes everything, `None` where there is nothing.
    pub fn take(&self) -> Option<Vec<FindingRow>> {
        let rows = std::mem::take(&mut *lock(&self.rows));
        (!rows.is_empty()).then(|| rows.into_values().collect())
    }

    /// Gives back what could not be written; what came since is newer.
    pub fn put_back(&self, rows: Vec<FindingRow>) {
        let mut held = lock(&self.rows);
        for row in rows {
            held.entry(row.finding_id.clone()).or_insert(row);
        }
    }
}
