//! The service: sources into the journal, detectors behind it.
//!
//! `gate` where sources hand over · `intake` bytes to what the journal takes · `committer` the one
//! writer · `horizon` what was stored already · `watcher` detectors · `outbox` findings on their way
//! to the journal · `dispatch` findings from there to the sinks · `keeper` journal to `lake` ·
//! `snapshot` what detectors know, in a file · `kept` such files · `recovery` all of it read at the
//! start · `stats` metrics · `measure` SLIs among them · `process` what the system says of it ·
//! `traces` spans for a collector · `server` HTTP · `reload` what may change meanwhile · `sources`
//! what is read, by the configuration · `upkeep` small files of the lake merged, old days deleted.

pub mod committer;
pub mod dispatch;
pub mod gate;
pub mod horizon;
pub mod intake;
pub mod keeper;
pub mod kept;
pub mod lake;
pub mod measure;
pub mod outbox;
mod process;
pub mod recovery;
pub mod reload;
pub mod server;
pub mod snapshot;
pub mod sources;
pub mod stats;
pub mod traces;
pub mod upkeep;
pub mod watcher;

use crate::config::{Config, Service as Settings};
use crate::journal::Journal;
use crate::journal::disk::{Disk, Folder};
use crate::sinks::Sink;
use anyhow::{Context, Result, bail};
use committer::Committer;
use dispatch::{Dispatcher, Mailbox};
use gate::Gate;
use horizon::Horizon;
use intake::Intake;
use keeper::Keeper;
use lake::Lake;
use measure::Measure;
use outbox::Outbox;
use recovery::Recovered;
use stats::Stats;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use telltale_detect::engine::Engine;
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::Limits;
use tokio::sync::{mpsc, watch};
use traces::Traces;
use tracing::{info, warn};
use upkeep::Upkeep;
use watcher::Watcher;

/// Deliveries that wait for the committer.
const WAITING: usize = 1024;
/// Entries that wait for the detectors.
const UNSEEN: usize = 1024;

/// How long sinks may take for the last findings; what they do not take comes after a restart.
const LAST_DELIVERY: Duration = Duration::from_secs(5);

/// Folders of a data folder.
pub fn journal_folder(data: &Path) -> PathBuf {
    data.join("journal")
}

/// Makes the data folder where it is missing, for its owner alone: what is in it was in audit logs. A
/// folder that is there keeps its mode.
pub fn make_folder(data: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let parents = data.parent().map_or(Ok(()), std::fs::create_dir_all);
    let made = parents.and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(data));
    match made {
        Err(_) if data.is_dir() => Ok(()),
        made => made.with_context(|| format!("cannot make the data folder `{}`", data.display())),
    }
}

