//! What the detectors and the accounts know at one entry of the journal, in a file: recovery begins
//! there and reads the rest.

use super::kept::{self, Kind};
use crate::journal::Ledger;
use anyhow::Result;
use serde::{Deserialize, Serialize, Serializer};
use std::io;
use std::path::{Path, PathBuf};
use telltale_schema::{Finding, Micros};

const KIND: Kind = Kind { magic: *b"ttsn", format: 3 };

/// The state at one entry.
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
    /// The detectors, as they save themselves.
    #[serde(serialize_with = "whole")]
    pub detectors: Vec<u8>,
}

/// Bytes as one, not one after another, which makes the same file.
fn whole<S: Serializer>(bytes: &[u8], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn place(data: &Path) -> PathBuf {
    data.join("snapshot")
}

/// Writes the snapshot in the place of the old one; how many bytes it took.
///
/// Errors: those of the disk; the old one is still there then.
pub fn write(data: &Path, snapshot: &Snapshot) -> io::Result<u64> {
    kept::write(&place(data), &KIND, snapshot)
}

/// The snapshot of a data folder; `None` where there is none.
///
/// Errors: one that is damaged or of another version, with what to do.
pub fn read(data: &Path) -> Result<Option<Snapshot>> {
    kept::read(&place(data), &KIND)
}
