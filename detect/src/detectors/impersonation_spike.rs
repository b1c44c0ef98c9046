//! ## What it finds
//! A caller that acts as others more often than ever at this hour, as more identities than ever, as
//! one that it never acted as, or that is refused by many in a short time.
//! ## Why it matters
//! Assuming roles and minting tokens for other accounts is how one stolen identity becomes all of
//! them. ATT&CK T1548.005, T1550.001, T1078.004.
//! ## Fires on / stays quiet on
//! Fires: forty roles assumed by a job that knows two; refusals by eight roles within an hour; a new
//! target reached from a new network with a new tool.
//! Quiet: brokers and proxies whose trade it is and who meet new targets every day; a nightly batch;
//! retries of one target; services that act for themselves.
//! ## Memory
//! 2 to 6 kB for each caller, the oldest forgotten above `max_callers`; at most 96 items of evidence
//! for each caller and day.

use super::{Page, settings};
use crate::baseline::bounded::Bounded;
use crate::baseline::commons::{Commons, Standing};
use crate::baseline::counts::Counts;
use crate::baseline::known::Known;
use crate::baseline::place::Tools;
use crate::baseline::profile::{News, Novel, Profile, Sighting, key};
use crate::baseline::tail::{fisher, novelty_tail};
use crate::baseline::windows::{Daily, LEARNING_LAG, Window};
use crate::episode::{Episode, Item, Who, day_of, dimensions};
use crate::{Detector, DetectorKind, Findings};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use telltale_schema::time::{DAY, HOUR, format_instant};
use telltale_schema::{Event, Finding, Kind, Micros, Outcome, PrincipalKind, Severity};

pub static KIND: DetectorKind = DetectorKind {
    name: NAME,
    help: "a caller that acts as others more often, as more of them, or as ones it never was",
    source: include_str!("impersonation_spike.rs"),
    severity: Severity::Critical,
    attack: PAGE.attack,
    owasp_nhi: PAGE.owasp_nhi,
    build: |table| Ok(Box::new(ImpersonationSpike::new(settings(NAME, table)?))),
};

const NAME: &str = "impersonation_spike";
const PAGE: Page = Page {
    detector: NAME,
    attack: &["T1548.005", "T1550.001", "T1078.004"],
    owasp_nhi: &["NHI5:2025", "NHI9:2025"],
};

/// Settings of `[[detect]] kind = "impersonation_spike"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// False pages a day that you put up with from this detector. Default 0.1.
    false_pages_per_day: f64,
    /// Callers remembered at once; bounds memory at 2 to 6 kB each. Default 100 000.
    max_callers: usize,
    /// Targets remembered for one caller. Default 128.
    max_targets: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { false_pages_per_day: 0.1, max_callers: 100_000, max_targets: 128 }
    }
}

/// Callers times windows in a day, before anything was counted.
const USUAL_TESTS: f64 = 600.0;
/// A count below this is no spike, however steady the past.
const FEWEST: u32 = 8;
/// Refusals count together within this time.
const BURST: Micros = HOUR;
/// Refusing targets from which on it is a ticket, or a page, without any history.
const REFUSING: usize = 4;
const REFUSING_PAGES: usize = 8;
const DIMENSIONS: usize = 4;
/// Names that give everything away.
const MIGHTY: &[&str] = &[
    "admin",
    "root",
    "owner",
    "break-glass",
    "breakglass",
    "system:masters",
    "superuser",
    "poweruser",
];

/// A way in which impersonation can be unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unusual {
    Count,
    Targets,
    Edge,
    Refusal,
    Network,
    Tool,
}

impl Unusual {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "impersonations",
            Self::Targets => "targets",
            Self::Edge => "new targets",
            Self::Refusal => "refusals",
            Self::Network => "network",
            Self::Tool => "tool",
        }
    }
}

/// One caller.
struct Caller {
    profile: Profile,
    counts: Counts,
    distinct: Counts,
    targets: Known,
    refusing: Known,
    /// Targets met in the latest windows.
    met: Vec<(Window, u64)>,
}

impl Caller {
    fn new(window: Window) -> Self {
        Self {
            profile: Profile::default(),
            counts: Counts::new(window),
            distinct: Counts::new(window),
            targets: Known::default(),
            refusing: Known::default(),
            met: Vec::new(),
        }
    }

    /// Whether `target` is met for the first time in `window`.
    fn meets(&mut self, window: Window, target: u64) -> bool {
        let newest = self.met.iter().map(|(window, _)| *window).max().unwrap_or(window);
        if window > newest {
            self.met.retain(|(met, _)| met + 3 > window);
        }
        let new = !self.met.contains(&(window, target));
        if new && self.met.len() < 4096 {
            self.met.push((window, target));
        }
        new
    }
}

