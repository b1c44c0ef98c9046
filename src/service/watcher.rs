//! The thread that shows stored events to the detectors, in the order of the journal.

use super::committer::{Request, Stored};
use super::outbox::Outbox;
use super::stats::Stats;
use crate::journal::FindingRow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use telltale_detect::engine::Engine;
use telltale_schema::EventBatch;
use tokio::sync::mpsc::WeakSender;
use tracing::{info, warn};

pub struct Watcher {
    pub engine: Engine,
    pub outbox: Arc<Outbox>,
    pub stats: Arc<Stats>,
    /// To say that there are findings.
    pub committer: WeakSender<Request>,
}

/// Shows the events of one entry to the detectors: the same at work and at recovery.
pub fn show(engine: &mut Engine, events: &[EventBatch]) {
    for batch in events {
        for event in batch.events() {
            engine.observe(&event);
        }
    }
}

impl Watcher {
    /// Runs until nothing more is stored.
    pub fn run(mut self, stored: &Receiver<Stored>) {
        while let Ok(Stored { number, events, arrived, permit }) = stored.recv() {
            let began = Instant::now();
            show(&mut self.engine, &events);
            drop((events, permit));
            self.stats.detected(number, began.elapsed());
            let findings = self.engine.take();
            if findings.is_empty() {
                continue;
            }
            for finding in &findings {
                let severity = finding.severity.as_str();
                self.stats.found(finding.detector, severity, arrived.elapsed());
                if finding.severity.pages() {
                    warn!(
                        detector = finding.detector,
                        severity,
                        principal = finding.principal_id,
                        "{}",
                        finding.sentence
                    );
                } else {
                    info!(
                        detector = finding.detector,
                        severity,
                        principal = finding.principal_id,
                        "{}",
                        finding.sentence
                    );
                }
            }
            self.outbox.put(findings.iter().map(FindingRow::of));
            // Where the queue is full, the committer is awake and looks by itself.
            if let Some(committer) = self.committer.upgrade() {
                let _ = committer.try_send(Request::Findings);
            }
        }
    }
}
