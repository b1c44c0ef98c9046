//! ## What it finds
//! A caller that acts as others more often than ever at this hour, as more identities than ever, as
//! one that it never acted as, or that is refused by many in a short time.
//! ## Why it matters
//! Assuming roles and minting tokens for other accounts is how one stolen identity becomes all of
//! them. ATT&CK T1548.005, T1550.001, T1078.004.
//! ## Fires on / stays quiet on
//! Fires: forty roles assumed by a job that knows two; refusals by eight roles within an hour; a new
//! target reached from a new network with a new tool, or used at once to change policies and make
//! keys; a chain of new roles taken by a workload that never took one; tokens asked for many accounts
//! by one that never did; a proxy for people that acts as the cluster's own components.
//! Quiet: brokers and proxies whose trade it is and who meet new targets every day; a nightly batch;
//! retries of one target; services that act for themselves.
//! ## Memory
//! 2 to 6 kB for each caller, the oldest forgotten above `max_callers`; at most 96 items of evidence
//! for each caller and day.

mod aftermath;
mod caller;
mod targets;
mod verdict;

use self::aftermath::{Aftermath, Newcomer};
use self::caller::{Caller, FEWEST, far_above};
use self::targets::{class_of, is_mighty, is_platform};
use self::verdict::{REFUSING, Unusual, severity, together};
use super::{Page, described, settings};
use crate::baseline::bounded::Bounded;
use crate::baseline::commons::{Commons, Standing};
use crate::baseline::join_keys;
use crate::baseline::place::Tools;
use crate::baseline::profile::{News, Novel, Profile, Sighting, key};
use crate::baseline::tail::{NoveltyOfOne, novelty_tail};
use crate::baseline::windows::{Activity, Daily, known_before};
use crate::episode::{
    Episode, Episodes, Item, When, Who, day_of, dimensions, in_active_hours, phrase,
};
use crate::{Detector, DetectorKind, Findings, Observation, Unreadable, save};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::{self, Write};
use telltale_schema::time::{DAY, format_instant};
use telltale_schema::{Event, Finding, Kind, Micros, Outcome, PrincipalKind, Severity};

