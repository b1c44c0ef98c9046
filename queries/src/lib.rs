//! Questions over events: the SLIs, one `.sql` file each, and whatever SQL somebody asks.
//!
//! `sli` what an SLI is and the list of them · `stream` all SLIs over a stream of batches in one
//! pass · `query` one SQL query over a stream · `output` its result as table, CSV or JSON ·
//! `export` events as Parquet, Arrow or NDJSON · `engine` DataFusion behind all of it · `feed`
//! how pushed batches reach a plan · `lake` Delta tables · `objects` object stores by URL · `text`
//! instants, ids and strings as text.
//!
//! Nothing of DataFusion is visible outside of this crate.

mod engine;
mod error;
pub mod export;
mod feed;
pub mod lake;
pub mod objects;
pub mod output;
pub mod query;
pub mod sli;
pub mod stream;
mod text;

pub use engine::{Table, Tables};
pub use error::QueryError;
pub use export::{ExportFormat, ExportWriter};
pub use output::OutputFormat;
pub use query::QueryStream;
pub use sli::{Comparison, Objective, Sli, slis};
pub use stream::{SliResult, SliRow, SliSettings, SliStream};
