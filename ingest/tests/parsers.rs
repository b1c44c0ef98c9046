//! Every fixture of every parser gives the events and rejects that stand beside it.
//!
//! `fixtures/<parser>/<case>.{jsonl,json,log}` in, `<case>.snap` out; `cargo insta test --review`
//! (or `INSTA_UPDATE=always cargo test -p telltale-ingest`) writes the latter.

use serde_json::Value;
use std::collections::BTreeSet;
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
        positions: Default::default(),
    }
}

fn redactor() -> Redactor {
    Redactor::new(&Key::from_bytes([7; 32]))
}

/// The events, one JSON object each with its `raw` left out, then the rejects.
fn outcome(parser: &'static dyn Parser, path: &Path) -> String {
    let mut rejects = Rejects::default();
    let block = block(path, std::fs::read(path).unwrap());
    let plan = Plan { parser: Some(parser), named: true, envelope: true, record_bytes: usize::MAX };
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

/// What is forgotten in a list is otherwise not compiled or not read, and every test passes.
#[test]
fn files_list_fixtures_and_pages_are_in_step() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stems = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    let listed: Vec<_> = PARSERS.iter().map(|parser| parser.name().to_owned()).collect();
    assert!(listed.is_sorted(), "PARSERS is not in alphabetical order: {listed:?}");
    let listed: BTreeSet<_> = listed.into_iter().collect();
    let mut files = stems(&here.join("src/parsers"));
    files.remove("mod");
    assert_eq!(files, listed, "files of ingest/src/parsers, and PARSERS in its mod.rs");
    assert_eq!(stems(&here.join("fixtures")), listed, "folders of ingest/fixtures, and PARSERS");
    for name in &listed {
        for entry in std::fs::read_dir(here.join("fixtures").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let known = ["jsonl", "json", "log", "snap", "new"];
            let read = path.extension().is_some_and(|e| known.iter().any(|k| e == *k));
            assert!(read, "{}: fixtures end in .jsonl, .json or .log", path.display());
            let is_output = path.extension().is_some_and(|e| e == "snap");
            let made = |e: &&str| path.with_extension(e).exists();
            assert!(
                !is_output || known[..3].iter().any(made),
                "{} has no fixture beside it",
                path.display()
            );
        }
        for (page, rows) in [("README.md", 1), ("docs/reference/events.md", 2)] {
            let text = std::fs::read_to_string(here.join("..").join(page)).unwrap();
            let found = text.matches(&format!("\n| `{name}` |")).count();
            assert_eq!(found, rows, "rows of `{name}` in the tables of {page}");
        }
    }
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
            let mut known = false;
            for (position, record) in payload.records() {
                for other in PARSERS.iter().filter(|parser| parser.recognises(record)) {
                    let (place, other) = (path.display(), other.name());
                    assert_eq!(other, parser.name(), "who recognises record {position} of {place}");
                    known = true;
                }
            }
            assert!(known, "{} is recognised by no parser", path.display());
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
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    proptest!(config, |((case, edits, cut) in mangled, plan in plan)| {
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
        let plan = Plan { parser: known.then_some(*parser), named: known && named, envelope, record_bytes: 900 };
        let (block, mut rejects) = (block(path, bytes), Rejects::keeping_singles());
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            read_block(block, plan, &redactor(), RECEIVED_AT, &mut rejects, |_, batch| {
                for row in batch.rows() {
                    let _ = serde_json::to_string(&batch.event(row)).unwrap();
                }
            });
        }));
        prop_assert!(read.is_ok(), "{} panics on a mangled {}", parser.name(), path.display());
    });
}
