//! Bytes to events.
//!
//! `sources` where bytes come from · `container` what they are wrapped in · `redact` secrets out ·
//! `payload` records for a parser · `envelope` what exporters put around a record · `reading` blocks
//! to batches · `parsers` what they mean · `json` how JSON is read · `value` what several logs spell
//! alike.

pub mod container;
pub mod envelope;
pub mod json;
pub mod parsers;
pub mod payload;
pub mod reading;
pub mod redact;
pub mod sources;
pub mod value;

pub use parsers::{PARSERS, Parser};
pub use payload::{Block, Payload, Reject, Rejects, Single};
