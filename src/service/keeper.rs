//! The thread that moves what the journal holds into the lake, and drops what nobody needs twice.

use super::horizon;
use super::lake::Lake;
use super::reload::news;
use super::snapshot::{self, Waiting};
use super::stats::Stats;
use crate::config::Service as Settings;
use crate::journal::disk::Disk;
use crate::journal::tables::{self, Numbered};
use crate::journal::{DeadLetter, Entry, Reader, drop_segments};
use crate::pipeline::lock;
use anyhow::Result;
use arrow_array::RecordBatch;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use telltale_queries::lake::Files;
use telltale_schema::Finding;
use telltale_schema::compact::compact;
use tokio::sync::watch;
use tracing::{debug, error, info};

/// Bytes of entries whose rows are put in order together, and are in memory at once.
const CHUNK_BYTES: usize = 32 << 20;
/// Bytes of entries that become one commit at most. A commit costs the more the more files a table
/// has, so what is there goes into few of both.
const COMMIT_BYTES: usize = 1 << 30;
/// Partitions of a chunk beyond which it is committed at once: each has a file that is open.
const MAX_PARTITIONS: usize = 16;

/// Moves entries from the journal to the lake.
pub struct Keeper {
    pub disk: Arc<dyn Disk>,
    pub lake: Lake,
    pub stats: Arc<Stats>,
    /// How long entries wait before they are moved.
    pub interval: Duration,
    /// Where that comes from when it changes.
    pub settings: watch::Receiver<Settings>,
    /// Where a snapshot waits to be settled.
    pub snapshot: Arc<Mutex<Option<Waiting>>>,
    /// Where an index of the ids in files does.
    pub ids: Arc<Mutex<Option<horizon::Waiting>>>,
    /// Number of the last entry that the snapshot on disk covers.
    pub covered: u64,
    /// The same for each sink.
    pub dispatched: Vec<Arc<AtomicU64>>,
    /// Number of the last entry that each table has looked at.
    pub looked_at: [u64; 3],
    /// Number of the last entry that the table of events says it holds.
    pub in_lake: u64,
    /// Whether the last index of ids failed, so that a failure is said once.
    pub ids_fail: bool,
}

/// How often the thread looks whether there is something to do.
const TICK: Duration = Duration::from_millis(200);

/// What one commit of each table holds.
#[derive(Default)]
struct Commit {
    /// Events that are written.
    files: Option<Files>,
    findings: Vec<Numbered<Finding>>,
    dead_letters: Vec<Numbered<DeadLetter>>,
    /// Of all entries, and of those with findings or dead letters.
    bytes: usize,
    bytes_in_memory: usize,
    last: u64,
    /// Nothing further was there.
    is_last: bool,
}

