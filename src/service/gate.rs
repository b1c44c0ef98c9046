//! Where sources hand deliveries over: bounded in memory, parsed on every core, one way in.

use super::committer::{Request, Store};
use super::intake::Intake;
use super::stats::Stats;
use crate::journal::Ledger;
use crate::pipeline::lock;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use telltale_ingest::sources::{Delivery, Receipt, Refusal, Room, Take};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::error;

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
    /// For what is under way.
    memory: Room,
    parsing: Arc<Semaphore>,
    positions: Mutex<BTreeMap<(String, String), u64>>,
}

impl Gate {
    pub fn new(intake: Intake, stats: Arc<Stats>, memory_bytes: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            intake: Arc::new(intake),
            stats,
            requests: Mutex::new(None),
            memory: Room::of(memory_bytes),
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
        self.memory.held()
    }

    async fn pass(self: Arc<Self>, delivery: Delivery) -> Result<Receipt, Refusal> {
        let arrived = Instant::now();
        let requests = lock(&self.requests).clone().ok_or(Refusal::Closed)?;
        let mut permit = self.memory.take(delivery.len() * SHARE).await?;
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
        self.memory.grow(&mut permit, held).await?;
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
