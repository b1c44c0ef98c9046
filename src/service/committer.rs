//! The one thread that writes the journal: repeats out, a group to disk, then everybody is told.

use super::dispatch::Mailbox;
use super::horizon::{Horizon, Waiting};
use super::intake::Prepared;
use super::outbox::Outbox;
use super::stats::Stats;
use crate::config::Service as Settings;
use crate::journal::encoded::Encoded;
use crate::journal::entry::Head;
use crate::journal::{Body, Journal, JournalError, Ledger, MAX_ENTRY_BYTES, len_of};
use crate::pipeline::lock;
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;
use telltale_ingest::sources::Refusal;
use telltale_schema::{EventBatch, Micros};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{error, info};

/// Bytes of entries that go to disk with one sync.
const GROUP_BYTES: usize = 32 << 20;
/// Entries of a group.
const GROUP_ENTRIES: usize = 1024;

/// What the committer is asked to do.
pub enum Request {
    Store(Box<Store>),
    /// There are findings in the outbox.
    Findings,
}

/// A delivery that waits to be stored.
pub struct Store {
    pub prepared: Prepared,
    pub arrived: Instant,
    /// Its share of the memory for what is under way.
    pub permit: OwnedSemaphorePermit,
    pub reply: oneshot::Sender<Result<Ledger, Refusal>>,
}

/// An entry of the journal, as the detectors hear of it.
pub enum Written {
    Stored(Box<Stored>),
    /// The number of one that holds findings alone.
    Findings(u64),
}

/// Stored events on their way to the detectors.
pub struct Stored {
    pub number: u64,
    pub ledger: Ledger,
    pub received_at: Micros,
    pub events: Vec<EventBatch>,
    pub arrived: Instant,
    /// Its bytes in the journal.
    pub bytes: u64,
    /// When it was on disk.
    pub stored_at: Instant,
    pub permit: OwnedSemaphorePermit,
}

/// The writing thread.
pub struct Committer {
    pub journal: Journal,
    pub horizon: Horizon,
    /// Where an index of the ids in files waits to be settled, and when the last was put there.
    pub ids: Arc<Mutex<Option<Waiting>>>,
    pub indexed: Instant,
    /// How often one is put there: as often as what detectors know is saved.
    pub settings: watch::Receiver<Settings>,
    pub outbox: Arc<Outbox>,
    /// Where findings go once they are in the journal: one for each sink.
    pub mailboxes: Vec<Arc<Mailbox>>,
    pub stats: Arc<Stats>,
    /// The thread of the detectors, and the way to it.
    pub detectors: SyncSender<Written>,
    pub watcher: Option<JoinHandle<()>>,
    /// Whether the last group failed, so that a failure is said once.
    pub failing: bool,
    /// The same of ids that are to go to disk.
    pub ids_fail: bool,
}

/// A delivery with what is to be written of it.
struct Candidate {
    store: Store,
    ledger: Ledger,
    /// Events without repeats.
    events: Vec<EventBatch>,
    head: Vec<u8>,
    /// `events` as bytes, where they are not all that was prepared.
    encoded: Option<Encoded>,
}

impl Candidate {
    fn body(&self) -> Body<'_> {
        let events = self.encoded.as_ref().unwrap_or(&self.store.prepared.encoded);
        std::iter::once(self.head.as_slice()).chain(events.parts()).collect()
    }
}

