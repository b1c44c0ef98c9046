//! What the detectors and the accounts know at one entry of the journal, in a file: recovery begins
//! there and reads the rest.

use crate::journal::{FindingRow, Ledger};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use telltale_schema::Micros;
use xxhash_rust::xxh3::xxh3_64;

/// Changes with the layout of what is in it; a file of another layout is not read.
const FORMAT: u32 = 1;
const MAGIC: [u8; 4] = *b"ttsn";

/// The state at one entry.
#[derive(Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the last entry that it covers.
    pub entry: u64,
    /// What became of everything up to it.
    pub totals: Vec<Ledger>,
    /// Findings that may not be in the journal yet.
    pub unwritten: Vec<FindingRow>,
    /// The newest times of events and of their receipt up to it.
    pub newest_event: Micros,
    pub newest_received: Micros,
    /// The detectors, as they save themselves.
    pub detectors: Vec<u8>,
}

fn place(data: &Path) -> PathBuf {
    data.join("snapshot")
}

/// Writes the snapshot beside the old one and puts it in its place.
///
/// Errors: those of the disk; the old one is still there then.
pub fn write(data: &Path, snapshot: &Snapshot) -> io::Result<u64> {
    let body = postcard::to_stdvec(snapshot).map_err(io::Error::other)?;
    let new = place(data).with_extension("new");
    let written = (|| {
        let mut file = File::create(&new)?;
        file.write_all(&MAGIC)?;
        file.write_all(&FORMAT.to_le_bytes())?;
        file.write_all(&xxh3_64(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()
    })();
    if let Err(cause) = written {
        // What is there of it takes room on a disk that may be full.
        let _ = std::fs::remove_file(&new);
        return Err(cause);
    }
    std::fs::rename(&new, place(data))?;
    File::open(data)?.sync_all()?;
    Ok(body.len() as u64)
}

/// The snapshot of a data folder; `None` where there is none.
///
/// Errors: one that is damaged or of another version, with what to do.
pub fn read(data: &Path) -> Result<Option<Snapshot>> {
    let path = place(data);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(cause).with_context(|| format!("cannot read `{}`", path.display()));
        }
    };
    let sound = bytes
        .strip_prefix(&MAGIC)
        .and_then(|rest| rest.strip_prefix(&FORMAT.to_le_bytes()))
        .and_then(|rest| rest.split_first_chunk())
        .filter(|(sum, body)| u64::from_le_bytes(**sum) == xxh3_64(body))
        .and_then(|(_, body)| postcard::from_bytes(body).ok());
    sound.map(Some).with_context(|| {
        format!(
            "`{}` is damaged or of another version of telltale; restore it from a copy",
            path.display()
        )
    })
}
