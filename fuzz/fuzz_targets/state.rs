//! What detectors are said to have saved is an error or a state that is saved again; nothing makes
//! them panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telltale_detect::{Engine, detectors};

fuzz_target!(|saved: &[u8]| {
    let mut engine = Engine::new(detectors::defaults(), 0);
    if engine.load(saved).is_ok() {
        let mut again = Vec::new();
        engine.save(&mut again).expect("it is written to memory");
        engine.load(&again).expect("it was saved by this version");
    }
});
