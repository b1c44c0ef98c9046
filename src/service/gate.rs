//! Where sources hand deliveries over: bounded in memory, parsed on every core, one way in.

use super::committer::{Request, Store};
use super::intake::Intake;
use super::stats::Stats;
use crate::journal::Ledger;
use crate::pipeline::lock;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use telltale_ingest::sources::{Delivery, Receipt, Refusal, Take};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::error;

/// How long a delivery waits for memory before it is refused.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a delivery takes while it is under way, in parts of its size: bytes, columns, encoded.
const SHARE: usize = 4;
/// Bytes of a dead letter besides its text.
const LETTER: usize = 256;

/// The way into the journal.
pub struct Gate {
    intake: Arc<Intake>,
    stats: Arc<Stats>,
    /// `None` before the journal is recovered and after the service began to stop.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    /// KiB for what is under way.
    memory: Arc<Semaphore>,
    memory_kib: u32,
    parsing: Arc<Semaphore>,
    positions: Mutex<BTreeMap<(String, String), u64>>,
}

impl Gate {
    pub fn new(intake: Intake, stats: Arc<Stats>, memory_bytes: usize) -> Self {
        let memory_kib = u32::try_from(memory_bytes >> 10).unwrap_or(u32::MAX >> 4).max(1);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            intake: Arc::new(intake),
            stats,
            requests: Mutex::new(None),
            memory: Arc::new(Semaphore::new(memory_kib as usize)),
            memory_kib,
            parsing: Arc::new(Semaphore::new(processors)),
            positions: Mutex::default(),
        }
    }

    /// Lets deliveries in, now that the journal is known.
    pub fn open<'l>(
        &self,
        requests: mpsc::Sender<Request>,
        totals: impl IntoIterator<Item = &'l Ledger>,
    ) {
        let mut positions = lock(&self.positions);
        for ledger in totals {
            if let Some(position) = ledger.position {
                positions.insert((ledger.source.clone(), ledger.partition.clone()), position);
            }
        }
        drop(positions);
        *lock(&self.requests) = Some(requests);
    }

    /// Lets nothing in any more; what is under way goes on.
    pub fn close(&self) {
        *lock(&self.requests) = None;
    }

    pub fn is_open(&self) -> bool {
        lock(&self.requests).as_ref().is_some_and(|requests| !requests.is_closed())
    }

    /// Bytes that are held by what is under way, and how many may be.
    pub fn memory_bytes(&self) -> (u64, u64) {
        let most = u64::from(self.memory_kib) << 10;
        let free = (self.memory.available_permits() as u64) << 10;
        (most.saturating_sub(free), most)
    }

    /// Memory for what is under way, once there is some.
    async fn memory(&self, kib: u32) -> Result<OwnedSemaphorePermit, Refusal> {
        let waiting = Arc::clone(&self.memory).acquire_many_owned(kib);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(permit) => permit.map_err(|_| Refusal::Closed),
            Err(_) => Err(Refusal::Busy),
        }
    }

    async fn pass(self: Arc<Self>, delivery: Delivery) -> Result<Receipt, Refusal> {
        let arrived = Instant::now();
        let requests = lock(&self.requests).clone().ok_or(Refusal::Closed)?;
        let kib = u32::try_from(delivery.len() * SHARE / 1024 + 1).unwrap_or(u32::MAX);
        let kib = kib.min(self.memory_kib);
        let mut permit = self.memory(kib).await?;
        let turn = Arc::clone(&self.parsing).acquire_owned().await.map_err(|_| Refusal::Closed)?;
        let intake = Arc::clone(&self.intake);
        let key = delivery
            .position
            .map(|at| ((delivery.source.to_string(), delivery.partition.to_string()), at));
        let parsed = tokio::task::spawn_blocking(move || {
            let prepared = intake.prepare(delivery, crate::commands::now());
            drop(turn);
            prepared
        });
        let mut prepared = parsed.await.map_err(|cause| {
            error!(%cause, "a delivery cannot be read, which is a fault of telltale");
            Refusal::Broken
        })??;
        // What was compressed turns out to be larger than it looked.
        let letters = prepared.dead_letters.iter().map(|letter| LETTER + letter.text.len());
        let held = prepared.encoded.len() * 2 + letters.sum::<usize>();
        let whole = u32::try_from(held / 1024).unwrap_or(u32::MAX);
        if whole.min(self.memory_kib) > kib {
            permit.merge(self.memory(whole.min(self.memory_kib) - kib).await?);
        }
        let rejects = std::mem::take(&mut prepared.rejects);
        let ledger = prepared.ledger.clone();
        self.stats.received(&ledger);
        let (reply, outcome) = oneshot::channel();
        let store = Box::new(Store { prepared, arrived, permit, reply });
        if requests.send(Request::Store(store)).await.is_err() {
            self.stats.refused(&ledger);
            return Err(Refusal::Closed);
        }
        drop(requests);
        let Ledger { received, stored, duplicate, dead_letter, .. } =
            outcome.await.map_err(|_| Refusal::Closed)??;
        if let Some((key, at)) = key {
            lock(&self.positions).insert(key, at);
        }
        Ok(Receipt { received, stored, duplicate, rejected: dead_letter, rejects })
    }
}

/// The gate as sources know it.
pub struct Entrance(pub Arc<Gate>);

#[async_trait]
impl Take for Entrance {
    async fn take(&self, delivery: Delivery) -> Result<Receipt, Refusal> {
        // On a task of its own, which goes on when the sender does not wait for the end.
        let passing = tokio::spawn(Arc::clone(&self.0).pass(delivery));
        passing.await.unwrap_or(Err(Refusal::Closed))
    }

    fn position(&self, source: &str, partition: &str) -> Option<u64> {
        lock(&self.0.positions).get(&(source.to_owned(), partition.to_owned())).copied()
    }

    fn failed(&self, source: &str) {
        self.0.stats.source_failures.with_label_values(&[source]).inc();
    }

    fn positions(&self, source: &str) -> Vec<(String, u64)> {
        let positions = lock(&self.0.positions);
        let own = positions.range((source.to_owned(), String::new())..);
        let own = own.take_while(|((of, _), _)| of == source);
        own.map(|((_, partition), at)| (partition.clone(), *at)).collect()
    }
}
