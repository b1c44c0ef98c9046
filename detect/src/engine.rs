//! Drives detectors: shows them events, tells them what is complete, keeps the latest findings.

use crate::observation::Observation;
use crate::{Detector, Findings};
use std::collections::BTreeMap;
use telltale_schema::time::{HOUR, MINUTE, UNKNOWN};
use telltale_schema::{Event, Finding, Micros};

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
            fresh: Vec::new(),
        }
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

    fn close(&mut self, watermark: Micros) {
        self.closed = Some(watermark);
        for detector in &mut self.detectors {
            detector.close(watermark, &mut self.raised);
        }
        self.keep();
    }

    fn keep(&mut self) {
        for finding in self.raised.take() {
            if self.latest.get(&finding.id) != Some(&finding) {
                self.fresh.push(finding.id.clone());
                self.latest.insert(finding.id.clone(), finding);
            }
        }
    }
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