/// Takes the data folder for this process alone, as long as the file is open. It is made where it is
/// missing.
pub fn hold(data: &Path) -> Result<File> {
    make_folder(data)?;
    let shown = data.display();
    let lock =
        File::create(data.join("lock")).with_context(|| format!("cannot write to `{shown}`"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => bail!(
            "a telltale runs on the data folder `{shown}`; stop it, or take another folder with `--data`"
        ),
        Err(std::fs::TryLockError::Error(cause)) => {
            Err(cause).context(format!("cannot lock the data folder `{shown}`"))
        }
    }
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
        let lock = hold(&data)?;
        let stats = Arc::new(Stats::new());
        let intake = Intake { redactor, limits, delivery_bytes: settings.delivery_bytes };
        let gate = Arc::new(Gate::new(intake, Arc::clone(&stats), settings.memory_bytes));
        Ok(Self { gate, stats, data, _lock: lock })
    }

    /// What it says of itself, in Prometheus' text format. Lists the files of the journal.
    pub fn metrics(&self) -> String {
        let (held, most) = self.gate.memory_bytes();
        self.stats.memory_bytes.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.stats.memory_limit_bytes.set(i64::try_from(most).unwrap_or(i64::MAX));
        let files = std::fs::read_dir(journal_folder(&self.data)).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
        self.stats.journal_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.stats.text()
    }

    /// Recovers what is known, starts the threads and opens the gate.
    pub fn start(&self, config: &Config) -> Result<Running> {
        let began = Instant::now();
        let settings = &config.service;
        for source in &config.source {
            self.stats.source_begins(source.name());
        }
        let folder = Folder::create(journal_folder(&self.data))
            .context("cannot make the folder of the journal")?;
        let disk: Arc<dyn Disk> = Arc::new(folder);
        let (mut journal, found) = Journal::open(Arc::clone(&disk), settings.segment_bytes)?;
        if let Some((segment, bytes)) = &found.cut {
            let after = found.last;
            warn!(
                segment,
                bytes,
                after,
                "the journal ended in the middle of an entry that nobody was told of; it was cut off"
            );
        }
        let lake = Lake::open(&self.data, &config.lake).context("the lake cannot be opened")?;
        let span = i64::try_from(settings.duplicate_horizon.as_micros()).unwrap_or(i64::MAX);
        let horizon = Horizon::new(span, settings.duplicate_ids, self.data.join("ids"));
        let lateness = config.scan.allowed_lateness_micros();
        let engine = || Ok(Engine::live(config.detectors()?, lateness));
        let Recovered { state, horizon, unwritten, entries, events } =
            recovery::recover(&self.data, disk.as_ref(), &lake, horizon, engine)?;
        // A journal that lost its files goes on behind what the snapshot and the lake have seen.
        let flushed = lake.flushed()?;
        journal.go_on_after(flushed.into_iter().fold(state.entry, u64::max));
        let seconds = began.elapsed().as_secs_f64();
        info!(entries, events, seconds, "the journal is read");
        let (changes, changed) = watch::channel(settings.clone());
        let mut dispatchers = Vec::new();
        for (name, mut sink) in config.sinks()? {
            sink.open()?;
            let (disk, stats) = (disk.as_ref(), Arc::clone(&self.stats));
            let dispatcher = Dispatcher::new(name, sink, &self.data, disk, found.last, stats)?;
            dispatchers.push(dispatcher);
        }
        let mailboxes: Vec<_> = dispatchers.iter().map(Dispatcher::mailbox).collect();
        let outbox = Arc::new(Outbox::default());
        outbox.put(unwritten);
        let last = i64::try_from(found.last).unwrap_or(i64::MAX);
        self.stats.journal_entry.set(last);
        self.stats.detected_entry.set(last);
        let (requests, waiting) = mpsc::channel(WAITING);
        let (detectors, unseen) = sync_channel(UNSEEN);
        let (snapshot, ids) = (Arc::default(), Arc::default());
        let keeper = Keeper {
            disk,
            looked_at: flushed,
            in_lake: flushed[0],
            ids_fail: false,
            lake,
            stats: Arc::clone(&self.stats),
            interval: settings.flush_interval,
            settings: changed.clone(),
            snapshot: Arc::clone(&snapshot),
            ids: Arc::clone(&ids),
            covered: 0,
            dispatched: dispatchers.iter().map(Dispatcher::noted).collect(),
        };
        self.stats.detectors_running.set(1);
        self.gate.open(requests.clone(), state.totals.values());
        let traces = match config.telemetry.endpoint() {
            Some(endpoint) => {
                let (traces, export) = Traces::new(&endpoint, Arc::clone(&self.stats));
                // What the collector has not taken at the end is dropped with the process.
                thread("traces", export)?;
                Some(traces)
            }
            None => None,
        };
        let watcher = Watcher {
            evicted: state.engine.evicted_total(),
            state,
            outbox: Arc::clone(&outbox),
            stats: Arc::clone(&self.stats),
            committer: requests.downgrade(),
            data: self.data.clone(),
            snapshot,
            interval: settings.snapshot_interval,
            settings: changed.clone(),
            traces,
        };
        let watcher = thread("detectors", move || watcher.run(&unseen))?;
        let committer = Committer {
            journal,
            horizon,
            ids,
            indexed: Instant::now(),
            settings: changed.clone(),
            outbox,
            mailboxes: mailboxes.clone(),
            stats: Arc::clone(&self.stats),
            detectors,
            watcher: Some(watcher),
            failing: false,
            ids_fail: false,
        };
        // What the last run could not write is written before anything else.
        let _ = requests.try_send(committer::Request::Findings);
        let committer = thread("journal", move || committer.run(waiting))?;
        let (stop_keeper, stopped) = channel();
        let keeper = thread("lake", move || keeper.run(&stopped))?;
        let upkeep = Upkeep {
            data: self.data.clone(),
            interval: settings.maintenance_interval,
            file_retention: settings.file_retention,
            retention: config.lake.retention.clone(),
            settings: changed.clone(),
        };
        let (stop_upkeep, stopped) = channel();
        thread("upkeep", move || upkeep.run(&stopped))?;
        let measure = Measure {
            data: self.data.clone(),
            stats: Arc::clone(&self.stats),
            interval: settings.sli_interval,
            window: settings.sli_window,
            settings: changed,
        };
        let (stop_measure, stopped) = channel();
        thread("slis", move || measure.run(&stopped))?;
        let sinks = dispatchers.into_iter().map(|sink| thread("sink", move || sink.run()));
        let sinks = sinks.collect::<Result<_>>()?;
        let helpers = [stop_upkeep, stop_measure];
        Ok(Running { committer, sinks, mailboxes, keeper, stop_keeper, helpers, changes })
    }
}

