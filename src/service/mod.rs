//! The service: sources into the journal, detectors behind it.
//!
//! `gate` where sources hand over · `intake` bytes to what the journal takes · `committer` the one
//! writer · `horizon` what was stored already · `watcher` detectors · `outbox` findings on their way
//! to the journal · `recovery` what the journal says at the start · `stats` metrics · `server` HTTP.

pub mod committer;
pub mod gate;
pub mod horizon;
pub mod intake;
pub mod outbox;
pub mod recovery;
pub mod server;
pub mod stats;
pub mod watcher;

use crate::config::{Config, Service as Settings};
use crate::journal::Journal;
use crate::journal::Reader;
use crate::journal::disk::{Disk, Folder};
use anyhow::{Context, Result, bail};
use committer::Committer;
use gate::Gate;
use horizon::Horizon;
use intake::Intake;
use outbox::Outbox;
use recovery::Recovered;
use stats::Stats;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Instant;
use telltale_detect::engine::Engine;
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::Limits;
use tokio::sync::mpsc;
use tracing::{info, warn};
use watcher::Watcher;

/// Deliveries that wait for the committer.
const WAITING: usize = 1024;
/// Entries that wait for the detectors.
const UNSEEN: usize = 1024;

/// Folders of a data folder.
pub fn journal_folder(data: &Path) -> PathBuf {
    data.join("journal")
}

/// A journal with its writer and its detectors, and the way in.
pub struct Service {
    pub gate: Arc<Gate>,
    pub stats: Arc<Stats>,
    data: PathBuf,
    /// Held as long as the service lives: one process for a data folder.
    _lock: File,
}

impl Service {
    /// Takes the data folder, which is made where it is missing. Nothing is let in yet.
    pub fn new(settings: &Settings, limits: Limits, redactor: Redactor) -> Result<Self> {
        let data = settings.data.clone();
        let shown = data.display();
        std::fs::create_dir_all(&data)
            .with_context(|| format!("cannot make the data folder `{shown}`"))?;
        let lock = File::create(data.join("lock"))
            .with_context(|| format!("cannot write to `{shown}`"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                bail!(
                    "another telltale runs on the data folder `{shown}`; give each its own with `--data`"
                )
            }
            Err(std::fs::TryLockError::Error(cause)) => {
                return Err(cause).context(format!("cannot lock the data folder `{shown}`"));
            }
        }
        let stats = Arc::new(Stats::new());
        let intake = Intake { redactor, limits, delivery_bytes: settings.delivery_bytes };
        let gate = Arc::new(Gate::new(intake, Arc::clone(&stats), settings.memory_bytes));
        Ok(Self { gate, stats, data, _lock: lock })
    }

    /// Recovers the journal, starts its threads and opens the gate. The thread that is returned
    /// ends after the gate is closed, when everything let in is settled.
    pub fn start(&self, config: &Config) -> Result<JoinHandle<()>> {
        let began = Instant::now();
        let folder = Folder::create(journal_folder(&self.data))
            .context("cannot make the folder of the journal")?;
        let disk: Arc<dyn Disk> = Arc::new(folder);
        let (journal, found) = Journal::open(Arc::clone(&disk), config.service.segment_bytes)?;
        if let Some((segment, bytes)) = &found.cut {
            warn!(
                segment,
                bytes,
                after = found.last,
                "the journal ended in the middle of an entry that nobody was told of; it was cut off"
            );
        }
        let span = i64::try_from(config.service.duplicate_horizon.as_micros()).unwrap_or(i64::MAX);
        let horizon = Horizon::new(span, config.service.duplicate_ids, self.data.join("ids"));
        let engine = Engine::new(config.detectors()?, config.scan.allowed_lateness_micros());
        let reader = Reader::open(disk, 1)?;
        let Recovered { horizon, engine, totals, unwritten, entries, events } =
            recovery::replay(reader, horizon, engine)?;
        info!(entries, events, seconds = began.elapsed().as_secs_f64(), "the journal is read");
        let outbox = Arc::new(Outbox::default());
        outbox.put(unwritten);
        self.stats.journal_entry.set(i64::try_from(found.last).unwrap_or(i64::MAX));
        self.stats.detected_entry.set(i64::try_from(found.last).unwrap_or(i64::MAX));
        let (requests, waiting) = mpsc::channel(WAITING);
        let (detectors, unseen) = sync_channel(UNSEEN);
        let watcher = Watcher {
            engine,
            outbox: Arc::clone(&outbox),
            stats: Arc::clone(&self.stats),
            committer: requests.downgrade(),
        };
        let watcher = std::thread::Builder::new()
            .name("detectors".to_owned())
            .spawn(move || watcher.run(&unseen))
            .context("cannot start a thread")?;
        self.gate.open(requests.clone(), totals.values());
        let committer = Committer {
            journal,
            horizon,
            outbox,
            stats: Arc::clone(&self.stats),
            detectors,
            watcher: Some(watcher),
            totals,
            failing: false,
        };
        // What the last run could not write is written before anything else.
        let _ = requests.try_send(committer::Request::Findings);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || committer.run(waiting))
            .context("cannot start a thread")
    }
}
