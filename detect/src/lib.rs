//! Detectors: state machines over events that say when an identity is misused.
//!
//! They read event time only: no clock, no IO, no randomness, no iteration over a hash map.
//! The same events give the same findings however they are cut into batches.
//!
//! `engine` drives detectors · `detectors` one file each · `episode` evidence about one account and
//! day · `observation` an event and its keys · `baseline` what is usual, and how unlikely something is · `timeline` an archive's events,
//! compact and in order of time.

pub mod baseline;
pub mod detectors;
pub mod engine;
pub mod episode;
pub mod observation;
pub mod timeline;

pub use engine::{Engine, merge};
pub use observation::Observation;

use std::io::{self, BufWriter, Write};
use telltale_schema::{Finding, Micros, Severity};
use thiserror::Error;

/// A state machine over events.
///
/// Score on arrival, learn on close: [`Detector::observe`] scores an event, or the open window it
/// falls into, against what was learnt from closed windows; [`Detector::close`] lets windows that
/// ended before the watermark teach the baseline. So late events can only add evidence.
pub trait Detector: Send {
    /// The name of its kind.
    fn name(&self) -> &'static str;

    /// Scores one event. Events come in any order within the allowed lateness, each one once.
    fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings);

    /// Learns from everything before `watermark`: nothing earlier than it will come any more.
    fn close(&mut self, watermark: Micros, findings: &mut Findings);

    /// How often a bound was hit and the oldest state forgotten.
    fn evicted_total(&self) -> u64 {
        0
    }

    /// Writes everything that it has learnt and holds open, for [`Detector::load`].
    ///
    /// Errors: those of `out`.
    fn save(&self, out: &mut dyn Write) -> io::Result<()>;

    /// Goes on where another of its kind was saved.
    ///
    /// Errors: bytes that were saved by another version; nothing has changed then.
    fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable>;
}

/// Why saved state is of no use.
#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("it was saved in another form: {0}")]
    Form(#[from] postcard::Error),
    #[error("it was saved by version {0}")]
    Version(String),
    #[error("it does not hold the detector `{0}`")]
    Missing(&'static str),
}

/// Writes state as it is read, without all of it as bytes in memory.
fn save(state: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    /// Bytes are few at a time, and each call on what is behind `out` has its price.
    const ROOM: usize = 64 << 10;
    let mut out = BufWriter::with_capacity(ROOM, out);
    postcard::to_io(state, &mut out).map_err(io::Error::other)?;
    out.flush()
}

/// What a detector is called and how it is made.
pub struct DetectorKind {
    /// The pattern it sees, and its name in the configuration and in findings.
    pub name: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The source of its module, whose head is its page.
    pub source: &'static str,
    /// The severity of its loudest finding.
    pub severity: Severity,
    /// ATT&CK techniques.
    pub attack: &'static [&'static str],
    /// OWASP Non-Human Identities Top 10.
    pub owasp_nhi: &'static [&'static str],
    /// What its `[[detect]]` table may set: names in order, each with its meaning.
    pub settings: fn() -> Vec<(String, String)>,
    /// Makes one from the settings of its `[[detect]]` table (without `kind`).
    pub build: fn(toml::Table) -> Result<Box<dyn Detector>, ConfigError>,
}

/// Why a `[[detect]]` table was not understood.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("unknown detector `{name}` in `[[detect]]`{hint}")]
    Unknown { name: String, hint: String },
    #[error("settings of detector `{name}`: {cause}")]
    Settings { name: &'static str, cause: String },
}

/// Where detectors put what they find. A finding raised again under its id replaces the earlier.
#[derive(Debug, Default)]
pub struct Findings {
    raised: Vec<Finding>,
    only_settled: bool,
}

impl Findings {
    /// Whether a page is wanted as soon as it shows, and not only once it is settled.
    pub fn wants_early(&self) -> bool {
        !self.only_settled
    }

    pub fn raise(&mut self, finding: Finding) {
        self.raised.push(finding);
    }

    /// What was raised since the last call, in the order in which it was raised.
    pub fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.raised)
    }
}
