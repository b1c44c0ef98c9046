//! Events to findings and SLIs: the second half of `scan`.

use crate::config::Config;
use anyhow::{Context, Result};
use std::thread;
use telltale_detect::engine::{self, Engine};
use telltale_detect::timeline::Timeline;
use telltale_queries::{SliResult, SliStream};
use telltale_schema::{Event, EventBuilder, Finding};

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
const BATCH_EVENTS: usize = 16_384;

/// Runs every detector and every SLI over a sorted timeline, each on a thread of its own.
pub fn analyse(timeline: &Timeline, config: &Config) -> Result<Analysis> {
    let detectors = config.detectors()?;
    thread::scope(|scope| {
        let engines: Vec<_> = detectors
            .into_iter()
            .map(|detector| {
                scope.spawn(move || {
                    let mut engine =
                        Engine::new(vec![detector], config.scan.allowed_lateness_micros());
                    timeline.events().filter(has_time).for_each(|event| engine.observe(&event));
                    engine.finish();
                    (engine.findings(), engine.evicted_total())
                })
            })
            .collect();
        let slis = measure(timeline)?;
        let mut analysis = Analysis { slis, ..Analysis::default() };
        let mut lists = Vec::new();
        for engine in engines {
            let (findings, evicted) = engine.join().map_err(|_| {
                anyhow::anyhow!("a detector panicked, which is a fault of telltale")
            })?;
            lists.push(findings);
            analysis.evicted += evicted;
        }
        analysis.findings = engine::merge(lists);
        Ok(analysis)
    })
}

/// An event without a time of its own has the time when it was read, which says nothing about
/// when it happened: neither detectors nor windows see it.
fn has_time(event: &Event<'_>) -> bool {
    event.event_time != event.received_at
}

fn measure(timeline: &Timeline) -> Result<Vec<SliResult>> {
    let stream = SliStream::start(telltale_queries::slis()).context("SLIs")?;
    let mut events = timeline.events().filter(has_time).peekable();
    while let Some(first) = events.peek() {
        let mut builder = EventBuilder::new(first.log, Default::default(), 0);
        for event in events.by_ref().take(BATCH_EVENTS) {
            builder.push(&event);
        }
        stream.push(&builder.finish()).context("SLIs")?;
    }
    stream.finish().context("SLIs")
}
