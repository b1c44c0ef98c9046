//! Events to findings and SLIs: the second half of `scan`.

use crate::config::Config;
use crate::pipeline::{Take, lock};
use anyhow::{Context, Result};
use std::sync::Mutex;
use std::thread;
use telltale_detect::Detector;
use telltale_detect::engine::{self, Engine};
use telltale_detect::timeline::{Digest, Timeline};
use telltale_ingest::{Parser, Payload, Rejects};
use telltale_queries::{SliResult, SliStream};
use telltale_schema::{EventBatch, EventBuilder, Events, Finding, Micros};

/// What an archive says.
#[derive(Default)]
pub struct Analysis {
    /// Loudest first.
    pub findings: Vec<Finding>,
    pub slis: Vec<SliResult>,
    /// How often a detector's bound was hit and its oldest state forgotten.
    pub evicted: u64,
}

/// Events that go to the SLIs in one batch.
const BATCH_EVENTS: usize = 2048;
/// Events that a thread gathers before it merges them into the timeline if that is free, and before
/// it waits for it.
const DIGEST_EVENTS: usize = 4096;
const MOST_DIGEST_EVENTS: usize = 2 * DIGEST_EVENTS;

/// Gathers what one thread parsed for a timeline that all share.
pub struct Gather<'t> {
    timeline: &'t Mutex<Timeline>,
    digest: Digest,
}

/// A timeline with room for the ids of the events in so many bytes of logs, about.
pub fn timeline_for(bytes: u64) -> Timeline {
    /// What records of most logs need at least.
    const RECORD_BYTES: u64 = 1024;
    /// Beyond this the estimate is not believed at once.
    const MOST_EVENTS: u64 = 4 << 20;
    Timeline::expecting((bytes / RECORD_BYTES).min(MOST_EVENTS) as usize)
}

impl<'t> Gather<'t> {
    pub fn new(timeline: &'t Mutex<Timeline>) -> Self {
        // One payload more may come before it is merged.
        Self { timeline, digest: Digest::with_capacity(DIGEST_EVENTS + 512) }
    }
}

impl Gather<'_> {
    /// Takes events that were kept, each with the time when it was read.
    pub fn add(&mut self, batch: &EventBatch) {
        for event in batch.events() {
            self.digest.read_at(event.received_at).push(&event);
        }
        if self.digest.len() >= DIGEST_EVENTS {
            lock(self.timeline).merge(&mut self.digest);
        }
    }
}

impl Take for Gather<'_> {
    fn take(
        &mut self,
        parser: &dyn Parser,
        payload: &Payload,
        received_at: Micros,
        rejects: &mut Rejects,
    ) -> usize {
        let before = self.digest.len();
        parser.parse(payload, &mut self.digest.read_at(received_at), rejects);
        let events = self.digest.len() - before;
        // Threads come here at about the same time. Whoever finds another at it reads on.
        let free = match self.digest.len() {
            ..DIGEST_EVENTS => None,
            DIGEST_EVENTS..MOST_DIGEST_EVENTS => self.timeline.try_lock().ok(),
            _ => Some(lock(self.timeline)),
        };
        if let Some(mut timeline) = free {
            timeline.merge(&mut self.digest);
        }
        events
    }

    fn finish(mut self) {
        lock(self.timeline).merge(&mut self.digest);
    }
}

/// Runs every detector and every SLI over a sorted timeline, on `threads` threads.
pub fn analyse(timeline: &Timeline, config: &Config, threads: usize) -> Result<Analysis> {
    let lateness = config.scan.allowed_lateness_micros();
    let mut detectors = config.detectors()?.into_iter();
    let each = detectors.len().div_ceil(threads.max(1));
    let mut share = || detectors.by_ref().take(each).collect::<Vec<_>>();
    let own = share();
    let detect = |detectors: Vec<Box<dyn Detector>>| {
        let mut engine = Engine::over_archive(detectors, lateness);
        timeline.observations().for_each(|observation| engine.show(&observation));
        engine.finish();
        (engine.findings(), engine.evicted_total())
    };
    thread::scope(|scope| {
        let mut analysis = Analysis::default();
        let detect = &detect;
        let others = std::iter::repeat_with(share).take_while(|share| !share.is_empty());
        let running: Vec<_> =
            others.map(|detectors| scope.spawn(move || detect(detectors))).collect();
        let mut lists = vec![detect(own)];
        analysis.slis = measure(timeline)?;
        for engine in running {
            lists.push(engine.join().map_err(|_| {
                anyhow::anyhow!("a detector panicked, which is a fault of telltale")
            })?);
        }
        analysis.evicted = lists.iter().map(|(_, evicted)| evicted).sum();
        analysis.findings = engine::merge(lists.into_iter().map(|(findings, _)| findings));
        Ok(analysis)
    })
}

fn measure(timeline: &Timeline) -> Result<Vec<SliResult>> {
    let stream = SliStream::start(telltale_queries::slis()).context("SLIs")?;
    if let Some((first, last)) = timeline.span() {
        stream.cover(first, last);
    }
    let (kinds, columns) = (stream.kinds(), stream.columns());
    let mut events = timeline.select(&kinds, &columns).peekable();
    while let Some(first) = events.peek() {
        let mut builder = EventBuilder::new(first.log, Default::default(), 0);
        for event in events.by_ref().take(BATCH_EVENTS) {
            builder.push(&event);
        }
        stream.push(&builder.finish()).context("SLIs")?;
    }
    stream.finish().context("SLIs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_detect::timeline;

    #[test]
    fn a_timeline_keeps_what_slis_read() {
        let stream = SliStream::start(telltale_queries::slis()).unwrap();
        for column in stream.columns() {
            assert!(timeline::keeps(column), "`{}` is not kept", column.name());
        }
    }
}