impl Committer {
    /// Runs until every sender of requests is gone and the last findings are written.
    pub fn run(mut self, mut requests: Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut waiting = Some(first);
            let (mut group, mut bytes) = (Vec::new(), 0);
            while let Some(request) = waiting.take() {
                if let Request::Store(store) = request {
                    bytes += store.prepared.encoded.len();
                    group.push(*store);
                }
                if bytes < GROUP_BYTES && group.len() < GROUP_ENTRIES {
                    waiting = requests.try_recv().ok();
                }
            }
            self.commit(group);
        }
        // The detectors see the last events before their last findings are written.
        let (idle, _) = sync_channel(0);
        drop(std::mem::replace(&mut self.detectors, idle));
        if let Some(watcher) = self.watcher.take()
            && watcher.join().is_err()
        {
            error!(
                "the detectors panicked, which is a fault of telltale; they go on after a restart"
            );
        }
        self.commit(Vec::new());
        if let Err(cause) = self.index(true) {
            error!(%cause, "ids of stored events cannot be moved to disk; the next start reads them from the lake");
        }
    }

    /// Lets an index of the ids in files be written, where it is time.
    fn index(&mut self, is_last: bool) -> io::Result<()> {
        let is_due = self.indexed.elapsed() >= self.settings.borrow().snapshot_interval;
        if is_last || is_due || self.horizon.is_unsaid() {
            self.indexed = Instant::now();
            if let Some(index) = self.horizon.waiting()? {
                *lock(&self.ids) = Some(index);
            }
        }
        Ok(())
    }

    fn commit(&mut self, group: Vec<Store>) {
        let mut candidates = Vec::with_capacity(group.len());
        candidates.extend(group.into_iter().filter_map(|store| self.candidate(store)));
        let findings = self.outbox.take();
        let letter = findings.clone().map(|findings| {
            let received_at = crate::commands::now();
            Head { received_at, findings, ..Head::default() }.encode()
        });
        if candidates.is_empty() && letter.is_none() {
            return;
        }
        let began = Instant::now();
        let bodies = candidates.iter().map(Candidate::body);
        let bodies = bodies.chain(letter.as_deref().map(|head| vec![head]));
        match self.journal.append(bodies) {
            Ok(first) => {
                self.stats.synced(began.elapsed());
                self.outbox.written();
                let last = first + candidates.len() as u64 + u64::from(letter.is_some()) - 1;
                self.stats.journal_entry.set(i64::try_from(last).unwrap_or(i64::MAX));
                for mailbox in &self.mailboxes {
                    mailbox.put(last, findings.as_deref().unwrap_or_default());
                }
                if self.failing {
                    info!("the journal can be written again");
                    self.failing = false;
                }
                match self.horizon.keep().and_then(|()| self.index(false)) {
                    Err(cause) if !std::mem::replace(&mut self.ids_fail, true) => {
                        error!(%cause, "ids of stored events cannot be moved to disk; they stay in memory");
                    }
                    Ok(()) if std::mem::take(&mut self.ids_fail) => {
                        info!("ids of stored events can be moved to disk again");
                    }
                    _ => {}
                }
                for (number, candidate) in (first..).zip(candidates) {
                    self.settle(number, candidate);
                }
                if letter.is_some() {
                    self.show(Written::Findings(last));
                }
            }
            Err(cause) => {
                self.horizon.take_back_to(0);
                self.said(&cause);
                self.outbox.put_back();
                let why = if cause.is_full() { Refusal::Full } else { Refusal::Broken };
                for candidate in candidates {
                    refuse(candidate.store, why.clone(), &self.stats);
                }
            }
        }
    }

    /// Takes repeats out of a delivery; refuses it where they cannot be told.
    fn candidate(&mut self, store: Store) -> Option<Candidate> {
        let Prepared { ledger, received_at, events, dead_letters, left_out, .. } = &store.prepared;
        let mark = self.horizon.mark();
        let mut kept = Vec::with_capacity(events.len());
        let mut is_whole = true;
        for batch in events.iter() {
            match self.horizon.add(batch, *received_at) {
                Ok(fresh) if fresh.iter().all(|fresh| *fresh) => kept.push(batch.clone()),
                Ok(fresh) => {
                    is_whole = false;
                    let left = batch.filter(&fresh);
                    if !left.is_empty() {
                        kept.push(left);
                    }
                }
                Err(cause) => {
                    error!(%cause, "ids of stored events cannot be read from disk");
                    self.horizon.take_back_to(mark);
                    refuse(store, Refusal::Broken, &self.stats);
                    return None;
                }
            }
        }
        let mut ledger = ledger.clone();
        ledger.stored = kept.iter().map(|batch| batch.len() as u64).sum();
        let offered: u64 = events.iter().map(|batch| batch.len() as u64).sum();
        ledger.duplicate += offered - ledger.stored;
        let encoded = (!is_whole).then(|| Encoded::of(&kept));
        let head = Head {
            received_at: *received_at,
            ledger: vec![ledger.clone()],
            dead_letters: dead_letters.clone(),
            left_out: *left_out,
            findings: Vec::new(),
            texts: encoded.as_ref().unwrap_or(&store.prepared.encoded).texts(),
        };
        let candidate = Candidate { head: head.encode(), store, ledger, events: kept, encoded };
        if len_of(&candidate.body()) > MAX_ENTRY_BYTES {
            self.horizon.take_back_to(mark);
            let why = "it is too much for one entry of the journal; send it in parts";
            refuse(candidate.store, Refusal::Oversized(why.to_owned()), &self.stats);
            return None;
        }
        Some(candidate)
    }

    /// Tells the sender and hands the events on.
    fn settle(&mut self, number: u64, candidate: Candidate) {
        let bytes = len_of(&candidate.body()) as u64;
        let Candidate { store, ledger, events, .. } = candidate;
        self.stats.stored(&ledger, store.arrived.elapsed());
        let Store { arrived, permit, reply, prepared } = store;
        let received_at = prepared.received_at;
        // A sender that is gone does not change that its events are stored.
        let _ = reply.send(Ok(ledger.clone()));
        let stored_at = Instant::now();
        let stored =
            Stored { number, ledger, received_at, events, arrived, bytes, stored_at, permit };
        self.show(Written::Stored(Box::new(stored)));
    }

    /// Hands an entry to the detectors.
    fn show(&self, written: Written) {
        // They end after this thread does, unless they panic.
        let is_new = self.watcher.is_some() && self.stats.detectors_running.get() > 0;
        if self.detectors.send(written).is_err() && is_new {
            self.stats.detectors_running.set(0);
            error!(
                "the detectors panicked, which is a fault of telltale; events are stored and shown to them after a restart"
            );
        }
    }

    fn said(&mut self, cause: &JournalError) {
        self.stats.journal_failures.inc();
        if !std::mem::replace(&mut self.failing, true) {
            let cause = anyhow::anyhow!(
                "{cause}: {}",
                std::error::Error::source(cause).map_or_else(String::new, ToString::to_string)
            );
            error!(%cause, "nothing is acknowledged until the journal can be written");
        }
    }
}

