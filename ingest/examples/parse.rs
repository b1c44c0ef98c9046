//! Events of files with their `raw`, and rejects: what a parser gives, without the rest of telltale.
//!
//! `cargo run -p telltale-ingest --example parse -- FILE…`; each record is read by the parser that
//! recognises it.
#![allow(clippy::print_stdout, reason = "what was read is what it prints")]

use std::error::Error;
use telltale_ingest::container::{Walk, sniff};
use telltale_ingest::reading::read_block;
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::sources::Plan;
use telltale_ingest::{Block, Rejects};

fn main() -> Result<(), Box<dyn Error>> {
    let redactor = Redactor::new(&Key::from_bytes([0; 32]));
    let plan = Plan { parser: None, named: false, envelope: true, record_bytes: usize::MAX };
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let framing = sniff(&bytes, true);
        let walk = Walk::default();
        let block = Block {
            origin: path.into(),
            framing,
            bytes,
            walk,
            first_position: 1,
            positions: Default::default(),
        };
        let (mut rejects, mut events) = (Rejects::default(), Vec::new());
        read_block(block, plan, &redactor, 0, &mut rejects, |_, batch| events.push(batch));
        for batch in &events {
            for row in batch.rows() {
                println!("{}", serde_json::to_string_pretty(&batch.event(row))?);
            }
        }
        for reject in rejects.into_sorted() {
            println!("rejected {} × {}: {}", reject.count, reject.position, reject.reason);
        }
    }
    Ok(())
}