/// The state machine.
pub struct ImpersonationSpike {
    settings: Settings,
    callers: Bounded<Caller>,
    commons: Commons,
    /// Which callers a target has, as one more thing that accounts have in common.
    edges: Commons,
    episodes: BTreeMap<(i64, u64), Episode<Unusual>>,
    tools: Tools,
    tests: Daily,
}

impl ImpersonationSpike {
    pub fn new(settings: Settings) -> Self {
        Self {
            callers: Bounded::new(settings.max_callers),
            commons: Commons::new(settings.max_callers),
            edges: Commons::new(settings.max_callers),
            episodes: BTreeMap::new(),
            tools: Tools::default(),
            tests: Daily::default(),
            settings,
        }
    }

    /// What is unusual about one impersonation.
    fn unusual(&mut self, event: &Event<'_>, seen: &Sighting, target: &str) -> Vec<Item<Unusual>> {
        let max_targets = self.settings.max_targets;
        let caller = self.callers.touch(seen.account, seen.at, || Caller::new(seen.window));
        let news = caller.profile.learn(seen, &mut self.commons);
        if news.first_in_window {
            self.tests.add(seen.at);
        }
        let began = caller.profile.activity.first;
        let mut items = Vec::new();
        context(event, seen, &news, &caller.profile, &mut items);

        let window = u64::from(seen.window);
        let count = caller.counts.add(seen.window);
        if count >= FEWEST
            && let Some((tail, mean)) = caller.counts.tail(seen.window, count)
            && tail < 0.01
            && f64::from(count) >= 3.0 * mean
        {
            let spread = caller.met.iter().filter(|(met, _)| *met == seen.window).count();
            // Half a decade each: a growing count is evidence anew only when it says more.
            let step = (-tail.max(1e-30).log10() * 2.0) as u64;
            let mut item = Item::new(event, Unusual::Count, join(window, step), tail);
            item.once = spread as u32;
            items.push(item.observed(format!("{count} in an hour")).usual(format!("{mean:.1}")));
        }
        let target_key = key(target);
        let before = seen.window.saturating_sub(LEARNING_LAG);
        if caller.meets(seen.window, target_key) {
            let distinct = caller.distinct.add(seen.window);
            if distinct >= 4
                && let Some((tail, mean)) = caller.distinct.tail(seen.window, distinct)
                && tail < 0.01
                && f64::from(distinct) >= 3.0 * mean
            {
                let step = (-tail.max(1e-30).log10() * 2.0) as u64;
                let item = Item::new(event, Unusual::Targets, join(window, step), tail);
                let text = format!("{distinct} different ones in an hour");
                items.push(item.observed(text).usual(format!("{mean:.1}")));
            }
        }
        let first = caller.targets.see(target_key, seen.window, max_targets);
        self.edges.adopt(seen.tenant, target_key, seen.account, seen.window, news.windows > 0);
        if first > before && news.windows > 0 {
            let once = caller.targets.new_until(before, began, news.windows);
            let mut probability = novelty_tail(once, news.windows, 1, 1);
            match self.edges.standing(seen.tenant, target_key, seen.account, seen.window) {
                Standing::Unseen => probability *= 0.5,
                Standing::Shared => {}
                // A new role that everybody takes up.
                Standing::Wave => probability = 1.0,
            }
            if is_mighty(target) {
                probability *= 0.3;
            }
            if probability < 0.1 {
                let mut item = Item::new(event, Unusual::Edge, target_key, probability)
                    .observed(target)
                    .usual(format!("none new in {} active hours", news.windows));
                (item.once, item.windows) = (once, news.windows);
                items.push(item);
            }
        }
        if matches!(event.outcome, Outcome::Denied | Outcome::Failure) {
            let first = caller.refusing.see(target_key, seen.window, max_targets);
            if first > before {
                let once = caller.refusing.new_until(before, began, news.windows);
                let probability = novelty_tail(once, news.windows, 1, 1);
                let mut item = Item::new(event, Unusual::Refusal, target_key, probability)
                    .observed(target)
                    .usual(format!("{once} such in {} active hours", news.windows));
                (item.once, item.windows) = (once, news.windows);
                items.push(item);
            }
        }
        items
    }

