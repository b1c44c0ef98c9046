//! How the evidence about a caller is weighed.

use crate::baseline::tail::{fisher, novelty_tail};
use crate::episode::{Item, When};
use serde::{Deserialize, Serialize};
use telltale_schema::time::HOUR;
use telltale_schema::{Micros, Severity};

/// Refusals count together within this time.
const BURST: Micros = HOUR;
/// Refusing targets from which on it is a ticket, or a page, without any history.
pub const REFUSING: usize = 4;
const REFUSING_PAGES: usize = 8;
const DIMENSIONS: usize = 4;
/// A chain of new identities pages where it is so much rarer than the budget affords: it says less
/// than other evidence of who does it.
const CHAIN_PAGES: f64 = 0.1;
/// So many new targets in a day are no deployment.
const SWEEP: usize = 6;

/// A way in which impersonation can be unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unusual {
    Count,
    Targets,
    Edge,
    /// A kind of identity that it never acted as.
    Class,
    /// What was done as an identity right after it was first acted as.
    Aftermath,
    /// Whom such an identity then acted as, of who never acted as anybody.
    Onward,
    Refusal,
    Network,
    Tool,
}

impl Unusual {
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "impersonations",
            Self::Targets => "targets",
            Self::Edge => "new targets",
            Self::Class => "kind of target",
            Self::Aftermath => "what followed",
            Self::Onward => "and through it",
            Self::Refusal => "refusals",
            Self::Network => "network",
            Self::Tool => "tool",
        }
    }
}

/// The tail of all of one dimension together.
pub fn together(items: &[&Item<Unusual>], when: When) -> f64 {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return 1.0 };
    match first.dimension {
        Unusual::Edge | Unusual::Class | Unusual::Refusal if first.windows >= 12 => {
            let exposure = when.windows(first.at, last.at);
            let several = novelty_tail(first.once, first.windows, exposure, items.len() as u32);
            items.iter().map(|item| item.probability).fold(several, f64::min)
        }
        Unusual::Edge | Unusual::Class | Unusual::Refusal => 1.0,
        Unusual::Onward => items.iter().map(|item| item.probability).fold(1.0, f64::min),
        Unusual::Aftermath => items.iter().map(|item| item.probability).product::<f64>().max(1e-6),
        _ => items.iter().map(|item| item.probability).fold(1.0, f64::min),
    }
}

pub fn severity(items: &[&Item<Unusual>], page_below: f64, when: When) -> Option<(Severity, f64)> {
    let of = |dimension| {
        let items: Vec<_> = items.iter().copied().filter(|i| i.dimension == dimension).collect();
        (together(&items, when), items)
    };
    let (count, counts) = of(Unusual::Count);
    // Retries and backlogs go to one target, or the few that it always was.
    let spread = counts.iter().map(|item| item.once).max().unwrap_or(0) >= 3;
    let (targets, _) = of(Unusual::Targets);
    let (edge, edges) = of(Unusual::Edge);
    let (class, _) = of(Unusual::Class);
    let (after, _) = of(Unusual::Aftermath);
    let (onward, _) = of(Unusual::Onward);
    let (refused, refusals) = of(Unusual::Refusal);
    let (network, _) = of(Unusual::Network);
    let (tool, _) = of(Unusual::Tool);

    // Counts, targets and new targets grow together, so only the rarest of them counts in full.
    let volume = count.min(targets);
    let whom = edge.min(refused).min(class);
    let joint = fisher(&[volume, whom * after, network, tool], DIMENSIONS);
    let groups = [
        volume <= 1e-3,
        edge.min(class) <= 0.03,
        refused <= 0.03,
        network <= 0.03,
        tool <= 0.03,
        after <= 0.03,
    ];
    let groups = groups.iter().filter(|unusual| **unusual).count();

    let mut burst = 0;
    for (from, first) in refusals.iter().enumerate() {
        let within = refusals[from..].iter().take_while(|i| i.at - first.at <= BURST).count();
        burst = burst.max(within);
    }
    let young = refusals.first().is_none_or(|item| item.windows < 12);
    let burst_pages = burst >= REFUSING_PAGES && (young || refused <= page_below)
        || burst >= REFUSING && refused <= page_below;
    let many_targets = targets <= page_below && (edge <= 1e-3 || targets <= page_below * 1e-2);
    let joint_pages = joint <= page_below && groups >= 2;
    let sweep = edges.len() >= SWEEP && edge <= page_below * 1e-2;
    let other_kind = class <= page_below;
    // Two things that never happened, one through the other.
    let chain = if onward < 1.0 { edge * onward } else { 1.0 };

    let severity = if joint_pages && joint <= page_below * 1e-5 || many_targets && groups >= 3 {
        Severity::Critical
    } else if joint_pages
        || many_targets
        || burst_pages
        || sweep
        || other_kind
        || chain <= page_below * CHAIN_PAGES
        || spread && count <= page_below * 1e-8
    {
        Severity::High
    } else if volume <= page_below
        || burst >= REFUSING && (young || refused <= 0.01)
        || joint <= page_below * 10.0 && groups >= 2
        || class <= page_below * 10.0
        || chain <= page_below * 10.0
        || edge <= page_below * 2.0
    {
        Severity::Medium
    } else {
        return None;
    };
    Some((severity, joint.min(volume).min(chain)))
}
