//! ## What it finds
//! A credential in the hands of somebody else: one that was reported as exposed and is used; one
//! used from a network and with a tool never seen for its account, doing what the account never
//! did, while the owner goes on working; an instance's or workload's credential away from where it
//! was issued, a function's on somebody's desk; one session key or token in two places; and, needing
//! no history, the sequence that follows a theft: who am I, refused enumeration, rights granted to
//! itself, keys made, logging switched off.
//! ## Why it matters
//! Leaked keys are how cloud accounts are lost, and minutes count. ATT&CK T1078.004, T1552.
//! ## Fires on / stays quiet on
//! Fires: a key used from a new network with a new tool for new calls; instance credentials on a
//! laptop; a quarantined key in use; who-am-I, five refusals and a policy attached to oneself.
//! Quiet: runners on ever new addresses; a network move or an upgrade that many accounts share; a
//! rotation with stragglers or by the account itself; scanners that are refused all day; Terraform,
//! Helm and administrators.
//! ## Memory
//! A profile of 1 to 4 kB for each account, 200 bytes for each credential of the last days, half a
//! kilobyte for each instance, evidence of at most 96 items for each account and day; the oldest is
//! forgotten above the caps.

mod acts;
mod exposure;
mod lineage;
mod pending;
mod places;
mod report;
mod verdict;

use self::acts::{act_of, may_be_act};
use self::exposure::Exposures;
use self::lineage::Lineage;
use self::pending::Pending;
use self::places::Places;
use self::verdict::{Unusual, verdict};
use super::{Page, described, settings};
use crate::baseline::bounded::Bounded;
use crate::baseline::commons::Commons;
use crate::baseline::place::{Tool, Tools};
use crate::baseline::profile::{News, Novel, Profile, Sighting, key};
use crate::baseline::tail::NoveltyOfOne;
use crate::baseline::windows::Daily;
use crate::episode::{Episode, Episodes, Item, When, Who, day_of, in_active_hours};
use crate::{Detector, DetectorKind, Findings, Observation, Unreadable, save};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Write};
use telltale_schema::time::DAY;
use telltale_schema::{Event, Kind, Micros, PrincipalKind, Severity};

pub static KIND: DetectorKind = DetectorKind {
    name: NAME,
    help: "a credential in the hands of somebody else: exposed, far from home, or used as thieves do",
    source: include_str!("leaked_credential.rs"),
    severity: Severity::Critical,
    attack: PAGE.attack,
    owasp_nhi: PAGE.owasp_nhi,
    settings: described::<Settings>,
    build: |table| Ok(Box::new(LeakedCredential::new(settings(NAME, table)?))),
};

const NAME: &str = "leaked_credential";
const PAGE: Page = Page {
    detector: NAME,
    attack: &["T1078.004", "T1552", "T1098", "T1562.008"],
    owasp_nhi: &["NHI2:2025", "NHI7:2025", "NHI5:2025"],
};

/// Settings of `[[detect]] kind = "leaked_credential"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// False pages a day that you put up with from this detector. Default 0.3.
    false_pages_per_day: f64,
    /// Accounts remembered at once; bounds memory at 1 to 4 kB each. Default 200 000.
    max_accounts: usize,
    /// Credentials remembered at once, at about 200 bytes each. Default 500 000.
    max_credentials: usize,
    /// Accounts and days with evidence kept at once, at most 30 kB each. Default 20 000.
    max_episodes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            false_pages_per_day: 0.3,
            max_accounts: 200_000,
            max_credentials: 500_000,
            max_episodes: 20_000,
        }
    }
}

/// Accounts times windows in a day, before anything was counted.
const USUAL_TESTS: f64 = 3600.0;
/// How much rarer it is that one credential goes elsewhere and comes back within hours.
const RETURNS: f64 = 0.2;
/// A single new thing is kept as evidence below this.
const REMARKABLE: f64 = 0.1;

