//! Where bytes come from. A source hands over blocks with a position for each; what the bytes mean
//! is the parser's affair.

mod blocks;
mod delivery;
mod files;
pub mod http;
pub mod kafka;
mod messages;
pub mod objects;
pub mod otlp;
mod room;
pub mod stdin;
pub mod syslog;
pub mod tail;
pub mod tls;

pub use blocks::{BlockReader, Limits, Plan};
pub use delivery::{Delivery, Piece, Receipt, Refusal, Rejected, Take};
pub use files::{File, Files, SourceError};
pub use room::Room;