impl Keeper {
    /// Runs until the other end of `stop` is gone, and writes the last snapshot.
    pub fn run(mut self, stop: &Receiver<()>) {
        let (mut failing, mut flushed) = (false, Instant::now());
        while stop.recv_timeout(TICK.min(self.interval)) == Err(RecvTimeoutError::Timeout) {
            self.save();
            if let Some(settings) = news(&mut self.settings) {
                self.interval = settings.flush_interval;
            }
            if flushed.elapsed() < self.interval {
                continue;
            }
            let turn = if failing { self.catch_up() } else { Ok(()) };
            match turn.and_then(|()| self.turn()) {
                Ok(()) if std::mem::take(&mut failing) => info!("the lake can be written again"),
                Ok(()) => {}
                Err(cause) => {
                    self.stats.lake_failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        let cause = format!("{cause:#}");
                        error!(
                            cause,
                            "the lake cannot be written; the journal keeps everything until it can"
                        );
                    }
                }
            }
            flushed = Instant::now();
        }
        self.save();
    }

    /// Settles what waits for it.
    fn save(&mut self) {
        let index = lock(&self.ids).take();
        match index.map(|index| index.settle(self.in_lake)) {
            Some(Err(cause)) if !std::mem::replace(&mut self.ids_fail, true) => {
                error!(%cause, "what files of ids hold cannot be written; the next start reads them from the lake");
            }
            Some(Ok(_)) if std::mem::take(&mut self.ids_fail) => {
                info!("what files of ids hold can be written again");
            }
            _ => {}
        }
        self.save_snapshot();
    }

    /// Settles the snapshot, if one waits. The detectors write no other meanwhile.
    fn save_snapshot(&mut self) {
        let mut waiting = lock(&self.snapshot);
        let Some(Waiting { entry, new }) = waiting.take() else { return };
        match new.settle() {
            Ok(()) => {
                self.covered = entry;
                snapshot::settled(entry, &self.stats);
            }
            Err(cause) => snapshot::failed(&cause, &self.stats),
        }
    }

    /// After a failure: what was written may be in the lake all the same.
    fn catch_up(&mut self) -> Result<()> {
        self.lake.refresh()?;
        let flushed = self.lake.flushed()?;
        self.in_lake = flushed[0];
        for (looked_at, flushed) in self.looked_at.iter_mut().zip(flushed) {
            *looked_at = flushed.max(*looked_at);
        }
        Ok(())
    }

    /// Moves everything that is there, commit by commit.
    fn turn(&mut self) -> Result<()> {
        // A reader ends with what was there when it began; what came meanwhile waits for its turn
        // unless this was so much that the lake would fall behind.
        while self.pass()? >= COMMIT_BYTES {}
        Ok(())
    }

    /// Moves what is there now; how many bytes that were.
    fn pass(&mut self) -> Result<usize> {
        let mut reader = Reader::open(self.disk.as_ref(), self.behind() + 1)?;
        let mut moved = 0;
        loop {
            let mut commit = Commit::default();
            if let Err(cause) = self.gather(&mut reader, &mut commit) {
                if let Some(files) = commit.files {
                    self.lake.events.abort(files);
                }
                return Err(cause);
            }
            let (bytes, is_last) = (commit.bytes, commit.is_last);
            if commit.last > 0 {
                self.commit(commit)?;
            }
            self.drop_segments()?;
            moved += bytes;
            if is_last {
                return Ok(moved);
            }
        }
    }

    /// Reads entries, chunk by chunk, until they are enough for a commit or none is left.
    fn gather(&mut self, reader: &mut Reader, commit: &mut Commit) -> Result<()> {
        loop {
            let (mut events, mut bytes) = (Vec::new(), 0);
            while bytes < CHUNK_BYTES {
                let Some((entry, body)) = reader.next_entry()? else {
                    commit.is_last = true;
                    break;
                };
                bytes += body.len();
                self.add(commit, &mut events, entry, body)?;
            }
            commit.bytes += bytes;
            let partitions = self.lake.events.write(&mut commit.files, events)?;
            // On a busy service a pass may take long.
            self.save();
            if commit.is_last
                || commit.bytes >= COMMIT_BYTES
                || commit.bytes_in_memory >= CHUNK_BYTES
                || partitions > MAX_PARTITIONS
            {
                return Ok(());
            }
        }
    }

    /// Number of the last entry that every table has looked at.
    fn behind(&self) -> u64 {
        self.looked_at.iter().min().copied().unwrap_or_default()
    }

    /// Drops the segments that neither the lake nor recovery nor a sink needs any more.
    fn drop_segments(&self) -> Result<()> {
        let dispatched = self.dispatched.iter().map(|noted| noted.load(Ordering::Relaxed));
        let last = dispatched.fold(self.behind().min(self.covered), u64::min);
        let dropped = drop_segments(self.disk.as_ref(), last)?;
        if dropped > 0 {
            debug!(dropped, last, "segments of the journal are in the lake and dropped");
        }
        Ok(())
    }

    fn add(
        &self,
        commit: &mut Commit,
        rows: &mut Vec<RecordBatch>,
        entry: u64,
        body: Vec<u8>,
    ) -> Result<()> {
        commit.last = entry;
        let bytes = body.len();
        let [events_at, findings_at, letters_at] = self.looked_at;
        let Entry { head, events } = Entry::decode(entry, body)?;
        let received_at = head.received_at;
        if !head.findings.is_empty() || !head.dead_letters.is_empty() {
            commit.bytes_in_memory += bytes;
        }
        if entry > events_at {
            // An entry is kept alive as a whole by any of its columns; so nothing is copied here.
            rows.extend(events.into_iter().map(|batch| batch.into_record_batch()));
        }
        if entry > findings_at {
            let rows = head.findings.into_iter();
            commit.findings.extend(rows.map(|row| Numbered { entry, received_at, row }));
        }
        if entry > letters_at {
            let rows = head.dead_letters.into_iter();
            commit.dead_letters.extend(rows.map(|row| Numbered { entry, received_at, row }));
        }
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<()> {
        let Commit { files, findings, dead_letters, last, .. } = commit;
        if let Some(files) = files {
            self.lake.events.commit(files, last)?;
            self.in_lake = last;
        }
        self.looked_at[0] = last;
        if !findings.is_empty() {
            self.lake.findings.append(vec![compact(&tables::findings(&findings))], last)?;
        }
        self.looked_at[1] = last;
        if !dead_letters.is_empty() {
            let rows = compact(&tables::dead_letters(&dead_letters));
            self.lake.dead_letters.append(vec![rows], last)?;
        }
        self.looked_at[2] = last;
        self.stats.lake_entry.set(i64::try_from(last).unwrap_or(i64::MAX));
        Ok(())
    }
}
