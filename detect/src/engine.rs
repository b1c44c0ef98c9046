//! Drives detectors: shows them events, tells them what is complete, keeps the latest findings.

use crate::baseline::bounded::Bounded;
use crate::baseline::text_key;
use crate::observation::Observation;
use crate::{Detector, Findings, Unreadable, save};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use telltale_schema::time::{DAY, HOUR, MINUTE, UNKNOWN};
use telltale_schema::{Event, Finding, Micros};
use xxhash_rust::xxh3::xxh3_64;

/// The watermark moves in steps of this size on a fixed grid, whatever the batches are.
const STEP: Micros = 10 * MINUTE;

/// No engine waits longer than this for late events: detectors count on it.
pub const MAX_LATENESS: Micros = HOUR;

/// An event whose time is so much later than its receipt was written by a clock that is wrong.
const MAX_AHEAD: Micros = DAY;

/// Detectors and what they have found so far.
///
/// An engine with all detectors, or one engine for each on its own thread and the findings of all
/// put together with [`merge`], give the same.
pub struct Engine {
    detectors: Vec<Box<dyn Detector>>,
    lateness: Micros,
    /// Whether events are shown as they are received, so that none can be later than that.
    is_live: bool,
    newest: Option<Micros>,
    closed: Option<Micros>,
    raised: Findings,
    /// Findings that nobody has taken.
    latest: BTreeMap<String, Finding>,
    /// What the latest of each finding said, taken or not, hashed.
    told: Bounded<u64>,
}

/// Who can read what is saved: the version, and behind it how often the form has changed within it.
const SAVED_BY: &str = concat!(env!("CARGO_PKG_VERSION"), "-4");

/// Findings of which is remembered what they said. One that is raised again as it was after so many
/// others would be told twice.
const MAX_TOLD: usize = 1 << 17;

impl Engine {
    /// An engine that waits `allowed_lateness` for late events, at most [`MAX_LATENESS`].
    pub fn new(detectors: Vec<Box<dyn Detector>>, allowed_lateness: Micros) -> Self {
        Self {
            detectors,
            lateness: allowed_lateness.clamp(0, MAX_LATENESS),
            is_live: false,
            newest: None,
            closed: None,
            raised: Findings::default(),
            latest: BTreeMap::new(),
            told: Bounded::new(MAX_TOLD),
        }
    }

