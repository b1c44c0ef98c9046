//! What `serde_json` reads, our reader reads the same; nothing makes it panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Number, Value};
use telltale_ingest::json;

/// Nesting that our reader looks into; `serde_json` goes deeper.
const MAX_DEPTH: usize = 96;

fuzz_target!(|text: &str| {
    let ours = json::from_str::<Value>(text);
    if let Ok(theirs) = serde_json::from_str::<Value>(text) {
        match ours {
            Ok(ours) => assert!(same(&ours, &theirs), "{ours} is not {theirs}"),
            Err(cause) => {
                let opened = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
                assert!(opened > MAX_DEPTH, "{cause}");
            }
        }
    }
    let _ = json::field(text, "a");
});

fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(ours), Value::Number(theirs)) => near(ours, theirs),
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
        }
        (Value::Object(ours), Value::Object(theirs)) => {
            let is_in = |(key, value): (&String, &Value)| {
                theirs.get(key).is_some_and(|theirs| same(value, theirs))
            };
            ours.len() == theirs.len() && ours.iter().all(is_in)
        }
        // What is rounded to infinity here and to the largest number there is no number here.
        (Value::Null, Value::Number(theirs)) => theirs.as_f64().is_some_and(|it| it.abs() > 1e308),
        _ => ours == theirs,
    }
}

/// Whole numbers are equal. Of others `serde_json` rounds the last digits, and takes `-0` for one.
fn near(ours: &Number, theirs: &Number) -> bool {
    let (Some(a), Some(b)) = (ours.as_f64(), theirs.as_f64()) else { return false };
    match ours.is_f64() || theirs.is_f64() {
        true => (a - b).abs() <= a.abs() * 1e-12 + f64::MIN_POSITIVE,
        false => ours == theirs,
    }
}
