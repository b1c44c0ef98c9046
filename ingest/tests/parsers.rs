//! Every fixture of every parser gives the events and rejects that stand beside it.
//!
//! `fixtures/<parser>/<case>.{jsonl,json,log}` in, `<case>.snap` out; `cargo insta test --review`
//! (or `INSTA_UPDATE=always cargo test -p telltale-ingest`) writes the latter.

use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use telltale_ingest::container::{Walk, sniff};
use telltale_ingest::reading::read_block;
use telltale_ingest::redact::{Key, Redactor};
use telltale_ingest::sources::Plan;
use telltale_ingest::{Block, PARSERS, Parser, Payload, Rejects};

/// What is read for the time of reading: 2026-01-01T00:00:00Z.
const RECEIVED_AT: i64 = 1_767_225_600_000_000;

fn block(path: &Path, bytes: Vec<u8>) -> Block {
    Block {
        origin: path.file_name().unwrap().to_string_lossy().into(),
        framing: sniff(&bytes, true),
        bytes,
        walk: Walk::default(),
        first_position: 1,
    }
}

fn redactor() -> Redactor {
    Redactor::new(&Key::from_bytes([7; 32]))
}

/// The events, one JSON object each with its `raw` left out, then the rejects.
fn outcome(parser: &'static dyn Parser, path: &Path) -> String {
    let mut rejects = Rejects::default();
    let block = block(path, std::fs::read(path).unwrap());
    let plan = Plan { parser: Some(parser), named: true, envelope: true };
    let mut batches = Vec::new();
    read_block(block, plan, &redactor(), RECEIVED_AT, &mut rejects, |_, batch| batches.push(batch));
    let mut text = String::new();
    for (batch, row) in batches.iter().flat_map(|batch| batch.rows().map(move |row| (batch, row))) {
        let mut event = serde_json::to_value(batch.event(row)).unwrap();
        let fields = event.as_object_mut().unwrap();
        let raw = fields.remove("raw").expect("every event has its raw record");
        assert!(!raw.as_str().unwrap().is_empty());
        let chain: Vec<Value> = batch.chain(row).map(Value::from).collect();
        if !chain.is_empty() {
            fields.insert("delegation_chain".to_owned(), chain.into());
        }
        writeln!(text, "{}", serde_json::to_string_pretty(&event).unwrap()).unwrap();
    }
    for reject in rejects.into_sorted() {
        writeln!(text, "rejected {} × {}: {}", reject.count, reject.position, reject.reason)
            .unwrap();
    }
    text
}

fn fixtures(parser: &dyn Parser) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(parser.name());
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|_| panic!("parser `{}` has no fixture folder", parser.name()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl" || e == "json" || e == "log"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "parser `{}` has no fixture", parser.name());
    paths
}

#[test]
fn every_fixture_gives_its_rows() {
    for parser in PARSERS {
        for path in fixtures(*parser) {
            let case = path.file_stem().unwrap().to_string_lossy().into_owned();
            insta::with_settings!({
                snapshot_path => path.parent().unwrap(),
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                insta::assert_snapshot!(case, outcome(*parser, &path));
            });
        }
    }
}

#[test]
fn every_fixture_is_recognised_by_its_own_parser_only() {
    for parser in PARSERS {
        for path in fixtures(*parser) {
            let block = block(&path, std::fs::read(&path).unwrap());
            let payload = Payload::new(block, &redactor(), &mut Rejects::default());
            let named: Vec<_> = payload
                .records()
                .flat_map(|(_, record)| PARSERS.iter().filter(move |p| p.recognises(record)))
                .map(|p| p.name())
                .collect();
            assert!(!named.is_empty(), "{} is recognised by no parser", path.display());
            assert!(
                named.iter().all(|name| *name == parser.name()),
                "{} is recognised as {named:?}",
                path.display()
            );
        }
    }
}

/// Whatever a parser is given, it answers with events and rejects and not with a panic: fixtures
/// with bytes changed, cut out, repeated.
#[test]
fn mangled_fixtures_never_panic() {
    use proptest::prelude::*;
    let cases: Vec<(&'static dyn Parser, PathBuf, Vec<u8>)> = PARSERS
        .iter()
        .flat_map(|parser| fixtures(*parser).into_iter().map(move |path| (*parser, path)))
        .map(|(parser, path)| (parser, path.clone(), std::fs::read(path).unwrap()))
        .collect();
    if cases.is_empty() {
        return;
    }
    let mangled =
        (0..cases.len(), prop::collection::vec((any::<u16>(), any::<u8>()), 0..8), any::<u16>());
    let plan = (any::<bool>(), any::<bool>(), any::<bool>());
    proptest!(ProptestConfig::with_cases(400), |((case, edits, cut) in mangled, plan in plan)| {
        let (parser, path, bytes) = &cases[case];
        let mut bytes = bytes.clone();
        for (at, byte) in edits {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        if cut % 4 == 0 {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        let (known, named, envelope) = plan;
        let plan = Plan { parser: known.then_some(*parser), named: known && named, envelope };
        let (block, mut rejects) = (block(path, bytes), Rejects::keeping_singles());
        read_block(block, plan, &redactor(), RECEIVED_AT, &mut rejects, |_, batch| {
            for row in batch.rows() {
                let _ = serde_json::to_string(&batch.event(row)).unwrap();
            }
        });
    });
}
