//! Findings as an on-call engineer reads them.

use super::PAGE;
use super::exposure::Exposure;
use super::lineage::Lineage;
use super::verdict::{Unusual, Verdict, together};
use crate::detectors::Page;
use crate::episode::{
    Episode, Item, When, Who, dimensions, finding_id, in_active_hours, phrase, short_name,
};
use telltale_schema::time::{HOUR, format_instant};
use telltale_schema::{Dimension, Finding, Micros, Severity};

/// Operations that only set the scene are left out of the evidence above this many.
const MAX_OPERATIONS: usize = 12;

/// A probability above this is no argument.
const MAY_BE_CHANCE: f64 = 0.05;

/// What was minted this long after the last evidence is named with it.
pub const CHILDREN_WITHIN: Micros = HOUR;

/// The finding of an episode.
pub fn write(
    episode: &Episode<Unusual>,
    account: u64,
    verdict: &Verdict,
    items: &[&Item<Unusual>],
    lineage: &Lineage,
) -> Finding {
    let mut operations = 0;
    let justify: Vec<&Item<Unusual>> = items
        .iter()
        .copied()
        .filter(|item| {
            operations += usize::from(item.dimension == Unusual::Operation);
            item.dimension != Unusual::Operation || operations <= MAX_OPERATIONS
        })
        .collect();
    let mut finding =
        episode.finding(&PAGE, account, verdict.severity, verdict.raised_at, &justify);
    let group = |kind| match kind {
        Unusual::Act(_) => Unusual::Act(super::acts::Act::WhoAmI),
        other => other,
    };
    let grouped: Vec<Item<Unusual>> = justify
        .iter()
        .map(|item| {
            let usual = match item.dimension {
                Unusual::Operation | Unusual::Refusal => in_active_hours("none new", item.windows),
                _ => item.usual.clone(),
            };
            Item { dimension: group(item.dimension), usual, ..(*item).clone() }
        })
        .collect();
    finding.dimensions =
        dimensions(&grouped.iter().collect::<Vec<_>>(), Unusual::name, |kind, items| match kind {
            Unusual::Operation | Unusual::Refusal => {
                Some(together(items, When::Final)).filter(|probability| *probability < 1.0)
            }
            Unusual::Act(_) => None,
            Unusual::Place => Some(items.iter().map(|item| item.probability).product()),
            _ => items.iter().map(|item| item.probability).reduce(f64::min),
        });
    if let Some(credential) = &finding.credential_id {
        let span = finding.first_seen..finding.last_seen + CHILDREN_WITHIN;
        finding.child_credential_ids = lineage.children_of(credential, span);
    }
    let has = |kind| items.iter().any(|item| item.dimension == kind);
    let acts = items.iter().any(|item| matches!(item.dimension, Unusual::Act(_)));
    let short = episode.who.short();
    finding.title = if has(Unusual::Place) {
        format!("{short}: workload credential used away from where it belongs")
    } else if has(Unusual::Network) || has(Unusual::CredentialNetwork) {
        format!("{short}: credential used by somebody else")
    } else if acts {
        format!("{short}: acts as a thief does after taking a credential")
    } else {
        format!("{short}: credential used as never before")
    };
    // What came before the credential that is accused was used is evidence, but not of it.
    let bears = |item: &&&Item<Unusual>| item.credential_id == finding.credential_id;
    let accused = finding.credential_id.as_ref().and_then(|_| justify.iter().find(bears));
    let since = accused.map_or(finding.first_seen, |item| item.at);
    finding.sentence = sentence(&finding, &episode.who, verdict, since);
    let takes = |kind| matches!(kind, Unusual::Act(act) if act.changes());
    let changed = items.iter().any(|item| takes(item.dimension));
    finding.next_steps = next_steps(&finding, short, changed, since);
    finding
}

