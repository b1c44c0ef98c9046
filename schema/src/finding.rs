//! What a detector reports: one misused identity, when, how unusual, why, and what to do next.

use crate::event::{EventId, PrincipalKind};
use crate::time::Micros;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// How loud a finding is. `High` and above page somebody; below is for a ticket or a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: &[Self] =
        &[Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// OCSF's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }

    /// OCSF's `severity_id`.
    pub const fn id(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
            Self::Critical => 5,
        }
    }

    /// Whether somebody is woken.
    pub fn pages(self) -> bool {
        self >= Self::High
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One way in which the behaviour was unusual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dimension {
    /// `network`, `tool`, `targets`, `silence` …
    pub name: Cow<'static, str>,
    /// What was seen.
    pub observed: String,
    /// What was usual; empty where there is nothing to compare with.
    pub usual: String,
    /// Tail probability of what was seen under what was usual, 0 to 1; `None` for a policy rule.
    pub probability: Option<f64>,
}

/// A finding. Two findings with the same `id` are one: the later says more of the same episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Hex of a hash of detector, principal and episode start.
    pub id: String,
    /// The detector's name.
    pub detector: Cow<'static, str>,
    pub severity: Severity,
    /// A few words: what happened to whom.
    pub title: String,
    /// One sentence that an on-call engineer can act on.
    pub sentence: String,
    /// What to look at and do, first thing first.
    pub next_steps: Vec<String>,
    pub log: String,
    pub tenant: Option<String>,
    pub principal_id: String,
    pub principal_kind: PrincipalKind,
    /// The credential in whose use the misuse shows.
    pub credential_id: Option<String>,
    /// Credentials that it minted, and theirs, in order of minting.
    pub child_credential_ids: Vec<String>,
    pub target_ids: Vec<String>,
    pub source_ips: Vec<String>,
    /// What was called, as the provider spells it, in order of first use.
    pub operations: Vec<String>,
    /// Event time of the event that raised it first.
    pub raised_at: Micros,
    pub first_seen: Micros,
    pub last_seen: Micros,
    pub dimensions: Vec<Dimension>,
    /// The events that justify it, oldest first, at most [`Finding::MAX_EVENTS`].
    pub event_ids: Vec<EventId>,
    /// How many there were, listed or not.
    pub event_count: u64,
    /// ATT&CK technique ids.
    pub attack: Vec<Cow<'static, str>>,
    /// OWASP Non-Human Identities Top 10 ids.
    pub owasp_nhi: Vec<Cow<'static, str>>,
}

impl Finding {
    /// Bound on `event_ids` and the other lists of one finding.
    pub const MAX_EVENTS: usize = 20;

    /// Ids of a catalogue, as `attack` and `owasp_nhi` hold them.
    pub fn ids(known: &'static [&'static str]) -> Vec<Cow<'static, str>> {
        known.iter().copied().map(Cow::Borrowed).collect()
    }
}