pub static KIND: DetectorKind = DetectorKind {
    name: NAME,
    help: "a caller that acts as others more often, as more of them, or as ones it never was",
    source: include_str!("impersonation_spike.rs"),
    severity: Severity::Critical,
    attack: PAGE.attack,
    owasp_nhi: PAGE.owasp_nhi,
    settings: described::<Settings>,
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
/// Values remembered of one caller's kinds of targets.
const MAX_CLASSES: usize = 32;
/// Active hours without any impersonation after which the first one is news.
const LONG_WITHOUT: u32 = 12;
/// The group of a new target of who never acted as anybody.
const FIRST: u64 = 1;

/// The state machine.
pub struct ImpersonationSpike {
    settings: Settings,
    callers: Bounded<Caller>,
    /// When accounts were active, whether they acted as others or not.
    accounts: Bounded<Activity>,
    aftermath: Aftermath,
    commons: Commons,
    /// Which callers a target has, as one more thing that accounts have in common.
    edges: Commons,
    episodes: Episodes<Unusual>,
    /// Episodes with evidence that came since the watermark.
    unsettled: BTreeSet<(i64, u64)>,
    tools: Tools,
    novelty: NoveltyOfOne,
    tests: Daily,
}

impl ImpersonationSpike {
    pub fn new(settings: Settings) -> Self {
        Self {
            callers: Bounded::new(settings.max_callers),
            accounts: Bounded::new(2 * settings.max_callers),
            aftermath: Aftermath::new(settings.max_callers),
            commons: Commons::new(settings.max_callers),
            edges: Commons::new(settings.max_callers),
            episodes: Episodes::new(settings.max_episodes),
            unsettled: BTreeSet::new(),
            tools: Tools::default(),
            novelty: NoveltyOfOne::default(),
            tests: Daily::default(),
            settings,
        }
    }

    /// What is unusual about one impersonation.
    fn unusual(
        &mut self,
        observation: &Observation<'_>,
        seen: &Sighting,
        target: &str,
    ) -> Vec<Item<Unusual>> {
        let event = &observation.event;
        let max_targets = self.settings.max_targets;
        let caller = self.callers.touch(seen.account, seen.at, || Caller::new(seen.window));
        let news = caller.profile.learn(seen, &mut self.commons, &mut self.novelty);
        if news.first_in_window {
            self.tests.add(seen.at);
        }
        let began = caller.profile.activity.first;
        let before = known_before(seen.window);
        // Who was active for long and never acted as anybody has as little to do with new targets
        // as who acts as the same ones all day.
        let active = self.accounts.get(seen.account).map_or(0, |known| known.count_until(before));
        let windows = match news.windows {
            0 if active >= LONG_WITHOUT => active,
            own => own,
        };
        let mut items = Vec::new();
        context(event, seen, &news, &caller.profile, &mut items);

        let target_key = key(target);
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
        // What people take up says nothing about programs.
        let peers = join_keys(target_key, u64::from(event.principal_kind == PrincipalKind::Human));
        if first == seen.window {
            let switched = news.windows > 0;
            self.edges.adopt(seen.tenant, peers, seen.account, seen.window, switched);
        }
        if first > before && windows > 0 {
            let once = caller.targets.new_until(before, began, windows);
            let mut probability = novelty_tail(once, windows, 1, 1);
            match self.edges.standing(seen.tenant, peers, seen.account, seen.window) {
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
                    .usual(in_active_hours(format_args!("{once} new"), windows));
                (item.once, item.windows) = (once, windows);
                if news.windows == 0 && active >= LONG_WITHOUT {
                    item.group = FIRST;
                }
                items.push(item);
            }
        }
        let class = class_of(target);
        let (_, first) = caller.classes.see(key(class), seen.window, MAX_CLASSES);
        if first > before && windows >= LONG_WITHOUT && is_platform(class) {
            let once = caller.classes.new_until(before, began, windows);
            let probability = novelty_tail(once, windows, 1, 1) * 0.3;
            if probability < 0.03 {
                let mut item = Item::new(event, Unusual::Class, key(class), probability)
                    .during(event)
                    .observed(class)
                    .usual(in_active_hours(format_args!("{once} new kinds"), windows));
                (item.once, item.windows) = (once, windows);
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
                    .usual(in_active_hours(format_args!("{once} such"), news.windows));
                (item.once, item.windows) = (once, news.windows);
                items.push(item);
            }
        }
        items
    }

    /// Weighs the episode of `account` on `day` again and reports it if it has become one: pages
    /// on arrival, and whatever is settled when the watermark has passed it.
    fn weigh(&self, account: u64, day: i64, when: When, findings: &mut Findings) {
        let Some(episode) = self.episodes.get(day, account) else { return };
        let before = self.episodes.get(day - 1, account);
        let mut items = before.map(Episode::tail).unwrap_or_default();
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
        write(&mut finding, &episode.who, &items, probability);
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

fn write(finding: &mut Finding, who: &Who, items: &[&Item<Unusual>], probability: f64) {
    finding.dimensions = dimensions(items, Unusual::name, |_, items| {
        Some(together(items, When::Final)).filter(|probability| *probability < 1.0)
    });
    let caller = who.full();
    let parts: Vec<String> = finding.dimensions.iter().map(phrase).collect();
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
    let refused = items.iter().filter(|item| item.dimension == Unusual::Refusal).count();
    let granted = items.iter().any(|item| item.dimension == Unusual::Edge);
    let contain = match refused >= REFUSING {
        true if !granted => {
            format!("If not: end the sessions of {caller} and find out who uses it.")
        }
        true => format!("If not: end the sessions of {caller}, and those that it minted."),
        false => {
            format!("If not: take its right to act as {targets}, and end the sessions it minted.")
        }
    };
    finding.next_steps = vec![
        format!("Ask the owner of {caller} whether a deployment or a migration runs now."),
        contain,
        format!("List what those sessions did from {} on.", format_instant(finding.first_seen)),
        format!("Let the targets trust {caller} no further than it needs."),
    ];
}

impl ImpersonationSpike {
    /// Adds evidence to the episode of `account` on the day of `item`; that day, where it is news.
    fn add(&mut self, account: u64, who: impl Fn() -> Who, item: Item<Unusual>) -> Option<i64> {
        let day = day_of(item.at);
        let episode = self.episodes.begun(account, &item, who);
        let counted = matches!(item.dimension, Unusual::Count | Unusual::Targets);
        let changed = if counted { episode.replace(item) } else { episode.add(item) };
        changed.then_some(day)
    }

    fn weigh_all(&mut self, mut changed: Vec<(i64, u64)>, findings: &mut Findings) {
        changed.sort_unstable();
        changed.dedup();
        let early = findings.wants_early() || self.episodes.is_full();
        for (day, account) in changed {
            for day in [day, day + 1] {
                if early {
                    self.weigh(account, day, When::Arrival, findings);
                }
                self.unsettled.insert((day, account));
            }
        }
    }
}

impl Detector for ImpersonationSpike {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings) {
        let event = &observation.event;
        let Some(principal) = event.principal_id else { return };
        if matches!(event.principal_kind, PrincipalKind::System | PrincipalKind::Anonymous) {
            return;
        }
        let mut seen = Sighting::glance(observation, principal);
        self.accounts.touch(seen.account, seen.at, Activity::default).see(seen.window);
        let mut changed = Vec::new();
        let target = target_of(event, principal);
        for (account, who, item) in self.aftermath.act(observation, seen.account, target) {
            changed.extend(self.add(account, || who.clone(), item).map(|day| (day, account)));
        }
        if let Some(target) = target {
            seen.read(observation, &mut self.tools);
            let items = self.unusual(observation, &seen, target);
            let who = || Who::of(event, principal);
            // People take up new roles and use them, but not those above everything.
            let takes_up = event.principal_kind == PrincipalKind::Human && !is_mighty(target);
            let edge = items.iter().find(|item| item.dimension == Unusual::Edge && !takes_up);
            let newly = edge.map(|edge| Newcomer { who: who(), is_first: edge.group == FIRST });
            for (account, who, item) in
                self.aftermath.edge(observation, target, seen.account, newly)
            {
                changed.extend(self.add(account, || who.clone(), item).map(|day| (day, account)));
            }
            for item in items {
                changed.extend(self.add(seen.account, who, item).map(|day| (day, seen.account)));
            }
        }
        self.weigh_all(changed, findings);
    }

    fn close(&mut self, watermark: Micros, findings: &mut Findings) {
        let when = When::Settled(watermark);
        for (day, account) in std::mem::take(&mut self.unsettled) {
            self.weigh(account, day, when, findings);
            let episode = self.episodes.get(day, account);
            if episode.is_some_and(|episode| !episode.is_settled(watermark)) {
                self.unsettled.insert((day, account));
            }
        }
        self.episodes.forget_before(day_of(watermark) - 2);
    }

    fn evicted_total(&self) -> u64 {
        self.episodes.evicted_total()
            + self.callers.evicted_total()
            + self.accounts.evicted_total()
            + self.aftermath.evicted_total()
            + self.commons.evicted_total()
            + self.edges.evicted_total()
    }

    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = (
            &self.callers,
            &self.accounts,
            &self.aftermath,
            &self.commons,
            &self.edges,
            &self.episodes,
            &self.unsettled,
            &self.tests,
        );
        save(&state, out)
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable> {
        let (callers, accounts, aftermath, commons, edges, episodes, unsettled, tests) =
            postcard::from_bytes(saved)?;
        self.callers = callers;
        self.accounts = accounts;
        self.aftermath = aftermath;
        self.commons = commons;
        self.edges = edges;
        self.episodes = episodes;
        self.unsettled = unsettled;
        self.tests = tests;
        Ok(())
    }
}

/// Whom an event acts as, or gets a token for.
fn target_of<'a>(event: &Event<'a>, principal: &str) -> Option<&'a str> {
    let target = event.target_id.filter(|target| *target != principal)?;
    let acts = matches!(event.kind, Kind::Impersonation | Kind::TokenIssued);
    (acts && !is_service_linked(principal) && !is_service_linked(target)).then_some(target)
}

/// A role that a cloud service made for itself.
fn is_service_linked(identity: &str) -> bool {
    identity.contains("/aws-service-role/") || identity.contains("gserviceaccount.com/service-")
}