/// The state machine.
pub struct LeakedCredential {
    settings: Settings,
    profiles: Bounded<Profile>,
    commons: Commons,
    lineage: Lineage,
    places: Places,
    exposures: Exposures,
    episodes: Episodes<Unusual>,
    /// Acts since the watermark, for those above their credentials.
    deeds: Pending<Deed>,
    /// Episodes with evidence that came since the watermark, or with a finding whose credential may
    /// have minted more since.
    unsettled: BTreeSet<(i64, u64)>,
    tools: Tools,
    novelty: NoveltyOfOne,
    tests: Daily,
}

impl LeakedCredential {
    pub fn new(settings: Settings) -> Self {
        Self {
            profiles: Bounded::new(settings.max_accounts),
            commons: Commons::new(settings.max_accounts),
            lineage: Lineage::new(settings.max_credentials),
            places: Places::new(settings.max_credentials),
            exposures: Exposures::new(settings.max_credentials),
            episodes: Episodes::new(settings.max_episodes),
            deeds: Pending::default(),
            unsettled: BTreeSet::new(),
            tools: Tools::default(),
            novelty: NoveltyOfOne::default(),
            tests: Daily::default(),
            settings,
        }
    }

    /// Adds evidence to the episode of `account` on the day of `item`; true when it is news.
    fn add(&mut self, account: u64, who: impl Fn() -> Who, item: Item<Unusual>) -> bool {
        self.episodes.begun(account, &item, who).add(item)
    }

    /// Evidence that follows from what is new about an event, as far as it is wanted.
    fn novelties(
        observation: &Observation<'_>,
        seen: &Sighting,
        news: &News,
        profile: &Profile,
        wanted: &Wanted<'_>,
        items: &mut Vec<Item<Unusual>>,
    ) {
        let event = &observation.event;
        let rare = |novel: &Novel| novel.probability < REMARKABLE;
        let wants = |dimension, value| wanted.wants(dimension, value, seen.at);
        if let (Some(novel), Some(network)) = (news.network.filter(rare), seen.network)
            && wants(Unusual::Network, network.0)
        {
            let item = Item::new(event, Unusual::Network, network.0, novel.probability);
            items.push(
                item.observed(network.to_string()).usual(profile.usual_networks(seen.window)),
            );
        }
        if let (Some(novel), Some(tool)) = (news.tool.filter(rare), &seen.tool)
            && wants(Unusual::Tool, tool.key)
        {
            let item = Item::new(event, Unusual::Tool, tool.key, novel.probability);
            let others = profile.tools.until(seen.window).len().saturating_sub(1).max(1);
            let others = format!("{others} other {}", if others == 1 { "tool" } else { "tools" });
            items.push(
                item.observed(tool.to_string()).usual(in_active_hours(others, novel.windows)),
            );
        }
        // A refused call is a new refusal and not a new operation as well.
        let done = news.operation.filter(|_| !seen.refused);
        for (dimension, novel) in [(Unusual::Operation, done), (Unusual::Refusal, news.refusal)] {
            if let Some(novel) = novel
                && (novel.windows == 0 || rare(&novel))
                && wants(dimension, seen.operation)
            {
                let mut item = Item::new(event, dimension, seen.operation, novel.probability)
                    .during(event)
                    .observed(observation.doing());
                (item.once, item.windows) = (novel.once, novel.windows);
                item.group = observation.keys.service;
                items.push(item);
            }
        }
        // What is seen first may have been second.
        let hour = match wanted.later(Unusual::Hour, seen.at) {
            true => profile.hour(seen.window, news.windows),
            false => news.hour,
        };
        if let Some(hour) = hour.filter(|hour| *hour < 0.02)
            && wants(Unusual::Hour, 0)
        {
            let at = telltale_schema::time::format_instant(seen.at);
            let item = Item::new(event, Unusual::Hour, 0, hour.max(1e-3));
            items.push(item.observed(format!("active at {} UTC", at.get(11..16).unwrap_or("?"))));
        }
    }

