//! CloudTrail to Arrow, all columns, `raw` and redaction included, against the bare typed
//! `serde_json` parse of the same bytes, in turn and on one thread.
//!
//! `cargo run --release --bin bench-parse [-- FILE]`: FILE is NDJSON of CloudTrail records;
//! without it the records are simulated.
#![allow(clippy::print_stdout, reason = "what was measured is what it prints")]

use serde_json::value::RawValue;
use sonic_rs::LazyValue;
use std::hint::black_box;
use telltale_benches::{Contender, Yardstick, blocks, input, race};
use telltale_ingest::container::{Framing, Walk};
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::{Block, Payload, Rejects, json, parsers};
use telltale_schema::EventBuilder;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn lines(block: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(block).expect("the input is text");
    text.lines()
}

fn main() {
    telltale::memory::keep_freed();
    let blocks = blocks(&input("aws_cloudtrail"), 256 << 10);
    let parser = parsers::by_name("aws_cloudtrail").expect("it is a parser");
    let redactor = Redactor::new(&Key::from_bytes([1; 32]));
    let contenders = [
        Contender::new("serde_json typed", |block| {
            for line in lines(&block) {
                black_box(
                    serde_json::from_str::<Yardstick<'_, &RawValue>>(line).expect("it is a record"),
                );
            }
        }),
        Contender::new("sonic-rs typed", |block| {
            for line in lines(&block) {
                black_box(
                    sonic_rs::from_str::<Yardstick<'_, LazyValue<'_>>>(line)
                        .expect("it is a record"),
                );
            }
        }),
        Contender::new("telltale's reader, typed", |block| {
            for line in lines(&block) {
                black_box(
                    json::from_str::<Yardstick<'_, json::Raw<'_>>>(line).expect("it is a record"),
                );
            }
        }),
        Contender::new("telltale, bytes to Arrow", |bytes| {
            let mut rejects = Rejects::default();
            let block = Block {
                origin: "bench".into(),
                bytes,
                framing: Framing::Lines,
                walk: Walk::default(),
                first_position: 1,
                positions: Default::default(),
            };
            let payload = Payload::new(block, &redactor, &mut rejects);
            let mut builder = EventBuilder::new(parser.name(), payload.buffer(), 0);
            parser.parse(&payload, &mut builder, &mut rejects);
            assert_eq!(rejects.total(), 0, "every record is read");
            black_box(builder.finish());
        }),
    ];
    race(&blocks, &contenders);
}
