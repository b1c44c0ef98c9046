//! telltale as a library: the parts of the binary that tests and other programs use.
//!
//! `commands` one file each · `config` the configuration file · `pipeline` files to batches on
//! every core · `analysis` events to findings and SLIs · `live` the same for records as they come ·
//! `report` what people read · `sinks` where findings go · `journal` what was received, on disk ·
//! `service` sources into the journal and detectors behind it · `store` a data folder as it is ·
//! `memory` the allocator.

pub mod analysis;
pub mod commands;
pub mod config;
pub mod journal;
pub mod live;
pub mod memory;
pub mod pipeline;
pub mod report;
pub mod service;
pub mod sinks;
pub mod store;
