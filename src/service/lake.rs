//! The tables of a data folder's lake: events, findings and dead letters.

use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use telltale_queries::QueryError;
use telltale_queries::lake::{EVENT_PARTITIONS, LakeSnapshot, LakeTable, threads};

/// Three Delta tables.
pub struct Lake {
    pub events: LakeTable,
    pub findings: LakeTable,
    pub dead_letters: LakeTable,
}

fn folder(data: &Path) -> PathBuf {
    data.join("lake")
}

impl Lake {
    /// The lake of a data folder, which is made where it is missing.
    pub fn open(data: &Path) -> Result<Self> {
        let threads = threads()?;
        let table = |name: &str, partitions| -> Result<LakeTable> {
            let place = folder(data).join(name);
            std::fs::create_dir_all(&place)?;
            let place = place.display().to_string();
            Ok(LakeTable::open(&place, partitions, Arc::clone(&threads))?)
        };
        Ok(Self {
            events: table("events", &EVENT_PARTITIONS)?,
            findings: table("findings", &[])?,
            dead_letters: table("dead_letters", &[])?,
        })
    }

    /// The lake to read from; `None` where nothing was flushed yet.
    pub fn open_existing(data: &Path) -> Result<Option<Self>> {
        let is_there = ["events", "findings", "dead_letters"]
            .iter()
            .all(|name| folder(data).join(name).is_dir());
        if is_there { Self::open(data).map(Some) } else { Ok(None) }
    }

    /// Number of the last journal entry in each table.
    pub fn flushed(&self) -> Result<[u64; 3], QueryError> {
        Ok([self.events.flushed()?, self.findings.flushed()?, self.dead_letters.flushed()?])
    }

    /// The tables as they are now, for a query.
    pub fn snapshots(&self) -> Result<[Option<LakeSnapshot>; 3], QueryError> {
        Ok([self.events.snapshot()?, self.findings.snapshot()?, self.dead_letters.snapshot()?])
    }

    /// Merges small files and removes those that no reader needs any more.
    pub fn maintain(&mut self, kept: Duration) -> Result<(), QueryError> {
        self.events.maintain(kept)?;
        self.findings.maintain(kept)?;
        self.dead_letters.maintain(kept)
    }
}
