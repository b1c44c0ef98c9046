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
use crate::baseline::tail::{fisher, novelty_tail, overdispersed_tail};
use crate::baseline::windows::{Daily, Window, known_before};
use crate::episode::{Episode, Item, When, Who, day_of, dimensions};
use crate::{Detector, DetectorKind, Findings, Observation};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use telltale_schema::time::{DAY, HOUR, format_instant};
use telltale_schema::{Event, EventId, Finding, Kind, Micros, Outcome, PrincipalKind, Severity};

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
    /// Callers and days with evidence kept at once, at most 40 kB each. Default 20 000.
    max_episodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            false_pages_per_day: 0.1,
            max_callers: 100_000,
            max_targets: 128,
            max_episodes: 20_000,
        }
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
    /// The latest windows, oldest first.
    hours: Vec<Hour>,
}

/// What a caller did in one window.
struct Hour {
    window: Window,
    /// The earliest impersonations.
    events: Vec<(Micros, EventId)>,
    /// The earliest one of each target.
    targets: Vec<(u64, (Micros, EventId))>,
}

impl Hour {
    /// Impersonations and targets of one window that are kept one by one.
    const MAX_EVENTS: usize = 64;
    const MAX_TARGETS: usize = 1024;

    /// Notes an impersonation; true when its target is new in the window.
    fn see(&mut self, target: u64, sighting: (Micros, EventId)) -> bool {
        let place = self.events.partition_point(|known| *known < sighting);
        if place < Self::MAX_EVENTS {
            self.events.insert(place, sighting);
            self.events.truncate(Self::MAX_EVENTS);
        }
        let room = self.targets.len() < Self::MAX_TARGETS;
        match self.targets.iter_mut().find(|(known, _)| *known == target) {
            Some((_, first)) => {
                *first = (*first).min(sighting);
                false
            }
            None if room => {
                self.targets.push((target, sighting));
                true
            }
            None => false,
        }
    }

    /// The earliest one of each target, oldest first.
    fn firsts(&self) -> Vec<(Micros, EventId)> {
        let mut firsts: Vec<_> = self.targets.iter().map(|(_, first)| *first).collect();
        firsts.sort_unstable();
        firsts
    }
}

impl Caller {
    fn new(window: Window) -> Self {
        Self {
            profile: Profile::default(),
            counts: Counts::new(window),
            distinct: Counts::new(window),
            targets: Known::default(),
            refusing: Known::default(),
            hours: Vec::new(),
        }
    }

    /// The window, made if need be; windows further back than the lateness are forgotten.
    fn hour(&mut self, window: Window) -> usize {
        if let Some(at) = self.hours.iter().position(|hour| hour.window == window) {
            return at;
        }
        self.hours.push(Hour { window, events: Vec::new(), targets: Vec::new() });
        self.hours.sort_unstable_by_key(|hour| hour.window);
        if self.hours.len() > 3 {
            self.hours.remove(0);
        }
        self.hours.iter().position(|hour| hour.window == window).unwrap_or(0)
    }
}

/// No count is rarer than this before a whole week is known.
const YOUNG_LEAST: f64 = 1e-3;

/// A count that is far above what is usual, as evidence that rests on the events counted.
///
/// It stands at the event with which the count became remarkable, by order of time.
fn far_above(
    event: &Event<'_>,
    dimension: Unusual,
    (counts, window, count): (&Counts, Window, u32),
    events: &[(Micros, EventId)],
    fewest: u32,
) -> Option<Item<Unusual>> {
    if count < fewest {
        return None;
    }
    let (mean, variance) = counts.usual(window)?;
    if f64::from(count) < 3.0 * mean {
        return None;
    }
    let least = if counts.knows_the_week(window) { 0.0 } else { YOUNG_LEAST };
    let tail = |count| overdispersed_tail(mean, variance, count).max(least);
    let reached = tail(count);
    if reached >= 0.01 {
        return None;
    }
    let remarkable = if reached <= 1e-6 { 1e-6 } else { 0.01 };
    let from = fewest.max((3.0 * mean) as u32);
    let turn = (from..count).find(|count| tail(*count) <= remarkable).unwrap_or(count);
    let (at, id) = *events.get(turn as usize - 1).or(events.last())?;
    let mut item =
        Item::new(event, dimension, u64::from(window), reached).usual(format!("{mean:.1} an hour"));
    (item.at, item.id) = (at, id);
    item.also = events.iter().take(10).map(|(_, id)| *id).collect();
    // These belong to whichever event came last.
    (item.target_id, item.source_ip) = (None, None);
    Some(item)
}

/// The state machine.
pub struct ImpersonationSpike {
    settings: Settings,
    callers: Bounded<Caller>,
    commons: Commons,
    /// Which callers a target has, as one more thing that accounts have in common.
    edges: Commons,
    episodes: BTreeMap<(i64, u64), Episode<Unusual>>,
    /// Episodes with evidence that came since the watermark.
    unsettled: BTreeSet<(i64, u64)>,
    tools: Tools,
    tests: Daily,
    evicted: u64,
}

