//! The contract between the parts: what an event is, how a parser writes one, what a finding says.
//!
//! `event` one canonical row and its vocabulary · `columns` the Arrow schema · `builder` rows to a
//! batch without copying text · `batch` a batch and its rows · `compact` its text by itself · `finding` what a detector reports ·
//! `ocsf` a finding as the rest of the world reads it · `attack` names of ATT&CK techniques ·
//! `time` instants in microseconds.

pub mod attack;
pub mod batch;
pub mod builder;
pub mod columns;
pub mod compact;
pub mod event;
pub mod finding;
pub mod ocsf;
pub mod time;

pub use batch::EventBatch;
pub use builder::EventBuilder;
pub use event::{Event, EventId, Events, Kind, Outcome, PrincipalKind};
pub use finding::{Dimension, Finding, Severity};
pub use time::Micros;
