//! Drives detectors: shows them events, tells them what is complete, keeps the latest findings.

use crate::observation::Observation;
use crate::{Detector, Findings, Unreadable, saved};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use telltale_schema::time::{HOUR, MINUTE, UNKNOWN};
use telltale_schema::{Event, Finding, Micros};
use xxhash_rust::xxh3::xxh3_64;

/// The watermark moves in steps of this size on a fixed grid, whatever the batches are.
const STEP: Micros = 10 * MINUTE;

/// No engine waits longer than this for late events: detectors count on it.
pub const MAX_LATENESS: Micros = HOUR;

/// Detectors and what they have found so far.
///
/// An engine with all detectors, or one engine for each on its own thread and the findings of all
/// put together with [`merge`], give the same.
pub struct Engine {
    detectors: Vec<Box<dyn Detector>>,
    lateness: Micros,
    newest: Option<Micros>,
    closed: Option<Micros>,
    raised: Findings,
    latest: BTreeMap<String, Finding>,
    /// Of findings from before it was loaded: what they said, hashed.
    told: BTreeMap<String, u64>,
    fresh: Vec<String>,
}

impl Engine {
    /// An engine that waits `allowed_lateness` for late events, at most [`MAX_LATENESS`].
    pub fn new(detectors: Vec<Box<dyn Detector>>, allowed_lateness: Micros) -> Self {
        Self {
            detectors,
            lateness: allowed_lateness.clamp(0, MAX_LATENESS),
            newest: None,
            closed: None,
            raised: Findings::default(),
            latest: BTreeMap::new(),
            told: BTreeMap::new(),
            fresh: Vec::new(),
        }
    }

    /// An engine over an archive, of which nobody hears before its end: what is weighed on arrival
    /// would be weighed again when it is settled, and the findings are the same without it.
    pub fn over_archive(detectors: Vec<Box<dyn Detector>>, allowed_lateness: Micros) -> Self {
        let raised = Findings { only_settled: true, ..Findings::default() };
        Self { raised, ..Self::new(detectors, allowed_lateness) }
    }

    /// Shows one event to every detector, if it has a time.
    pub fn observe(&mut self, event: &Event<'_>) {
        self.show(&Observation::of(*event));
    }

    /// The same for an event whose keys are known.
    #[inline]
    pub fn show(&mut self, observation: &Observation<'_>) {
        let event = &observation.event;
        if event.event_time == UNKNOWN {
            return;
        }
        if self.newest.is_none_or(|newest| event.event_time > newest) {
            self.newest = Some(event.event_time);
            let watermark = (event.event_time - self.lateness).div_euclid(STEP) * STEP;
            if self.closed.is_none_or(|closed| watermark > closed) {
                self.close(watermark);
            }
        }
        for detector in &mut self.detectors {
            detector.observe(observation, &mut self.raised);
        }
        if !self.raised.raised.is_empty() {
            self.keep();
        }
    }

    /// Tells every detector that nothing more will come.
    pub fn finish(&mut self) {
        if let Some(newest) = self.newest {
            self.close(newest.saturating_add(1));
        }
    }

    /// Findings that are new or have changed since the last call, loudest first.
    pub fn take(&mut self) -> Vec<Finding> {
        let mut ids = std::mem::take(&mut self.fresh);
        ids.sort_unstable();
        ids.dedup();
        sorted(ids.iter().filter_map(|id| self.latest.get(id).cloned()).collect())
    }

    /// All findings so far, loudest first.
    pub fn findings(&self) -> Vec<Finding> {
        sorted(self.latest.values().cloned().collect())
    }

    /// How often a bound was hit and the oldest state forgotten.
    pub fn evicted_total(&self) -> u64 {
        self.detectors.iter().map(|detector| detector.evicted_total()).sum()
    }

    /// Everything that the engine and its detectors know, for [`Engine::load`].
    pub fn save(&self) -> Vec<u8> {
        let mut told = self.told.clone();
        told.extend(self.latest.iter().map(|(id, finding)| (id.clone(), hash_of(finding))));
        let detectors = self.detectors.iter();
        let detectors = detectors.map(|d| (d.name().to_owned(), State(d.save()))).collect();
        let Self { newest, closed, .. } = *self;
        saved(&Saved {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            newest,
            closed,
            told,
            detectors,
        })
    }

    /// Goes on where another engine was saved; its findings so far are known and not told again.
    ///
    /// Errors: it was saved by another version, or a detector of this engine is missing in it;
    /// nothing is to be done with this engine then.
    pub fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable> {
        let saved: Saved = postcard::from_bytes(saved)?;
        if saved.version != env!("CARGO_PKG_VERSION") {
            return Err(Unreadable::Version(saved.version));
        }
        for detector in &mut self.detectors {
            let name = detector.name();
            let state = saved.detectors.iter().find(|(known, _)| known == name);
            let (_, state) = state.ok_or(Unreadable::Missing(name))?;
            detector.load(&state.0)?;
        }
        (self.newest, self.closed, self.told) = (saved.newest, saved.closed, saved.told);
        Ok(())
    }

    fn close(&mut self, watermark: Micros) {
        self.closed = Some(watermark);
        for detector in &mut self.detectors {
            detector.close(watermark, &mut self.raised);
        }
        self.keep();
    }

    fn keep(&mut self) {
        for finding in self.raised.take() {
            let is_known = match self.latest.get(&finding.id) {
                Some(latest) => *latest == finding,
                None => self.told.get(&finding.id) == Some(&hash_of(&finding)),
            };
            if !is_known {
                self.fresh.push(finding.id.clone());
                self.latest.insert(finding.id.clone(), finding);
            }
        }
    }
}

/// An engine as bytes.
#[derive(Serialize, Deserialize)]
struct Saved {
    version: String,
    newest: Option<Micros>,
    closed: Option<Micros>,
    told: BTreeMap<String, u64>,
    /// By name.
    detectors: Vec<(String, State)>,
}

/// What a detector saved. It is written at once, not byte by byte.
#[derive(Deserialize)]
struct State(Vec<u8>);

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

/// Everything that a finding says, as a number.
fn hash_of(finding: &Finding) -> u64 {
    xxh3_64(format!("{finding:?}").as_bytes())
}

/// The findings of several engines over the same events as one list, loudest first.
pub fn merge(lists: impl IntoIterator<Item = Vec<Finding>>) -> Vec<Finding> {
    sorted(lists.into_iter().flatten().collect())
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        b.severity.cmp(&a.severity).then(a.raised_at.cmp(&b.raised_at)).then(a.id.cmp(&b.id))
    });
    findings
}
