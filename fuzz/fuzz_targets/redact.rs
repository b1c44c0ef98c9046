//! Redaction keeps line ends and UTF-8, and a second pass over JSON changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telltale_ingest::redact::{Key, Redactor};

fuzz_target!(|bytes: &[u8]| {
    let redactor = Redactor::new(&Key::from_bytes([7; 32]));
    let Some(clean) = redactor.redact(bytes) else { return };
    let newlines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(newlines(&clean), newlines(bytes));
    assert!(std::str::from_utf8(bytes).is_err() || std::str::from_utf8(&clean).is_ok());
    // Where a quote is missing, a secret may take another one with it.
    if serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
        assert_eq!(redactor.redact(&clean), None);
    }
});
