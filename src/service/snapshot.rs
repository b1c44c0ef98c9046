//! What the detectors and the accounts know at one entry of the journal, in a file: recovery begins
//! there and reads the rest.

use super::kept::{self, Kind, New, Rest};
use super::stats::Stats;
use crate::journal::Ledger;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use telltale_detect::engine::Engine;
use telltale_schema::{Finding, Micros};
use tracing::{error, info};

const KIND: Kind = Kind { magic: *b"ttsn", format: 8 };

/// The state at one entry, but for the detectors, which are behind it in the file.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the last entry that it covers.
    pub entry: u64,
    /// What became of everything up to it.
    pub totals: Vec<Ledger>,
    /// Findings that may not be in the journal yet.
    pub unwritten: Vec<Finding>,
    /// The newest times of events and of their receipt up to it.
    pub newest_event: Micros,
    pub newest_received: Micros,
}

/// A snapshot that may not be on disk yet.
pub struct Waiting {
    pub entry: u64,
    pub new: New,
}

fn place(data: &Path) -> PathBuf {
    data.join("snapshot")
}

/// Writes a snapshot beside the old one. It is written as it is read out of the detectors: all of it
/// in memory would be as much again as they take.
///
/// Errors: those of the disk; the old one is still there then.
pub fn begin(data: &Path, snapshot: &Snapshot, detectors: &Engine) -> io::Result<Waiting> {
    let new = kept::begin(&place(data), &KIND, |out| {
        kept::value(out, snapshot)?;
        detectors.save(out)
    })?;
    Ok(Waiting { entry: snapshot.entry, new })
}

/// Says that a snapshot could not be written or settled: once, until one is.
pub fn failed(cause: &io::Error, stats: &Stats) {
    stats.snapshot_failures.inc();
    if !stats.snapshots_fail.swap(true, Ordering::Relaxed) {
        error!(%cause, "what detectors know cannot be saved; the journal is kept from the last time on");
    }
}

/// Takes note of one that is on disk.
pub fn settled(entry: u64, stats: &Stats) {
    stats.snapshot_entry.set(i64::try_from(entry).unwrap_or(i64::MAX));
    if stats.snapshots_fail.swap(false, Ordering::Relaxed) {
        info!("what detectors know can be saved again");
    }
}

/// The snapshot of a data folder and its detectors, as they save themselves; `None` where there is
/// none.
///
/// Errors: one that is damaged or of another version, with what to do.
pub fn read(data: &Path) -> Result<Option<(Snapshot, Rest)>> {
    kept::read(&place(data), &KIND)
}