    /// Evidence of the sequence after a theft.
    fn acts(
        observation: &Observation<'_>,
        seen: &Sighting,
        news: &News,
        wanted: &Wanted<'_>,
    ) -> Vec<Item<Unusual>> {
        let event = &observation.event;
        let habit = news.operation.is_none();
        let mut items = Vec::new();
        if let Some(act) = act_of(observation, seen.tool.as_ref(), habit) {
            let dimension = Unusual::Act(act);
            let value = match act {
                acts::Act::KeyForOther | acts::Act::SharedOutside => {
                    event.target_id.or(event.operation).map_or(0, key)
                }
                _ => 0,
            };
            if wanted.wants(dimension, value, seen.at) {
                let text = format!("{} ({})", act.as_str(), observation.doing());
                let item =
                    Item::new(event, dimension, value, 10f64.powf(-act.weight())).during(event);
                items.push(item.observed(text));
            }
        }
        if let Some(tool) = seen.tool.as_ref().filter(|_| news.tool.is_some())
            && let Some(word) = tool.offensive
        {
            let dimension = Unusual::Act(acts::Act::OffensiveTool);
            if wanted.wants(dimension, 0, seen.at) {
                let own = tool.family.to_ascii_lowercase().contains(word);
                let name = if own { tool.family.to_string() } else { format!("{tool}, {word}") };
                let text = format!("{} ({name})", acts::Act::OffensiveTool.as_str());
                items.push(Item::new(event, dimension, 0, 10f64.powf(-2.5)).observed(text));
            }
        }
        items
    }

    /// Weighs the episode of `account` on `day` again and reports it if it has become one: pages
    /// on arrival, and whatever is settled when the watermark has passed it. The time of its last
    /// evidence, if it was reported.
    fn weigh(&self, account: u64, day: i64, when: When, findings: &mut Findings) -> Option<Micros> {
        let episode = self.episodes.get(day, account)?;
        let before = self.episodes.get(day - 1, account);
        let mut items = before.map(Episode::tail).unwrap_or_default();
        let lent = items.len();
        for item in episode.items() {
            let same = |known: &&Item<Unusual>| {
                known.dimension == item.dimension && known.value == item.value
            };
            if !items[..lent].iter().any(same) {
                items.push(item);
            }
        }
        items.retain(|item| when.includes(item.at));
        let tests = self.tests.mean_before(day * DAY).unwrap_or(USUAL_TESTS).max(200.0);
        let page_below = (self.settings.false_pages_per_day / tests).clamp(1e-7, 1e-3);
        let person = episode.who.principal_kind == PrincipalKind::Human;
        let verdict = verdict(&items, page_below, person, when)?;
        // What was over before the day began was reported with that day.
        if verdict.raised_at < day * DAY || !when.reports(verdict.severity) {
            return None;
        }
        let finding = report::write(episode, account, &verdict, &items, &self.lineage);
        let last_seen = finding.last_seen;
        findings.raise(finding);
        Some(last_seen)
    }

    /// Adds an act to the episodes of the accounts above its credential: what a stolen credential
    /// mints acts on its behalf, and is told of the stolen one. The days and accounts to which it was
    /// news.
    ///
    /// It is done when the watermark has passed the act: what minted the credential may be told
    /// later than what was done with it, and so may be an earlier act of the same kind, which is
    /// the one that counts.
    fn credit(&mut self, Deed { account, credential, item }: &Deed) -> Vec<(i64, u64)> {
        let day = day_of(item.at);
        let own = self.episodes.get(day, *account);
        let counts = |known: &Item<Unusual>| (known.value, known.id) == (item.value, item.id);
        if !own.is_some_and(|own| own.of(item.dimension).iter().any(counts)) {
            return Vec::new();
        }
        let mut changed = Vec::new();
        let sighting = (item.at, item.id);
        for (root, own) in self.lineage.accounts_above(*credential, *account, sighting) {
            let item = Item { credential_id: own.map(str::to_owned), ..item.clone() };
            if let Some(episode) = self.episodes.get_mut(day, root)
                && episode.began_by(sighting)
                && episode.add(item)
            {
                changed.push((day, root));
            }
        }
        changed
    }
}

