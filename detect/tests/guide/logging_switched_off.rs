//! ## What it finds
//! A service account, workload or role that changes what is recorded.
//! ## Why it matters
//! Whoever is about to misuse an account blinds its owner first. ATT&CK T1562.008.
//! ## Fires on / stays quiet on
//! Fires: `StopLogging` by a role. Quiet: people, who are asked by other means; what a cloud service
//! does on its own behalf; refused attempts.
//! ## Memory
//! The changes of one account and day, at most 24 of them, about 10 kB; the oldest day is forgotten
//! above `max_episodes`.

use super::{Page, described, settings};
use crate::baseline::{join_keys, text_key};
use crate::episode::{Episodes, Item, Who, day_of, dimensions};
use crate::{Detector, DetectorKind, Findings, Observation, Unreadable, save};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use telltale_schema::time::format_instant;
use telltale_schema::{Kind, Micros, Outcome, PrincipalKind, Severity};

pub static KIND: DetectorKind = DetectorKind {
    name: NAME,
    help: "a program that changes what is recorded",
    source: include_str!("logging_switched_off.rs"),
    severity: Severity::High,
    attack: PAGE.attack,
    owasp_nhi: PAGE.owasp_nhi,
    settings: described::<Settings>,
    build: |table| Ok(Box::new(LoggingSwitchedOff::new(settings(NAME, table)?))),
};

const NAME: &str = "logging_switched_off";
const PAGE: Page = Page { detector: NAME, attack: &["T1562.008"], owasp_nhi: &["NHI5:2025"] };

/// Settings of `[[detect]] kind = "logging_switched_off"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Accounts and days with changes kept at once, about 10 kB each. Default 1 000.
    max_episodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_episodes: 1_000 }
    }
}

/// The way in which an event can be unusual; most detectors have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Changed;

/// The state machine.
pub struct LoggingSwitchedOff {
    episodes: Episodes<Changed>,
}

impl LoggingSwitchedOff {
    pub fn new(settings: Settings) -> Self {
        Self { episodes: Episodes::new(settings.max_episodes) }
    }
}

impl Detector for LoggingSwitchedOff {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings) {
        let event = &observation.event;
        let Some(principal) = event.principal_id else { return };
        let is_program = matches!(
            event.principal_kind,
            PrincipalKind::ServiceAccount | PrincipalKind::Workload | PrincipalKind::Role
        );
        if event.kind != Kind::LoggingChanged || event.outcome != Outcome::Success || !is_program {
            return;
        }
        let account = observation.account(principal);
        // Of the same operation on the same thing the earliest stays, whatever comes first.
        let value = join_keys(observation.deed(), text_key(event.resource));
        let item =
            Item::new(event, Changed, value, 1.0).during(event).observed(observation.doing());
        let episode = self.episodes.begun(account, &item, || Who::of(event, principal));
        if !episode.add(item) {
            return;
        }

        let items = episode.items();
        let raised_at = items.first().map_or(event.event_time, |item| item.at);
        let mut finding = episode.finding(&PAGE, account, Severity::High, raised_at, &items);
        // A rule has no probability.
        finding.dimensions = dimensions(&items, |Changed| "operations", |_, _| None);
        let what = finding.dimensions.first().map_or("", |dimension| dimension.observed.as_str());
        // Who it is was said by the earliest event, which need not be this one.
        let principal = &finding.principal_id;
        finding.title = format!("{principal}: changes what is recorded");
        finding.sentence = format!(
            "Since {} {principal} has changed what is recorded: {what}.",
            format_instant(raised_at),
        );
        finding.next_steps = vec![
            "Switch the recording on again.".to_owned(),
            format!("Ask the owner of {principal} whether a deployment did it."),
            "If not: disable its credential, and look at what it did before.".to_owned(),
        ];
        findings.raise(finding);
    }

    fn close(&mut self, watermark: Micros, _: &mut Findings) {
        // Nothing of the days before will come any more.
        self.episodes.forget_before(day_of(watermark));
    }

    fn evicted_total(&self) -> u64 {
        self.episodes.evicted_total()
    }

    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        save(&self.episodes, out)
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable> {
        self.episodes = postcard::from_bytes(saved)?;
        Ok(())
    }
}