    /// An engine that is shown events as they are received. One that claims to be from later does not
    /// move the watermark beyond its receipt, behind which everything else would count as late; one
    /// from more than a day later has the time of its receipt.
    pub fn live(detectors: Vec<Box<dyn Detector>>, allowed_lateness: Micros) -> Self {
        Self { is_live: true, ..Self::new(detectors, allowed_lateness) }
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
        let mut reached = event.event_time;
        if self.is_live && event.event_time > event.received_at {
            reached = event.received_at;
            if event.event_time.saturating_sub(event.received_at) > MAX_AHEAD {
                let event = Event { event_time: event.received_at, ..*event };
                return self.show(&Observation { event, ..*observation });
            }
        }
        if self.newest.is_none_or(|newest| reached > newest) {
            self.newest = Some(reached);
            let watermark = (reached - self.lateness).div_euclid(STEP) * STEP;
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

    /// Findings that are new or have changed since the last call, loudest first. They are no longer
    /// kept: who takes them knows them.
    pub fn take(&mut self) -> Vec<Finding> {
        sorted(std::mem::take(&mut self.latest).into_values().collect())
    }

    /// All findings so far that nobody took, loudest first.
    pub fn findings(&self) -> Vec<Finding> {
        sorted(self.latest.values().cloned().collect())
    }

    /// How often a bound was hit and the oldest state forgotten.
    pub fn evicted_total(&self) -> u64 {
        let detectors = self.detectors.iter().map(|detector| detector.evicted_total());
        detectors.sum::<u64>() + self.told.evicted_total()
    }

    /// Writes everything that the engine and its detectors know, for [`Engine::load`]: one after
    /// another, and behind them which they were and how long.
    ///
    /// Errors: those of `out`.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Counted { out, bytes: 0 };
        save(&self.told, &mut out)?;
        let mut ends = vec![(TOLD.to_owned(), out.bytes)];
        for detector in &self.detectors {
            detector.save(&mut out)?;
            ends.push((detector.name().to_owned(), out.bytes));
        }
        let Self { newest, closed, .. } = *self;
        let contents = Contents { version: SAVED_BY.to_owned(), newest, closed, ends };
        let states = out.bytes;
        save(&contents, &mut out)?;
        let length = out.bytes - states;
        out.write_all(&length.to_le_bytes())
    }

    /// Goes on where another engine was saved; its findings so far are known and not told again.
    ///
    /// Errors: it was saved by another version, or a detector of this engine is missing in it;
    /// nothing is to be done with this engine then.
    pub fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable> {
        let cut = || Unreadable::Form(postcard::Error::DeserializeUnexpectedEnd);
        let (rest, length) = saved.split_last_chunk().ok_or_else(cut)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let states = rest.len().checked_sub(length).ok_or_else(cut)?;
        let (states, contents) = rest.split_at(states);
        let contents: Contents = postcard::from_bytes(contents)?;
        if contents.version != SAVED_BY {
            return Err(Unreadable::Version(contents.version));
        }
        let state = |name: &'static str| {
            let at = contents.ends.iter().position(|(known, _)| known == name);
            let at = at.ok_or(Unreadable::Missing(name))?;
            let begin = at.checked_sub(1).map_or(0, |before| contents.ends[before].1);
            let [begin, end] =
                [begin, contents.ends[at].1].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            states.get(begin..end).ok_or_else(cut)
        };
        for detector in &mut self.detectors {
            detector.load(state(detector.name())?)?;
        }
        self.told = postcard::from_bytes(state(TOLD)?)?;
        (self.newest, self.closed) = (contents.newest, contents.closed);
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
        let newest = self.newest.unwrap_or(Micros::MIN);
        for finding in self.raised.take() {
            if self.latest.get(&finding.id) == Some(&finding) {
                continue;
            }
            let says = hash_of(&finding);
            // Of one that is new anything else was told.
            let told = self.told.touch(text_key(Some(&finding.id)), newest, || !says);
            if std::mem::replace(told, says) != says {
                self.latest.insert(finding.id.clone(), finding);
            }
        }
    }
}

/// What an engine was saved as, and where the state of each ends; its own goes by [`TOLD`].
#[derive(Serialize, Deserialize)]
struct Contents {
    version: String,
    newest: Option<Micros>,
    closed: Option<Micros>,
    ends: Vec<(String, u64)>,
}

/// No name of a detector.
const TOLD: &str = "";

/// Counts what is written.
struct Counted<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::Page;
    use crate::episode::{Episode, Who};
    use telltale_schema::Severity;

    /// Raises what it is shown.
    struct Echo;

    impl Detector for Echo {
        fn name(&self) -> &'static str {
            "echo"
        }

        fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings) {
            let event = &observation.event;
            let (at, page) =
                (event.event_time, Page { detector: "echo", attack: &[], owasp_nhi: &[] });
            let episode = Episode::<u8>::new(Who::of(event, "somebody"), (at, event.event_id), at);
            findings.raise(episode.finding(&page, 0, Severity::Low, at, &[]));
        }

        fn close(&mut self, _: Micros, _: &mut Findings) {}

        fn save(&self, _: &mut dyn Write) -> io::Result<()> {
            Ok(())
        }

        fn load(&mut self, _: &[u8]) -> Result<(), Unreadable> {
            Ok(())
        }
    }

    #[test]
    fn findings_that_were_taken_are_remembered_up_to_a_bound_and_told_once_within_it() {
        let mut engine = Engine::new(vec![Box::new(Echo)], 0);
        let mut show = |at| {
            engine.observe(&Event::new("log", at));
            (engine.take().len(), engine.told.len())
        };
        let many = MAX_TOLD as Micros + 100;
        for at in 1..=many {
            let (told, known) = show(at);
            assert_eq!(told, 1);
            assert!(known <= MAX_TOLD);
        }
        assert_eq!(show(many - 1).0, 0, "told a moment ago");
        assert_eq!(show(1).0, 1, "too many others since");
        assert!(engine.evicted_total() > 0);
    }
}