impl ImpersonationSpike {
    pub fn new(settings: Settings) -> Self {
        Self {
            callers: Bounded::new(settings.max_callers),
            commons: Commons::new(settings.max_callers),
            edges: Commons::new(settings.max_callers),
            episodes: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            tools: Tools::default(),
            tests: Daily::default(),
            evicted: 0,
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

        let target_key = key(target);
        let before = known_before(seen.window);
        let hour = caller.hour(seen.window);
        let count = caller.counts.add(seen.window);
        let sighting = (seen.at, seen.id);
        if caller.hours[hour].see(target_key, sighting) {
            caller.distinct.add(seen.window);
        }
        let hour = &caller.hours[hour];
        let firsts = if count >= FEWEST { hour.firsts() } else { Vec::new() };
        let spread = firsts.len() as u32;
        let counted = (&caller.counts, seen.window, count);
        if let Some(mut item) = far_above(event, Unusual::Count, counted, &hour.events, FEWEST) {
            item.once = spread;
            items.push(item.observed(format!("{count} in an hour")));
        }
        let counted = (&caller.distinct, seen.window, spread);
        if let Some(item) = far_above(event, Unusual::Targets, counted, &firsts, 4) {
            items.push(item.observed(format!("{spread} different ones in an hour")));
        }
        let (_, first) = caller.targets.see(target_key, seen.window, max_targets);
        if first == seen.window {
            let switched = news.windows > 0;
            self.edges.adopt(seen.tenant, target_key, seen.account, seen.window, switched);
        }
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
                    .during(event)
                    .observed(target)
                    .usual(format!("none new in {} active hours", news.windows));
                (item.once, item.windows) = (once, news.windows);
                items.push(item);
            }
        }
        if matches!(event.outcome, Outcome::Denied | Outcome::Failure) {
            let (_, first) = caller.refusing.see(target_key, seen.window, max_targets);
            if first > before {
                let once = caller.refusing.new_until(before, began, news.windows);
                let probability = novelty_tail(once, news.windows, 1, 1);
                let mut item = Item::new(event, Unusual::Refusal, target_key, probability)
                    .during(event)
                    .observed(target)
                    .usual(format!("{once} such in {} active hours", news.windows));
                (item.once, item.windows) = (once, news.windows);
                items.push(item);
            }
        }
        items
    }

    /// Weighs the episode of `account` on `day` again and reports it if it has become one: pages
    /// on arrival, and whatever is settled when the watermark has passed it.
    fn weigh(&self, account: u64, day: i64, when: When, findings: &mut Findings) {
        let Some(episode) = self.episodes.get(&(day, account)) else { return };
        let before = self.episodes.get(&(day - 1, account));
        let mut items: Vec<&Item<Unusual>> = before.into_iter().flat_map(Episode::tail).collect();
        items.extend(episode.items());
        items.retain(|item| when.includes(item.at));
        let tests = self.tests.mean_before(day * DAY).unwrap_or(USUAL_TESTS).max(100.0);
        let page_below = (self.settings.false_pages_per_day / tests).clamp(1e-7, 1e-3);
        let mut found: Option<(Severity, f64, Micros)> = None;
        for upto in 1..=items.len() {
            let Some((severity, probability)) = severity(&items[..upto], page_below, when) else {
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
        if raised_at < day * DAY || !when.reports(severity) {
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
fn together(items: &[&Item<Unusual>], when: When) -> f64 {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return 1.0 };
    match first.dimension {
        Unusual::Edge | Unusual::Refusal if first.windows >= 12 => {
            let exposure = when.windows(first.at, last.at);
            let several = novelty_tail(first.once, first.windows, exposure, items.len() as u32);
            items.iter().map(|item| item.probability).fold(several, f64::min)
        }
        Unusual::Edge | Unusual::Refusal => 1.0,
        _ => items.iter().map(|item| item.probability).fold(1.0, f64::min),
    }
}

fn severity(items: &[&Item<Unusual>], page_below: f64, when: When) -> Option<(Severity, f64)> {
    let of = |dimension| {
        let items: Vec<_> = items.iter().copied().filter(|i| i.dimension == dimension).collect();
        (together(&items, when), items)
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
    let burst_pages = burst >= REFUSING_PAGES && (young || refused <= page_below)
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
        Some(together(items, When::Final)).filter(|probability| *probability < 1.0)
    });
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
        0 => "others".to_owned(),
        1..=3 => finding.target_ids.join(", "),
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
    fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings) {
        let event = &observation.event;
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
        let mut seen = Sighting::glance(observation, principal);
        seen.read(observation, &mut self.tools);
        let items = self.unusual(event, &seen, target);
        if items.is_empty() {
            return;
        }
        let day = day_of(seen.at);
        if self.episodes.len() >= self.settings.max_episodes
            && !self.episodes.contains_key(&(day, seen.account))
        {
            self.episodes.pop_first();
            self.evicted += 1;
        }
        let make = || Episode::new(Who::of(event, principal), day);
        let episode = self.episodes.entry((day, seen.account)).or_insert_with(make);
        let changed = items.into_iter().fold(false, |changed, item| {
            let counted = matches!(item.dimension, Unusual::Count | Unusual::Targets);
            (if counted { episode.replace(item) } else { episode.add(item) }) || changed
        });
        if changed {
            for day in [day, day + 1] {
                self.weigh(seen.account, day, When::Arrival, findings);
                self.unsettled.insert((day, seen.account));
            }
        }
    }

    fn close(&mut self, watermark: Micros, findings: &mut Findings) {
        let when = When::Settled(watermark);
        for (day, account) in std::mem::take(&mut self.unsettled) {
            self.weigh(account, day, when, findings);
            let episode = self.episodes.get(&(day, account));
            if episode.is_some_and(|episode| !episode.is_settled(watermark)) {
                self.unsettled.insert((day, account));
            }
        }
        let over = day_of(watermark) - 2;
        while let Some(((day, _), _)) = self.episodes.first_key_value()
            && *day < over
        {
            self.episodes.pop_first();
        }
    }

    fn evicted_total(&self) -> u64 {
        self.evicted
            + self.callers.evicted_total()
            + self.commons.evicted_total()
            + self.edges.evicted_total()
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