fn refuse(store: Store, why: Refusal, stats: &Stats) {
    stats.refused(&store.prepared.ledger);
    let _ = store.reply.send(Err(why));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::Folder;
    use crate::sinks::tests::finding;
    use std::path::Path;

    /// One with a journal of its own, and what the detectors are shown.
    fn committer(folder: &Path) -> (Committer, std::sync::mpsc::Receiver<Written>) {
        let disk = Folder::create(folder.join("journal")).expect("a folder can be made");
        let (journal, _) = Journal::open(Arc::new(disk), 1 << 20).expect("the folder is empty");
        let (detectors, unseen) = sync_channel(2);
        let committer = Committer {
            journal,
            horizon: Horizon::new(0, 16, folder.join("ids")),
            ids: Arc::default(),
            indexed: Instant::now(),
            settings: watch::channel(Settings::default()).1,
            outbox: Arc::default(),
            mailboxes: Vec::new(),
            stats: Arc::new(Stats::new()),
            detectors,
            watcher: None,
            failing: false,
            ids_fail: false,
        };
        (committer, unseen)
    }

    #[test]
    fn an_entry_of_findings_alone_is_the_last_of_the_journal() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (mut committer, unseen) = committer(folder.path());
        for entry in 1..=2 {
            committer.outbox.put([finding("a")]);
            committer.commit(Vec::new());
            assert_eq!(committer.stats.journal_entry.get(), entry);
        }
        // There is nothing in them for the detectors, which are not behind for that.
        let heard = unseen.try_iter().map(|written| match written {
            Written::Findings(number) => number,
            Written::Stored(stored) => panic!("nothing was stored in entry {}", stored.number),
        });
        assert_eq!(heard.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn detectors_that_are_gone_are_missed_and_entries_are_written() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (mut committer, unseen) = committer(folder.path());
        committer.watcher = Some(std::thread::spawn(|| {}));
        committer.stats.detectors_running.set(1);
        drop(unseen);
        committer.outbox.put([finding("a")]);
        committer.commit(Vec::new());
        assert_eq!(committer.stats.detectors_running.get(), 0);
        assert_eq!(committer.stats.journal_entry.get(), 1);
    }
}
