//! No stream makes the reader of blocks panic or run for ever, whatever its compression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telltale_ingest::sources::{BlockReader, Limits};
use telltale_ingest::{Payload, Rejects};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { block_bytes: 256, record_bytes: 4096 };
    let stream = std::io::Cursor::new(bytes.to_vec());
    let mut rejects = Rejects::default();
    let Ok(mut reader) = BlockReader::new("fuzz", stream, None, limits, Default::default()) else {
        return;
    };
    while let Some((block, _)) = reader.next_block(&mut rejects) {
        let _ = Payload::unredacted(block, &mut rejects).records().count();
    }
});
