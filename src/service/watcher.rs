//! The thread that shows stored events to the detectors, in the order of the journal.

use super::committer::{Request, Stored, Written};
use super::outbox::Outbox;
use super::reload::news;
use super::snapshot::{self, Snapshot, Waiting};
use super::stats::Stats;
use super::traces::{Batch, Traces};
use crate::config::Service as Settings;
use crate::journal::Ledger;
use crate::pipeline::lock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use telltale_detect::engine::Engine;
use telltale_schema::time::UNKNOWN;
use telltale_schema::{EventBatch, Finding, Micros};
use tokio::sync::mpsc::WeakSender;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// How long the thread waits for something to do before it looks at the clock.
const IDLE: Duration = Duration::from_millis(200);

/// What follows from the journal up to some entry.
pub struct State {
    /// Number of the last entry.
    pub entry: u64,
    pub engine: Engine,
    pub totals: BTreeMap<(String, String), Ledger>,
    pub newest_event: Micros,
    pub newest_received: Micros,
}

impl State {
    /// Takes in an entry: the same at work and at recovery.
    pub fn advance(
        &mut self,
        entry: u64,
        ledgers: &[Ledger],
        events: &[EventBatch],
        received_at: Micros,
    ) {
        self.entry = entry;
        self.newest_received = self.newest_received.max(received_at);
        for ledger in ledgers {
            let key = (ledger.source.clone(), ledger.partition.clone());
            self.totals.entry(key).or_default().add(ledger);
        }
        for batch in events {
            for event in batch.events() {
                if event.event_time != UNKNOWN && event.event_time <= received_at {
                    self.newest_event = self.newest_event.max(event.event_time);
                }
                self.engine.observe(&event);
            }
        }
    }
}

pub struct Watcher {
    pub state: State,
    pub outbox: Arc<Outbox>,
    pub stats: Arc<Stats>,
    /// To say that there are findings.
    pub committer: WeakSender<Request>,
    pub data: PathBuf,
    /// Where a snapshot waits to be settled. Whoever writes or settles it holds the lock.
    pub snapshot: Arc<Mutex<Option<Waiting>>>,
    /// How often one is made.
    pub interval: Duration,
    /// Where that comes from when it changes.
    pub settings: watch::Receiver<Settings>,
    pub traces: Option<Traces>,
    /// How often the detectors had hit a bound when that was counted last.
    pub evicted: u64,
}