impl Detector for LeakedCredential {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings) {
        let Observation { event, keys } = observation;
        let Some(principal) = event.principal_id else { return };
        if event.kind == Kind::ExposureReported {
            self.exposures.report(observation, principal, &self.lineage, findings);
        }
        if matches!(event.principal_kind, PrincipalKind::System | PrincipalKind::Anonymous) {
            return;
        }
        let mut seen = Sighting::glance(observation, principal);
        if event.kind != Kind::ExposureReported {
            self.exposures.used(observation, seen.account, &self.lineage, findings);
        }
        if event.issued_credential_id.is_some() {
            self.lineage.minted(observation, seen.account);
        }
        let profile = self.profiles.touch(seen.account, seen.at, Profile::default);
        if profile.repeats(&seen) && !may_be_act(event) {
            return;
        }
        seen.read(observation, &mut self.tools);
        let news = profile.learn(&seen, &mut self.commons, &mut self.novelty);
        if news.first_in_window {
            self.tests.add(seen.at);
        }

        let mut items = Vec::new();
        let wanted = Wanted::by(&seen, &self.episodes);
        let wants = |dimension, value, at| wanted.wants(dimension, value, at);
        self.lineage.used(observation, &seen, &wants, &mut items);
        let at_desk = news.tool.is_some() && seen.tool.as_ref().is_some_and(is_desk);
        let in_function = at_desk && self.lineage.ran_in_function(keys.credential);
        self.places.used(observation, &seen, &news, in_function, &wants, &mut items);
        let profile = self.profiles.get(seen.account).expect("the profile was touched above");
        Self::novelties(observation, &seen, &news, profile, &wanted, &mut items);
        let acts = Self::acts(observation, &seen, &news, &wanted);
        items.extend(acts.iter().cloned());

        if items.is_empty() && wanted.episode.is_none() {
            return;
        }
        self.overlap(event, &seen, &mut items);
        let mut changed = Vec::new();
        for item in items {
            let day = day_of(item.at);
            if self.add(seen.account, || Who::of(event, principal), item) {
                changed.push((day, seen.account));
            }
        }
        if event.credential_id.is_some() {
            let deed = |item| Deed { account: seen.account, credential: keys.credential, item };
            acts.into_iter().for_each(|item| self.deeds.push(deed(item)));
        }
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

    fn close(&mut self, watermark: Micros, findings: &mut Findings) {
        let episodes = &self.episodes;
        let wants = |account, dimension, value, at| episodes.wants(account, dimension, value, at);
        for (account, who, item) in self.places.settle(watermark, &wants) {
            let day = day_of(item.at);
            if self.add(account, || who.clone(), item) {
                self.unsettled.extend([(day, account), (day + 1, account)]);
            }
        }
        for deed in self.deeds.before(watermark, |deed| deed.item.at) {
            for (day, root) in self.credit(&deed) {
                self.unsettled.extend([(day, root), (day + 1, root)]);
            }
        }
        for (day, account) in std::mem::take(&mut self.unsettled) {
            let told = self.weigh(account, day, When::Settled(watermark), findings);
            let episode = self.episodes.get(day, account);
            if episode.is_some_and(|episode| !episode.is_settled(watermark))
                || told.is_some_and(|last| last + report::CHILDREN_WITHIN >= watermark)
            {
                self.unsettled.insert((day, account));
            }
        }
        self.episodes.forget_before(day_of(watermark) - 2);
        self.exposures.close(findings);
    }

