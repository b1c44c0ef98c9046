//! Files to batches of events on every core: the first half of each command.
//!
//! Threads take work from one queue. A short file is one piece of work, read and parsed by the
//! thread that takes it; a long one is shared: whoever is free takes its next block, so that one
//! thread reads and decompresses while the others parse.

use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use telltale_ingest::reading::{batch_of, read_records};
use telltale_ingest::redact::Redactor;
use telltale_ingest::sources::{BlockReader, File, Files, Limits, Plan};
use telltale_ingest::{Block, Parser, Payload, Reject, Rejects};
use telltale_schema::{EventBatch, Micros};

/// A file of more bytes than this is shared between threads.
const SHARED_FILE_BYTES: u64 = 8 << 20;

/// How files are read.
pub struct Reading<'a> {
    pub files: Files,
    /// The parser of every record, where the user named one.
    pub forced: Option<&'static dyn Parser>,
    pub redactor: &'a Redactor,
    /// When reading began: `received_at` of every event.
    pub received_at: Micros,
    pub threads: usize,
    pub limits: Limits,
    pub progress: Arc<Progress>,
}

/// How far reading has come, for whoever shows it, and the way to end it early.
#[derive(Default)]
pub struct Progress {
    pub bytes: Arc<AtomicU64>,
    pub events: AtomicU64,
    /// Set to end reading after the blocks at hand.
    pub stop: Arc<AtomicBool>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Intake {
    /// Events of each log, repeats among them.
    pub by_log: BTreeMap<&'static str, u64>,
    pub rejects: Vec<FileReject>,
    /// Records rejected.
    pub rejected: u64,
    pub files: usize,
    /// Of those, how many could be opened.
    pub opened: usize,
    pub bytes: u64,
}

impl Intake {
    /// Errors: of what was named not one file could be opened, so that nothing can be said of it.
    pub fn ensure_opened(&self) -> Result<()> {
        let Some(first) = self.rejects.first().filter(|_| self.opened == 0) else { return Ok(()) };
        bail!("nothing that was named can be read; `{}` {}", first.path, first.reason)
    }
}

/// Why something of a file is no event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct FileReject {
    pub path: String,
    /// Line or record number of the first one, from 1; 0 where it concerns the file as a whole.
    pub position: u64,
    pub reason: String,
    /// Records rejected for it.
    pub count: u64,
}

/// What one thread does with the records that it reads.
pub trait Take {
    /// Takes the events of a payload and says how many there are.
    fn take(
        &mut self,
        parser: &dyn Parser,
        payload: &Payload,
        received_at: Micros,
        rejects: &mut Rejects,
    ) -> usize;

    /// Nothing further comes.
    fn finish(self)
    where
        Self: Sized,
    {
    }
}

/// Makes batches of them.
impl<F: FnMut(EventBatch)> Take for F {
    fn take(
        &mut self,
        parser: &dyn Parser,
        payload: &Payload,
        received_at: Micros,
        rejects: &mut Rejects,
    ) -> usize {
        let Some(batch) = batch_of(parser, payload, received_at, rejects) else { return 0 };
        let events = batch.len();
        self(batch);
        events
    }
}

/// What threads share.
struct Shared {
    queue: Mutex<Queue>,
    rejects: Mutex<BTreeMap<String, Rejects>>,
    by_log: Mutex<BTreeMap<&'static str, u64>>,
    opened: AtomicUsize,
}

struct Queue {
    files: std::vec::IntoIter<File>,
    /// The long file that is being read, with the way to see whether it changed.
    current: Option<(File, BlockReader)>,
}

enum Work {
    Block(Block, Plan),
    File(File),
}

