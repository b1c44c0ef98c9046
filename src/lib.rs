//! telltale as a library: the parts of the binary that tests and other programs use.
//!
//! `sinks` where findings go.

pub mod sinks;