    fn evicted_total(&self) -> u64 {
        self.episodes.evicted_total()
            + self.profiles.evicted_total()
            + self.commons.evicted_total()
            + self.lineage.evicted_total()
            + self.places.evicted_total()
            + self.exposures.evicted_total()
            + self.deeds.evicted_total()
    }

    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = (
            &self.profiles,
            &self.commons,
            &self.lineage,
            &self.places,
            &self.exposures,
            &self.episodes,
            &self.deeds,
            &self.unsettled,
            &self.tests,
        );
        save(&state, out)
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable> {
        let (profiles, commons, lineage, places, exposures, episodes, deeds, unsettled, tests) =
            postcard::from_bytes(saved)?;
        self.profiles = profiles;
        self.commons = commons;
        self.lineage = lineage;
        self.places = places;
        self.exposures = exposures;
        self.episodes = episodes;
        self.deeds = deeds;
        self.unsettled = unsettled;
        self.tests = tests;
        Ok(())
    }
}

impl LeakedCredential {
    /// Evidence that the owner went on working from a known network after a new one appeared.
    fn overlap(&self, event: &Event<'_>, seen: &Sighting, items: &mut Vec<Item<Unusual>>) {
        let episode = self.episodes.get(day_of(seen.at), seen.account);
        let new = episode
            .into_iter()
            .flat_map(|episode| episode.of(Unusual::Network))
            .chain(items.iter().filter(|item| item.dimension == Unusual::Network))
            .map(|item| (item.at, item.value, &item.observed, &item.credential_id))
            .min();
        let Some((at, new_network, network, credential)) = new else { return };
        let Some(profile) = self.profiles.get(seen.account) else { return };
        let credential = credential.as_deref().map(key);
        let several = profile.networks.until(seen.window).len() > 6;
        let probability = if several { 0.3 } else { 0.05 };
        let by_anyone = (None, probability, "a known network goes on working");
        let by_itself = credential.map(|credential| {
            let what = "the same credential comes back to a known network";
            (Some(credential), probability * RETURNS, what)
        });
        let mut found = Vec::new();
        for (value, (with, probability, what)) in
            (0..).zip([Some(by_anyone), by_itself].into_iter().flatten())
        {
            let Some(familiar) = profile.familiar_after(at, new_network, with) else { continue };
            let is_wanted = episode.is_none_or(|episode| {
                episode.wants(Unusual::Overlap, value, familiar.at, Some(familiar.id))
            });
            if day_of(familiar.at) == day_of(seen.at) && is_wanted {
                let mut item = Item::new(event, Unusual::Overlap, value, probability)
                    .observed(format!("{what} beside {network}"));
                (item.at, item.id) = (familiar.at, familiar.id);
                (item.source_ip, item.credential_id, item.target_id) = (None, None, None);
                found.push(item);
            }
        }
        items.append(&mut found);
    }
}

/// An act, and by which account with which credential.
#[derive(Debug, Serialize, Deserialize)]
struct Deed {
    account: u64,
    credential: u64,
    item: Item<Unusual>,
}

/// What would be news to the episodes of an account: evidence that is not wanted need not be
/// written out.
struct Wanted<'e> {
    seen: &'e Sighting,
    /// The account's episode on the day of the sighting.
    episode: Option<&'e Episode<Unusual>>,
    episodes: &'e Episodes<Unusual>,
}

impl<'e> Wanted<'e> {
    fn by(seen: &'e Sighting, episodes: &'e Episodes<Unusual>) -> Self {
        Self { seen, episode: episodes.get(day_of(seen.at), seen.account), episodes }
    }

    /// Whether the day has such evidence, but later than `at`.
    fn later(&self, dimension: Unusual, at: Micros) -> bool {
        let last = self.episode.and_then(|episode| episode.of(dimension).last());
        last.is_some_and(|item| item.at > at)
    }

    fn wants(&self, dimension: Unusual, value: u64, at: Micros) -> bool {
        if at == self.seen.at {
            let id = Some(self.seen.id);
            return self.episode.is_none_or(|episode| episode.wants(dimension, value, at, id));
        }
        self.episodes.wants(self.seen.account, dimension, value, at)
    }
}

/// A tool that belongs on somebody's desk and not under a workload.
fn is_desk(tool: &Tool) -> bool {
    tool.browser || matches!(tool.platform, "macos" | "windows") || tool.offensive.is_some()
}
