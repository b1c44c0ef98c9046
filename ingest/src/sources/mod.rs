//! Where bytes come from. A source hands over blocks with a position for each; what the bytes mean
//! is the parser's affair.

mod blocks;
mod files;

pub use blocks::{BlockReader, Limits, Plan};
pub use files::{File, Files, SourceError};
