//! Bytes to events: sources, containers, redaction, parsers.

pub mod json;
pub mod redact;
