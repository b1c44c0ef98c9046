//! No record makes a parser panic: the first byte chooses the parser, the rest is its payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telltale_ingest::container::{Walk, sniff};
use telltale_ingest::{Block, PARSERS, Payload, Rejects};
use telltale_schema::EventBuilder;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let parser = PARSERS[usize::from(*choice) % PARSERS.len()];
    let mut rejects = Rejects::default();
    let block = Block {
        origin: "fuzz".into(),
        framing: sniff(bytes, true),
        bytes: bytes.to_vec(),
        walk: Walk::default(),
        first_position: 1,
        positions: Default::default(),
    };
    let payload = Payload::unredacted(block, &mut rejects);
    let mut events = EventBuilder::new(parser.name(), payload.buffer(), 0);
    parser.parse(&payload, &mut events, &mut rejects);
    let batch = events.finish();
    for row in batch.rows() {
        let _ = serde_json::to_string(&batch.event(row));
    }
});