fn sentence(finding: &Finding, who: &Who, verdict: &Verdict, since: Micros) -> String {
    let parts: Vec<String> = finding.dimensions.iter().map(phrase).collect();
    let credential = finding
        .credential_id
        .as_ref()
        .map_or_else(String::new, |credential| format!(" with credential {credential}"));
    let odds = if verdict.sequence >= 3.0 && verdict.probability > 1e-3 {
        "this is the order in which stolen credentials are used".to_owned()
    } else if verdict.probability > MAY_BE_CHANCE {
        "each by itself may be chance".to_owned()
    } else {
        format!("by chance this happens with probability {:.0e} in an hour", verdict.probability)
    };
    format!(
        "Since {} {}{credential} shows {}; {odds}.",
        format_instant(since),
        who.full(),
        parts.join("; "),
    )
}

fn next_steps(finding: &Finding, short: &str, changed: bool, since: Micros) -> Vec<String> {
    let mut steps = Vec::new();
    let credential = finding.credential_id.as_deref().unwrap_or("the credential");
    if !finding.source_ips.is_empty() {
        steps.push(format!(
            "Ask the owner of {short} whether {} is theirs.",
            finding.source_ips.join(", "),
        ));
    }
    steps.push(format!("If it is not: disable {credential} and revoke its open sessions."));
    if !finding.child_credential_ids.is_empty() {
        steps.push(format!(
            "Revoke what it minted too: {}.",
            finding.child_credential_ids.join(", ")
        ));
    }
    if changed {
        steps.push(
            "Undo what it changed: policies attached, keys and logins made, logging stopped."
                .to_owned(),
        );
    }
    steps.push(format!(
        "List everything that {short} did from {} on, and what it read.",
        format_instant(since),
    ));
    steps.truncate(5);
    steps
}

/// The finding of an exposed credential in use.
pub fn exposed(page: &Page, exposed: u64, exposure: &Exposure) -> Finding {
    let uses = exposure.uses.as_ref().expect("an exposure is reported after its first use");
    let first = uses.first.first().map_or(uses.last, |(at, _)| *at);
    let mut event_ids = vec![exposure.report];
    event_ids.extend(uses.first.iter().map(|(_, id)| *id));
    let short = short_name(&exposure.what);
    let from = if uses.addresses.is_empty() {
        String::new()
    } else {
        format!(" from {}", uses.addresses.join(", "))
    };
    Finding {
        id: finding_id(page.detector, exposed, exposure.reported_at),
        detector: page.detector.into(),
        severity: Severity::Critical,
        title: format!("{short}: credential reported as exposed is in use"),
        sentence: format!(
            "{} was reported as exposed at {} and has been used {} times since{from}, last at {}.",
            exposure.what,
            format_instant(exposure.reported_at),
            uses.count,
            format_instant(uses.last),
        ),
        next_steps: vec![
            format!("Disable the keys of {short} now, make new ones for what still needs them."),
            "Remove the exposed copy where the report says it lies.".to_owned(),
            format!("List what was done from {} on.", format_instant(exposure.reported_at)),
        ],
        log: uses.who.log.clone().into(),
        tenant: uses.who.tenant.clone().map(Into::into),
        principal_id: uses.who.principal_id.clone().into(),
        principal_kind: uses.who.principal_kind,
        credential_id: uses.credential_id.clone(),
        child_credential_ids: uses.children.clone(),
        target_ids: Vec::new(),
        source_ips: uses.addresses.clone(),
        operations: Vec::new(),
        raised_at: first,
        first_seen: exposure.reported_at,
        last_seen: uses.last,
        dimensions: vec![Dimension {
            name: "exposure".into(),
            observed: format!("{} uses after the report", uses.count),
            usual: "none".to_owned(),
            probability: None,
        }],
        event_ids,
        event_count: uses.count + 1,
        attack: Finding::ids(page.attack),
        owasp_nhi: Finding::ids(page.owasp_nhi),
    }
}
