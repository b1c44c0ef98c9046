//! CloudTrail to Arrow, all columns, `raw` and redaction included, against the bare typed
//! `serde_json` parse of the same bytes, in turn and on one thread.

use std::hint::black_box;
use telltale_benches::{Yardstick, compare};
use telltale_ingest::container::{Framing, Walk};
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::{Block, Payload, Rejects, parsers};
use telltale_schema::EventBuilder;

fn main() {
    let path = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let blocks: Vec<Vec<u8>> = {
        let mut blocks = vec![vec![]];
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if blocks.last().unwrap().len() > 1 << 20 {
                blocks.push(vec![]);
            }
            blocks.last_mut().unwrap().extend_from_slice(line);
        }
        blocks
    };
    let events = bytes.iter().filter(|b| **b == b'\n').count() as f64;
    let parser = parsers::by_name("aws_cloudtrail").unwrap();
    let redactor = Redactor::new(&Key::from_bytes([1; 32]));
    let ours = || {
        for block in &blocks {
            let mut rejects = Rejects::default();
            let block = Block {
                origin: "x".into(),
                bytes: block.clone(),
                framing: Framing::Lines,
                walk: Walk::default(),
                first_position: 1,
            };
            let payload = Payload::new(block, &redactor, &mut rejects);
            let mut builder = EventBuilder::new(parser.name(), payload.buffer(), 0);
            parser.parse(&payload, &mut builder, &mut rejects);
            black_box(builder.finish());
            assert_eq!(rejects.total(), 0);
        }
    };
    let yardstick = || {
        for block in &blocks {
            for line in block.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                black_box(serde_json::from_slice::<Yardstick<'_>>(line).unwrap());
            }
        }
    };
    let [a, b, r] = compare(9, ours, yardstick);
    println!(
        "ours {:.3} M/s, serde_json {:.3} M/s, time ratio {:.3}",
        events / a / 1e6,
        events / b / 1e6,
        r
    );
    let sonic = || {
        for block in &blocks {
            for line in block.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                black_box(sonic_rs::from_slice::<Yardstick<'_>>(line).unwrap());
            }
        }
    };
    let index = || {
        for block in &blocks {
            for line in block.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                black_box(
                    telltale_ingest::json::from_str::<Yardstick<'_>>(
                        std::str::from_utf8(line).unwrap(),
                    )
                    .unwrap(),
                );
            }
        }
    };
    let [a, b, _] = compare(9, sonic, index);
    println!(
        "typed only: sonic-rs {:.3} M/s, our reader {:.3} M/s",
        events / a / 1e6,
        events / b / 1e6
    );
}
