//! Findings between the detectors and the journal: the latest of each, until it is written.

use crate::pipeline::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;
use telltale_schema::Finding;

/// What detectors have found and the journal does not have yet.
#[derive(Default)]
pub struct Outbox {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    waiting: BTreeMap<String, Finding>,
    /// Taken, and not known to be in the journal.
    writing: BTreeMap<String, Finding>,
}

impl Outbox {
    /// Adds findings; a later one replaces an earlier one of the same id.
    pub fn put(&self, findings: impl IntoIterator<Item = Finding>) {
        let mut held = lock(&self.held);
        for finding in findings {
            held.waiting.insert(finding.id.clone(), finding);
        }
    }

    /// Takes everything to write it, `None` where there is nothing.
    pub fn take(&self) -> Option<Vec<Finding>> {
        let mut held = lock(&self.held);
        held.writing = std::mem::take(&mut held.waiting);
        (!held.writing.is_empty()).then(|| held.writing.values().cloned().collect())
    }

    /// What was taken is in the journal.
    pub fn written(&self) {
        lock(&self.held).writing.clear();
    }

    /// What was taken could not be written; what came since is newer.
    pub fn put_back(&self) {
        let mut held = lock(&self.held);
        for (id, finding) in std::mem::take(&mut held.writing) {
            held.waiting.entry(id).or_insert(finding);
        }
    }

    /// Everything that may not be in the journal.
    pub fn unwritten(&self) -> Vec<Finding> {
        let held = lock(&self.held);
        let mut all = held.writing.clone();
        all.extend(held.waiting.clone());
        all.into_values().collect()
    }
}