/// The threads of a service.
pub struct Running {
    committer: JoinHandle<()>,
    sinks: Vec<JoinHandle<()>>,
    mailboxes: Vec<Arc<Mailbox>>,
    keeper: JoinHandle<()>,
    stop_keeper: Sender<()>,
    /// What stops the threads whose work is nobody's loss: they are not waited for.
    helpers: [Sender<()>; 2],
    /// What tells the threads of new settings.
    changes: watch::Sender<Settings>,
}

impl Running {
    /// Takes new settings of the service, and sinks that are made anew, by their place.
    fn change(&self, settings: Settings, sinks: Vec<(usize, Box<dyn Sink>)>) {
        self.changes.send_replace(settings);
        for (place, sink) in sinks {
            if let Some(mailbox) = self.mailboxes.get(place) {
                mailbox.replace(sink);
            }
        }
    }

    /// Returns after the gate was closed, when everything let in is settled; whether no thread
    /// panicked.
    pub fn join(self) -> bool {
        let committer = self.committer.join();
        self.mailboxes.iter().for_each(|mailbox| mailbox.close());
        let until = Instant::now() + LAST_DELIVERY;
        while Instant::now() < until && !self.sinks.iter().all(JoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        // A sink that is still at it ends with the process.
        let finished = self.sinks.into_iter().filter(JoinHandle::is_finished);
        let sinks = finished.map(JoinHandle::join).fold(true, |sound, sink| sound & sink.is_ok());
        drop((self.stop_keeper, self.helpers));
        self.keeper.join().is_ok() && committer.is_ok() && sinks
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.context("cannot start a thread")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_data_folder_that_is_made_is_its_owners_alone_and_one_that_is_there_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let data = folder.path().join("lib/telltale");
        make_folder(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        std::fs::set_permissions(&data, PermissionsExt::from_mode(0o750)).unwrap();
        make_folder(&data).unwrap();
        assert_eq!(mode(&data), 0o750);
        std::fs::write(folder.path().join("file"), "").unwrap();
        let said = format!("{:#}", make_folder(&folder.path().join("file")).unwrap_err());
        assert!(said.contains("cannot make the data folder"), "{said}");
    }
}