    fn weigh(&self, account: u64, day: i64, findings: &mut Findings) {
        let Some(episode) = self.episodes.get(&(day, account)) else { return };
        let before = self.episodes.get(&(day - 1, account));
        let mut items: Vec<&Item<Unusual>> = before.into_iter().flat_map(Episode::tail).collect();
        items.extend(episode.items());
        let tests = self.tests.mean_before(day * DAY).unwrap_or(USUAL_TESTS).max(100.0);
        let page_below = (self.settings.false_pages_per_day / tests).clamp(1e-7, 1e-3);
        let mut found: Option<(Severity, f64, Micros)> = None;
        for upto in 1..=items.len() {
            let Some((severity, probability)) = severity(&items[..upto], page_below) else {
                continue;
            };
            let at = items[upto - 1].at;
            match &mut found {
                None => found = Some((severity, probability, at)),
                Some((known, least, raised_at)) => {
                    if severity > *known {
                        if !known.pages() {
                            *raised_at = at;
                        }
                        *known = severity;
                    }
                    *least = least.min(probability);
                }
            }
        }
        let Some((severity, probability, raised_at)) = found else { return };
        if raised_at < day * DAY {
            return;
        }
        let mut finding = episode.finding(&PAGE, account, severity, raised_at, &items);
        write(&mut finding, &items, probability);
        findings.raise(finding);
    }
}

/// A network or a tool that the caller never used adds to what it does from there.
fn context(
    event: &Event<'_>,
    seen: &Sighting,
    news: &News,
    profile: &Profile,
    items: &mut Vec<Item<Unusual>>,
) {
    let rare = |novel: &Novel| novel.probability < 0.1;
    if let (Some(novel), Some(network)) = (news.network.filter(rare), seen.network) {
        let item = Item::new(event, Unusual::Network, network.0, novel.probability);
        items.push(item.observed(network.to_string()).usual(profile.usual_networks(seen.window)));
    }
    if let (Some(novel), Some(tool)) = (news.tool.filter(rare), &seen.tool) {
        let item = Item::new(event, Unusual::Tool, tool.key, novel.probability);
        items.push(item.observed(tool.to_string()));
    }
}

/// The tail of all of one dimension together.
fn together(items: &[&Item<Unusual>]) -> f64 {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return 1.0 };
    match first.dimension {
        Unusual::Edge | Unusual::Refusal if first.windows >= 12 => {
            let exposure = 1 + (last.at.div_euclid(HOUR) - first.at.div_euclid(HOUR)) as u32;
            let several = novelty_tail(first.once, first.windows, exposure, items.len() as u32);
            items.iter().map(|item| item.probability).fold(several, f64::min)
        }
        Unusual::Edge | Unusual::Refusal => 1.0,
        _ => items.iter().map(|item| item.probability).fold(1.0, f64::min),
    }
}

fn severity(items: &[&Item<Unusual>], page_below: f64) -> Option<(Severity, f64)> {
    let of = |dimension| {
        let items: Vec<_> = items.iter().copied().filter(|i| i.dimension == dimension).collect();
        (together(&items), items)
    };
    let (count, counts) = of(Unusual::Count);
    // Retries and backlogs go to one target, or the few that it always was.
    let spread = counts.iter().map(|item| item.once).max().unwrap_or(0) >= 3;
    let (targets, _) = of(Unusual::Targets);
    let (edge, _) = of(Unusual::Edge);
    let (refused, refusals) = of(Unusual::Refusal);
    let (network, _) = of(Unusual::Network);
    let (tool, _) = of(Unusual::Tool);

    // Counts, targets and new targets grow together, so only the rarest of them counts in full.
    let volume = count.min(targets);
    let joint = fisher(&[volume, edge.min(refused), network, tool], DIMENSIONS);
    let groups = [volume <= 1e-3, edge <= 0.03, refused <= 0.03, network <= 0.03, tool <= 0.03];
    let groups = groups.iter().filter(|unusual| **unusual).count();

    let mut burst = 0;
    for (from, first) in refusals.iter().enumerate() {
        let within = refusals[from..].iter().take_while(|i| i.at - first.at <= BURST).count();
        burst = burst.max(within);
    }
    let young = refusals.first().is_none_or(|item| item.windows < 12);
    let burst_pages = burst >= REFUSING_PAGES && (young || refused <= 1e-3)
        || burst >= REFUSING && refused <= page_below;
    let many_targets = targets <= page_below && (edge <= 1e-3 || targets <= page_below * 1e-2);
    let joint_pages = joint <= page_below && groups >= 2;

    let severity = if joint_pages && joint <= page_below * 1e-5 || many_targets && groups >= 3 {
        Severity::Critical
    } else if joint_pages || many_targets || burst_pages || spread && count <= page_below * 1e-8 {
        Severity::High
    } else if volume <= page_below
        || burst >= REFUSING && (young || refused <= 0.01)
        || joint <= page_below * 10.0 && groups >= 2
    {
        Severity::Medium
    } else {
        return None;
    };
    Some((severity, joint.min(volume)))
}

