//! Records as they come, through parsers and detectors: what the demo runs.

use std::collections::BTreeMap;
use telltale_detect::engine::Engine;
use telltale_ingest::container::{Framing, Walk};
use telltale_ingest::redact::Redactor;
use telltale_ingest::{Block, Payload, Rejects, parsers};
use telltale_schema::{EventBuilder, Finding, Micros};

/// Lines of several logs, gathered until they are run through the detectors.
pub struct Live<'a> {
    redactor: &'a Redactor,
    engine: Engine,
    gathered: BTreeMap<&'static str, Vec<u8>>,
    pub events: u64,
    pub rejected: u64,
}

impl<'a> Live<'a> {
    pub fn new(redactor: &'a Redactor, engine: Engine) -> Self {
        Self { redactor, engine, gathered: BTreeMap::new(), events: 0, rejected: 0 }
    }

    /// Adds one line of a log.
    pub fn push(&mut self, log: &'static str, line: &str) {
        let lines = self.gathered.entry(log).or_default();
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
    }

    /// Shows the detectors what was gathered and gives the findings that are new or have changed.
    pub fn run(&mut self, received_at: Micros) -> Vec<Finding> {
        let mut batches = Vec::new();
        for (log, bytes) in std::mem::take(&mut self.gathered) {
            let Some(parser) = parsers::by_name(log) else { continue };
            let mut rejects = Rejects::default();
            let block = Block {
                origin: log.into(),
                bytes,
                framing: Framing::Lines,
                walk: Walk::default(),
                first_position: 1,
                positions: Default::default(),
            };
            let payload = Payload::new(block, self.redactor, &mut rejects);
            let mut builder = EventBuilder::new(log, payload.buffer(), received_at);
            parser.parse(&payload, &mut builder, &mut rejects);
            self.rejected += rejects.total();
            batches.push(builder.finish());
        }
        let mut order: Vec<_> = batches
            .iter()
            .enumerate()
            .flat_map(|(at, batch)| {
                batch.rows().map(move |row| (batch.event_time(row), batch.event_id(row), at, row))
            })
            .collect();
        order.sort_unstable();
        order.dedup_by_key(|(_, id, ..)| *id);
        self.events += order.len() as u64;
        for (_, _, at, row) in order {
            self.engine.observe(&batches[at].event(row));
        }
        self.engine.take()
    }

    /// Tells the detectors that nothing more comes.
    pub fn finish(&mut self) -> Vec<Finding> {
        self.engine.finish();
        self.engine.take()
    }
}
