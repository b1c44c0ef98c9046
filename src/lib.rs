//! telltale as a library: the parts of the binary that tests and other programs use.
//!
//! `commands` one file each · `config` the configuration file · `pipeline` files to batches on
//! every core · `analysis` events to findings and SLIs · `live` the same for records as they come ·
//! `report` what people read · `sinks` where findings go.

pub mod analysis;
pub mod commands;
pub mod config;
pub mod live;
pub mod pipeline;
pub mod report;
pub mod sinks;