fn write(finding: &mut Finding, items: &[&Item<Unusual>], probability: f64) {
    finding.dimensions = dimensions(items, Unusual::name, |_, items| {
        Some(together(items)).filter(|probability| *probability < 1.0)
    });
    // Of counts that grew only the last is worth reading.
    for (name, dimension) in [("impersonations", Unusual::Count), ("targets", Unusual::Targets)] {
        let last = items.iter().rev().find(|item| item.dimension == dimension);
        if let (Some(last), Some(shown)) =
            (last, finding.dimensions.iter_mut().find(|shown| shown.name == name))
        {
            shown.observed.clone_from(&last.observed);
        }
    }
    let caller = &finding.principal_id;
    let parts: Vec<String> = finding
        .dimensions
        .iter()
        .map(|d| match d.usual.as_str() {
            "" => format!("{} {}", d.name, d.observed),
            usual => format!("{} {} (usual: {usual})", d.name, d.observed),
        })
        .collect();
    let odds = if probability < 1.0 {
        format!("; by chance with probability {probability:.0e} in an hour")
    } else {
        String::new()
    };
    finding.title = match items.iter().filter(|i| i.dimension == Unusual::Refusal).count() {
        REFUSING.. => format!("{caller}: refused by many identities that it tried to act as"),
        _ if items.iter().any(|i| matches!(i.dimension, Unusual::Count | Unusual::Targets)) => {
            format!("{caller}: acts as others more than ever")
        }
        _ => format!("{caller}: acts as somebody it never was"),
    };
    finding.sentence = format!(
        "Since {} {caller} acts as others in an unusual way: {}{odds}.",
        format_instant(finding.first_seen),
        parts.join("; "),
    );
    let targets = match finding.target_ids.len() {
        0..=3 => finding.target_ids.join(", "),
        more => format!("{} and {} more", finding.target_ids[..3].join(", "), more - 3),
    };
    finding.next_steps = vec![
        format!("Ask the owner of {caller} whether a deployment or a migration runs now."),
        format!("If not: take its right to act as {targets}, and end the sessions it minted."),
        format!("List what those sessions did from {} on.", format_instant(finding.first_seen)),
        "Narrow the trust policy to the targets that it needs.".to_owned(),
    ];
}

impl Detector for ImpersonationSpike {
    fn observe(&mut self, event: &Event<'_>, findings: &mut Findings) {
        if event.kind != Kind::Impersonation {
            return;
        }
        let (Some(principal), Some(target)) = (event.principal_id, event.target_id) else { return };
        if matches!(event.principal_kind, PrincipalKind::System | PrincipalKind::Anonymous)
            || is_service_linked(principal)
            || is_service_linked(target)
            || principal == target
        {
            return;
        }
        let mut seen = Sighting::glance(event, principal);
        seen.read(event, &mut self.tools);
        let items = self.unusual(event, &seen, target);
        if items.is_empty() {
            return;
        }
        let day = day_of(seen.at);
        let make = || Episode::new(Who::of(event, principal), day);
        let episode = self.episodes.entry((day, seen.account)).or_insert_with(make);
        let changed = items.into_iter().fold(false, |changed, item| episode.add(item) || changed);
        if changed {
            self.weigh(seen.account, day, findings);
            self.weigh(seen.account, day + 1, findings);
        }
    }

    fn close(&mut self, watermark: Micros, _: &mut Findings) {
        let over = day_of(watermark) - 2;
        while let Some(((day, _), _)) = self.episodes.first_key_value()
            && *day < over
        {
            self.episodes.pop_first();
        }
    }

    fn evicted_total(&self) -> u64 {
        self.callers.evicted_total() + self.commons.evicted_total() + self.edges.evicted_total()
    }
}

/// A role that a cloud service made for itself.
fn is_service_linked(identity: &str) -> bool {
    identity.contains("/aws-service-role/") || identity.contains("gserviceaccount.com/service-")
}

fn is_mighty(target: &str) -> bool {
    let lower = target.to_ascii_lowercase();
    MIGHTY.iter().any(|word| lower.contains(word))
}

fn join(window: u64, step: u64) -> u64 {
    window << 16 | step.min(0xffff)
}