impl Watcher {
    /// Runs until nothing more is written.
    pub fn run(mut self, written: &Receiver<Written>) {
        let (mut made, known) = (Instant::now(), self.state.entry);
        loop {
            match written.recv_timeout(IDLE) {
                Ok(Written::Stored(stored)) => self.take(*stored),
                Ok(Written::Findings(number)) => self.pass(number),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(settings) = news(&mut self.settings) {
                self.interval = settings.snapshot_interval;
            }
            // One that could not be written or settled is tried again.
            let covered = u64::try_from(self.stats.snapshot_entry.get()).unwrap_or_default();
            if made.elapsed() >= self.interval && self.state.entry > covered.max(known) {
                self.save();
                made = Instant::now();
            }
        }
        self.save();
    }

    /// Passes over an entry in which there is nothing for the detectors.
    fn pass(&mut self, number: u64) {
        self.state.entry = number;
        self.stats.detected_entry.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    fn take(&mut self, stored: Stored) {
        let Stored { number, ledger, received_at, events, arrived, bytes, stored_at, permit } =
            stored;
        let ledgers = [ledger];
        self.state.advance(number, &ledgers, &events, received_at);
        if let Some(traces) = &self.traces {
            let [ledger] = &ledgers;
            let first = events.iter().flat_map(|batch| batch.events()).next();
            traces.send(Batch {
                source: ledger.source.clone(),
                partition: ledger.partition.clone(),
                parser: first.map_or_else(String::new, |event| event.log.to_owned()),
                rows: ledger.stored,
                bytes,
                to_journal: stored_at.duration_since(arrived),
                to_detectors: stored_at.elapsed(),
                ended_at: SystemTime::now(),
            });
        }
        drop((events, permit));
        self.stats.detected(number, stored_at.elapsed());
        let evicted = self.state.engine.evicted_total();
        let before = std::mem::replace(&mut self.evicted, evicted);
        self.stats.detectors_evicted.inc_by(evicted.saturating_sub(before));
        let findings = self.state.engine.take();
        if findings.is_empty() {
            return;
        }
        for finding in &findings {
            self.stats.found(&finding.detector, finding.severity.as_str(), arrived.elapsed());
            say(finding);
        }
        self.outbox.put(findings);
        // Where the queue is full, the committer is awake and looks by itself.
        if let Some(committer) = self.committer.upgrade() {
            let _ = committer.try_send(Request::Findings);
        }
    }

    fn save(&self) {
        let State { entry, engine, totals, newest_event, newest_received } = &self.state;
        let snapshot = Snapshot {
            entry: *entry,
            totals: totals.values().cloned().collect(),
            unwritten: self.outbox.unwritten(),
            newest_event: *newest_event,
            newest_received: *newest_received,
        };
        let began = Instant::now();
        let mut waiting = lock(&self.snapshot);
        *waiting = match snapshot::begin(&self.data, &snapshot, engine) {
            Ok(new) => {
                let (bytes, seconds) = (new.new.bytes, began.elapsed().as_secs_f64());
                debug!(entry, bytes, seconds, "wrote what detectors know");
                Some(new)
            }
            Err(cause) => {
                snapshot::failed(&cause, &self.stats);
                None
            }
        };
    }
}

fn say(finding: &Finding) {
    let Finding { detector, severity, principal_id: principal, sentence, .. } = finding;
    if severity.pages() {
        warn!(%detector, %severity, %principal, "{sentence}");
    } else {
        info!(%detector, %severity, %principal, "{sentence}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use telltale_detect::{Detector, Findings, Observation, Unreadable};
    use telltale_schema::{Event, EventBuilder};
    use tokio::sync::{Semaphore, mpsc};

    /// Forgets something with every event.
    struct Forgetful(u64);

    impl Detector for Forgetful {
        fn name(&self) -> &'static str {
            "forgetful"
        }

        fn observe(&mut self, _: &Observation<'_>, _: &mut Findings) {
            self.0 += 1;
        }

        fn close(&mut self, _: Micros, _: &mut Findings) {}

        fn evicted_total(&self) -> u64 {
            self.0
        }

        fn save(&self, _: &mut dyn Write) -> io::Result<()> {
            Ok(())
        }

        fn load(&mut self, _: &[u8]) -> Result<(), Unreadable> {
            Ok(())
        }
    }

    fn stored(number: u64, events: Micros) -> Stored {
        let mut builder = EventBuilder::new("log", Default::default(), 0);
        (1..=events).for_each(|at| builder.push(&Event::new("log", at)));
        let room = Arc::new(Semaphore::new(1));
        Stored {
            number,
            ledger: Ledger::default(),
            received_at: 0,
            events: vec![builder.finish()],
            arrived: Instant::now(),
            bytes: 0,
            stored_at: Instant::now(),
            permit: room.try_acquire_owned().expect("there is room"),
        }
    }

    /// One whose detector has forgotten so much already.
    fn watcher(evicted: u64) -> Watcher {
        let detectors: Vec<Box<dyn Detector>> = vec![Box::new(Forgetful(evicted))];
        let engine = Engine::new(detectors, 0);
        let totals = BTreeMap::new();
        Watcher {
            evicted: engine.evicted_total(),
            state: State { entry: 0, engine, totals, newest_event: 0, newest_received: 0 },
            outbox: Arc::default(),
            stats: Arc::new(Stats::new()),
            committer: mpsc::channel(1).0.downgrade(),
            data: PathBuf::new(),
            snapshot: Arc::default(),
            interval: Duration::MAX,
            settings: watch::channel(Settings::default()).1,
            traces: None,
        }
    }

    #[test]
    fn bounds_that_detectors_hit_are_counted_from_the_start_on() {
        // What was forgotten when it was saved is no news.
        let mut watcher = watcher(5);
        for (number, events, total) in [(1, 2, 2), (2, 3, 5)] {
            watcher.take(stored(number, events));
            assert_eq!(watcher.stats.detectors_evicted.get(), total);
        }
    }

    #[test]
    fn an_entry_of_findings_alone_leaves_the_detectors_not_behind() {
        let mut watcher = watcher(0);
        watcher.take(stored(1, 2));
        watcher.pass(2);
        assert_eq!((watcher.state.entry, watcher.stats.detected_entry.get()), (2, 2));
    }
}