/// A panic while the lock was held has ended the program's work already; what the lock guards is
/// whole between two calls.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lock guarded, once nobody shares it any more.
pub(crate) fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Reading<'_> {
    /// Reads everything. Each thread starts with a [`Take`] of its own.
    pub fn run<T: Take>(self, start: impl Fn() -> T + Sync) -> Intake {
        let count = self.files.files.len();
        let mut rejects = BTreeMap::new();
        for (path, why) in &self.files.unreadable {
            let mut said = Rejects::default();
            said.remark(format_args!("cannot be read: {why}"));
            rejects.insert(path.clone(), said);
        }
        let shared = Shared {
            queue: Mutex::new(Queue { files: self.files.files.clone().into_iter(), current: None }),
            rejects: Mutex::new(rejects),
            by_log: Mutex::default(),
            opened: AtomicUsize::new(0),
        };
        let work = || {
            let mut take = start();
            self.work(&shared, &mut take);
            take.finish();
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.max(1) {
                scope.spawn(work);
            }
            work();
        });
        let rejects = into_inner(shared.rejects);
        let mut intake = Intake {
            by_log: into_inner(shared.by_log),
            rejected: rejects.values().map(Rejects::total).sum(),
            files: count,
            opened: shared.opened.into_inner(),
            bytes: self.progress.bytes.load(Ordering::Relaxed),
            rejects: Vec::new(),
        };
        for (path, rejects) in rejects {
            intake.rejects.extend(rejects.into_sorted().into_iter().map(|reject| {
                let Reject { position, reason, count } = reject;
                FileReject { path: path.clone(), position, reason, count }
            }));
        }
        intake
    }

    fn work(&self, shared: &Shared, take: &mut impl Take) {
        while !self.progress.stop.load(Ordering::Relaxed) {
            match self.next(shared) {
                Some(Work::Block(block, plan)) => self.parse(block, plan, shared, take),
                Some(Work::File(file)) => {
                    let mut rejects = Rejects::default();
                    if let Some(mut reader) = self.open(&file, shared, &mut rejects) {
                        while let Some((block, plan)) = reader.next_block(&mut rejects) {
                            self.parse(block, plan, shared, take);
                            if self.progress.stop.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        file.check_unchanged(&mut rejects);
                    }
                    keep(shared, &file.name(), rejects);
                }
                None => return,
            }
        }
    }

    fn open(&self, file: &File, shared: &Shared, rejects: &mut Rejects) -> Option<BlockReader> {
        let reader = file.open(self.forced, self.limits, &self.progress.bytes, rejects)?;
        shared.opened.fetch_add(1, Ordering::Relaxed);
        Some(reader)
    }

    fn next(&self, shared: &Shared) -> Option<Work> {
        let mut queue = lock(&shared.queue);
        loop {
            if let Some((file, reader)) = &mut queue.current {
                let mut rejects = Rejects::default();
                let block = reader.next_block(&mut rejects);
                if block.is_none() {
                    file.check_unchanged(&mut rejects);
                }
                keep(shared, &file.name(), rejects);
                match block {
                    Some((block, plan)) => return Some(Work::Block(block, plan)),
                    None => queue.current = None,
                }
            }
            let file = queue.files.next()?;
            let is_short = file.bytes <= SHARED_FILE_BYTES && file.name() != "-";
            if is_short {
                return Some(Work::File(file));
            }
            let mut rejects = Rejects::default();
            let reader = self.open(&file, shared, &mut rejects);
            keep(shared, &file.name(), rejects);
            queue.current = reader.map(|reader| (file, reader));
        }
    }

    fn parse(&self, block: Block, plan: Plan, shared: &Shared, take: &mut impl Take) {
        let mut rejects = Rejects::default();
        let origin = Arc::clone(&block.origin);
        let received_at = self.received_at;
        read_records(block, plan, self.redactor, &mut rejects, |parser, payload, rejects| {
            let events = take.take(parser, payload, received_at, rejects) as u64;
            if events > 0 {
                self.progress.events.fetch_add(events, Ordering::Relaxed);
                *lock(&shared.by_log).entry(parser.name()).or_default() += events;
            }
        });
        keep(shared, &origin, rejects);
    }
}

fn keep(shared: &Shared, path: &str, rejects: Rejects) {
    if !rejects.is_empty() {
        lock(&shared.rejects).entry(path.to_owned()).or_default().merge(rejects);
    }
}

/// Event ids that were seen, for commands that hand events on as they come.
///
/// Memory: about 20 bytes for each event of the input.
#[derive(Default)]
pub struct Seen {
    ids: Mutex<rustc_hash::FxHashSet<[u8; 16]>>,
}

impl Seen {
    /// The batch without events that came before. Where a batch itself repeats an id, the last one
    /// stays, as an exporter's later copy is the more complete one.
    pub fn once(&self, batch: EventBatch) -> EventBatch {
        let mut ids = lock(&self.ids);
        let mut last = rustc_hash::FxHashMap::default();
        for row in batch.rows() {
            last.insert(batch.event_id(row).0, row);
        }
        if last.len() == batch.len() && last.keys().all(|id| !ids.contains(id)) {
            ids.extend(last.into_keys());
            return batch;
        }
        let keep: Vec<bool> = batch
            .rows()
            .map(|row| {
                let id = batch.event_id(row).0;
                last.get(&id) == Some(&row) && !ids.contains(&id)
            })
            .collect();
        ids.extend(last.into_keys());
        batch.filter(&keep)
    }
}
