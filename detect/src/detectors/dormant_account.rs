//! ## What it finds
//! An account that was silent for far longer than it ever is, or for `silence`, and then acts again.
//! The first action is the finding; a silence alone is a note about posture.
//! ## Why it matters
//! Forgotten accounts keep their grants, nobody misses their keys, and a first call after months is
//! often somebody else's. ATT&CK T1078.004.
//! ## Fires on / stays quiet on
//! Fires: a call after 90 days; a five-minute job that acts again after a day, from another network;
//! an account seen once that comes back after a week from a network that nobody uses, for other calls.
//! Quiet: weekly, quarterly and yearly jobs whose past shows such silences; weekends; a backlog after
//! the log itself was silent; an account first seen today. Who comes back from the same network with
//! the same tool for the same calls gets a ticket and no page.
//! ## Memory
//! A profile of 1 to 4 kB for each account, the oldest forgotten above `max_accounts`; 64 gaps of each
//! log.

use super::{Page, described, settings};
use crate::baseline::bounded::Bounded;
use crate::baseline::commons::{Commons, Standing};
use crate::baseline::join_keys;
use crate::baseline::place::Tools;
use crate::baseline::profile::{News, Novel, Profile, Sighting, key};
use crate::baseline::tail::{NoveltyOfOne, fisher, silence_tail};
use crate::episode::{Who, finding_id};
use crate::{ConfigError, Detector, DetectorKind, Findings, Observation, Unreadable, save};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;
use telltale_schema::time::{DAY, HOUR, format_instant};
use telltale_schema::{Dimension, EventId, Finding, Kind, Micros, PrincipalKind, Severity};

pub static KIND: DetectorKind = DetectorKind {
    name: NAME,
    help: "an account that acts again after a silence that is long by policy or by its own habit",
    source: include_str!("dormant_account.rs"),
    severity: Severity::High,
    attack: PAGE.attack,
    owasp_nhi: PAGE.owasp_nhi,
    settings: described::<Settings>,
    build: |table| {
        let settings: Settings = settings(NAME, table)?;
        if settings.silence < settings.shortest {
            let cause =
                "`silence` is shorter than `shortest`, which is 20h unless set; shorten both";
            return Err(ConfigError::Settings { name: NAME, cause: cause.to_owned() });
        }
        Ok(Box::new(DormantAccount::new(settings)))
    },
};

const NAME: &str = "dormant_account";
const PAGE: Page =
    Page { detector: NAME, attack: &["T1078.004"], owasp_nhi: &["NHI1:2025", "NHI7:2025"] };

/// Settings of `[[detect]] kind = "dormant_account"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Silence after which an account counts as dormant whatever its habit. Default 90 days.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    silence: Duration,
    /// Silence below which an account's own habit is not looked at. Default 20 hours.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    shortest: Duration,
    /// Silence after which an account whose habit is not known, as it was hardly seen, is looked at.
    /// Default 5 days.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    unknown: Duration,
    /// False pages a day that you put up with from this detector. Default 0.1.
    false_pages_per_day: f64,
    /// Accounts remembered at once; bounds memory at 1 to 4 kB each. Default 200 000.
    max_accounts: usize,
    /// Silent accounts that are noted at the end. Default 20.
    max_notes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(90 * 86_400),
            shortest: Duration::from_secs(20 * 3600),
            unknown: Duration::from_secs(5 * 86_400),
            false_pages_per_day: 0.1,
            max_accounts: 200_000,
            max_notes: 20,
        }
    }
}

/// Activity that is closer together than this is one span.
const SPAN: Micros = 4 * HOUR;
/// Silences below a span are not told apart.
const SHORTEST_HABIT: Micros = 2 * HOUR;
/// A habit takes this long to show.
const HABIT_DAYS: f64 = 4.0;
/// Something new is rarer than this.
const RARE: f64 = 0.35;
/// The same for a network, where nothing is known: it is not near to those that the account used.
const ELSEWHERE: f64 = 0.5;
/// How likely the owner of an account that was hardly seen comes back with something new: from a
/// network that nobody in the tenant uses, or that others use; with such a tool; for other calls; to
/// be refused.
mod odds {
    pub const NETWORK: [f64; 2] = [0.02, 0.2];
    pub const TOOL: [f64; 2] = [0.05, 0.3];
    pub const CALLS: [f64; 3] = [0.4, 0.2, 0.1];
    pub const REFUSED: f64 = 0.2;
    /// A page below this.
    pub const PAGE: f64 = 5e-3;
}
/// The first hours after a silence belong to the finding.
const WAKING: Micros = 6 * HOUR;
/// A log is silent for a reason of its own when nobody acted for this long, and for more than twice
/// as long as it ever was silent before.
const OUTAGE: Micros = 2 * HOUR;
/// A silence longer than this is no outage; in a log of fewer accounts it says nothing.
const LONGEST_OUTAGE: Micros = 4 * DAY;
const BUSY: usize = 4;
const MAX_OUTAGES: usize = 64;

/// One account.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    profile: Profile,
    who: Option<Who>,
    /// Where the present span of activity began and where the account was last active.
    started_at: Micros,
    last_at: Micros,
    /// The end of the span before, and the longest silence before that end.
    silent_from: Option<Micros>,
    longest: Micros,
    first_at: Micros,
    /// Few are waking at any time.
    wake: Option<Box<Wake>>,
}

/// What an account does in its first hours after a silence.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Wake {
    events: Vec<(Micros, EventId)>,
    count: u64,
    credential_id: Option<String>,
    addresses: BTreeSet<String>,
    network: Option<(f64, String, String)>,
    tool: Option<(f64, String)>,
    operations: BTreeSet<String>,
    refusals: BTreeSet<String>,
    /// The odds of its network and tool, and how many operations were new.
    strange: Strange,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Strange {
    network: f64,
    tool: f64,
    /// The first few new operations.
    calls: Vec<u64>,
    refused: bool,
}

impl Default for Strange {
    fn default() -> Self {
        Self { network: 1.0, tool: 1.0, calls: Vec::new(), refused: false }
    }
}

impl Strange {
    /// How likely all of it is for somebody of whom hardly anything is known.
    fn odds(&self) -> f64 {
        let calls = self.calls.len().checked_sub(1).map_or(1.0, |more| odds::CALLS[more]);
        self.network * self.tool * calls * if self.refused { odds::REFUSED } else { 1.0 }
    }
}

/// When a log was silent as a whole.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Log {
    last_at: Micros,
    longest_gap: Micros,
    outages: Vec<(Micros, Micros)>,
    /// The first few accounts that acted in it.
    accounts: Vec<u64>,
}

/// The state machine.
pub struct DormantAccount {
    settings: Settings,
    accounts: Bounded<Account>,
    logs: Bounded<Log>,
    commons: Commons,
    tools: Tools,
    novelty: NoveltyOfOne,
    /// Accounts whose wake has changed since the last close.
    waking: BTreeSet<u64>,
    noted: BTreeSet<u64>,
    /// The last day that is over, when silent accounts were last looked for.
    looked: Option<i64>,
}

impl DormantAccount {
    pub fn new(settings: Settings) -> Self {
        Self {
            accounts: Bounded::new(settings.max_accounts),
            logs: Bounded::new(10_000),
            commons: Commons::new(settings.max_accounts),
            tools: Tools::default(),
            novelty: NoveltyOfOne::default(),
            waking: BTreeSet::new(),
            noted: BTreeSet::new(),
            looked: None,
            settings,
        }
    }

    /// The finding about an account that woke up, if its silence was unusual.
    fn wake(&self, key: u64) -> Option<Finding> {
        let account = self.accounts.get(key)?;
        let (who, wake) = (account.who.as_ref()?, account.wake.as_ref()?);
        let from = account.silent_from?;
        let log = self.logs.get(log_key(who))?;
        let whole = account.started_at - from;
        let silence = whole - log.silent_within(from, account.started_at);
        let policy = silence >= micros(self.settings.silence);
        let unknown = observed_days(from, account) < HABIT_DAYS;
        if unknown && !policy && silence >= micros(self.settings.unknown) {
            let odds = wake.strange.odds();
            // A role is taken on by whoever may, from wherever they are.
            let person = matches!(who.principal_kind, PrincipalKind::Human | PrincipalKind::Role);
            let severity = match odds {
                _ if wake.strange.network >= 1.0 => return None,
                ..=odds::PAGE if !person => Severity::High,
                ..=0.02 => Severity::Medium,
                _ => return None,
            };
            return Some(self.write(key, account, who, wake, severity, silence, odds, false));
        }
        let observed_days = observed_days(from, account);
        let longest = account.longest.max(SHORTEST_HABIT);
        let habit = observed_days >= HABIT_DAYS && silence >= micros(self.settings.shortest);
        let tail = silence_tail(longest as f64, observed_days, silence as f64);
        // A silence like the ones before is nobody's business, however long.
        if !(habit && tail <= 0.01 || policy && (tail <= 0.5 || observed_days < HABIT_DAYS)) {
            return None;
        }
        let network = wake.network.as_ref().map_or(1.0, |(probability, ..)| *probability);
        let tool = wake.tool.as_ref().map_or(1.0, |(probability, _)| *probability);
        let calls = match (wake.operations.len(), wake.refusals.len()) {
            (0, 0) => 1.0,
            (_, 0) => 0.1,
            _ => 0.03,
        };
        // A policy is a prior of its own: what comes back after it need not be rare as well.
        let silent = if policy { tail.min(1e-4) } else { tail };
        let probability = fisher(&[silent, network, tool, calls], 4);
        let changed = [network < 0.1, tool < 0.1, calls < 0.1 || wake.operations.len() >= 2]
            .iter()
            .filter(|changed| **changed)
            .count();
        let person = who.principal_kind == PrincipalKind::Human;
        let pages = match (policy, person) {
            (true, false) => changed >= 1,
            (true, true) | (false, false) => changed >= 2,
            (false, true) => false,
        } || (!person && changed >= 1 && network < 0.1 && tail <= 1e-3);
        let budget = (self.settings.false_pages_per_day / 20.0).clamp(1e-6, 0.05);
        let severity = match (pages && probability <= budget, changed, policy) {
            (true, ..) => Severity::High,
            (false, 1.., _) | (_, _, true) => Severity::Medium,
            _ => Severity::Low,
        };
        Some(self.write(key, account, who, wake, severity, silence, tail, policy))
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        key: u64,
        account: &Account,
        who: &Who,
        wake: &Wake,
        severity: Severity,
        silence: Micros,
        tail: f64,
        policy: bool,
    ) -> Finding {
        let from = account.silent_from.unwrap_or(account.first_at);
        let known = from - account.first_at;
        let hardly = observed_days(from, account) < HABIT_DAYS;
        let mut dimensions = vec![Dimension {
            name: "silence".into(),
            observed: spell(silence),
            usual: match hardly {
                true => format!("unknown, seen for {} only", spell(known)),
                false => format!("at most {}", spell(account.longest.max(SHORTEST_HABIT))),
            },
            probability: (!policy && !hardly).then_some(tail),
        }];
        if let Some((probability, network, usual)) = &wake.network {
            dimensions.push(Dimension {
                name: "network".into(),
                observed: network.clone(),
                usual: usual.clone(),
                probability: Some(*probability),
            });
        }
        if let Some((probability, tool)) = &wake.tool {
            dimensions.push(Dimension {
                name: "tool".into(),
                observed: tool.clone(),
                usual: String::new(),
                probability: Some(*probability),
            });
        }
        let done: Vec<_> = wake.operations.difference(&wake.refusals).collect();
        let refused: Vec<_> = wake.refusals.iter().collect();
        for (name, operations) in [("operations", done), ("refusals", refused)] {
            if !operations.is_empty() {
                let few: Vec<_> = operations.iter().take(6).map(|name| name.as_str()).collect();
                dimensions.push(Dimension {
                    name: name.into(),
                    observed: few.join(", "),
                    usual: "none of these".to_owned(),
                    probability: None,
                });
            }
        }
        let changed: Vec<_> =
            dimensions[1..].iter().map(|d| format!("{} {}", d.name, d.observed)).collect();
        let manner = match changed.is_empty() {
            true => "from where and as it always did".to_owned(),
            false => format!("and not as before: {}", changed.join("; ")),
        };
        let raised_at = account.started_at;
        let (principal, silent) = (who.full(), spell(silence));
        Finding {
            id: finding_id(NAME, key, from.div_euclid(DAY)),
            detector: NAME.into(),
            severity,
            title: format!("{principal}: acts again after {silent}"),
            sentence: match hardly {
                true => format!(
                    "{principal} was seen for {} only, was silent for {silent} until {}, and acts \
                     again {manner}.",
                    spell(known),
                    format_instant(raised_at),
                ),
                false => format!(
                    "{principal} was silent for {silent} until {}, longer than ever in {}, and \
                     acts again {manner}.",
                    format_instant(raised_at),
                    spell(known),
                ),
            },
            next_steps: vec![
                format!("Ask the owner of {principal} whether it was meant to start again."),
                "If nobody knows: disable its credential and revoke open sessions.".to_owned(),
                format!("List what it did from {} on.", format_instant(raised_at)),
                "If it is not needed any more: remove it with its grants.".to_owned(),
            ],
            log: who.log.clone().into(),
            tenant: who.tenant.clone().map(Into::into),
            principal_id: who.principal_id.clone().into(),
            principal_kind: who.principal_kind,
            credential_id: wake.credential_id.clone(),
            child_credential_ids: Vec::new(),
            target_ids: Vec::new(),
            source_ips: wake.addresses.iter().take(Finding::MAX_EVENTS).cloned().collect(),
            operations: wake
                .operations
                .union(&wake.refusals)
                .take(Finding::MAX_EVENTS)
                .cloned()
                .collect(),
            raised_at,
            first_seen: raised_at,
            last_seen: wake.events.last().map_or(raised_at, |(at, _)| *at),
            dimensions,
            event_ids: wake.events.iter().map(|(_, id)| *id).collect(),
            event_count: wake.count,
            attack: Finding::ids(PAGE.attack),
            owasp_nhi: Finding::ids(PAGE.owasp_nhi),
        }
    }

    /// A note about an account that has been silent for as long as the policy says.
    fn note(key: u64, account: &Account, last_at: Micros, midnight: Micros) -> Option<Finding> {
        let who = account.who.as_ref()?;
        let silent = spell(midnight - last_at);
        let principal = who.full();
        Some(Finding {
            id: finding_id(NAME, key, last_at.div_euclid(DAY)),
            detector: NAME.into(),
            severity: Severity::Informational,
            title: format!("{principal}: silent for {silent}"),
            sentence: format!(
                "{principal} has not acted since {} and keeps its grants.",
                format_instant(last_at),
            ),
            next_steps: vec![
                format!("Ask the owner of {principal} whether it is still needed."),
                "If not: remove it with its grants; if so: list it as expected.".to_owned(),
            ],
            log: who.log.clone().into(),
            tenant: who.tenant.clone().map(Into::into),
            principal_id: who.principal_id.clone().into(),
            principal_kind: who.principal_kind,
            credential_id: None,
            child_credential_ids: Vec::new(),
            target_ids: Vec::new(),
            source_ips: Vec::new(),
            operations: Vec::new(),
            raised_at: midnight,
            first_seen: last_at,
            last_seen: last_at,
            dimensions: vec![Dimension {
                name: "silence".into(),
                observed: silent,
                usual: String::new(),
                probability: None,
            }],
            event_ids: Vec::new(),
            event_count: 0,
            attack: Vec::new(),
            owasp_nhi: Finding::ids(PAGE.owasp_nhi),
        })
    }
}

impl Detector for DormantAccount {
    fn name(&self) -> &'static str {
        KIND.name
    }

    fn observe(&mut self, observation: &Observation<'_>, findings: &mut Findings) {
        let Observation { event, keys } = observation;
        let Some(principal) = event.principal_id else { return };
        if event.kind == Kind::ExposureReported
            || matches!(event.principal_kind, PrincipalKind::System | PrincipalKind::Anonymous)
        {
            return;
        }
        let mut seen = Sighting::glance(observation, principal);
        let at = seen.at;
        let shortest = micros(self.settings.shortest);
        let log = join_keys(keys.log, seen.tenant);
        self.logs.touch(log, at, || Log { last_at: at, ..Log::default() }).see(at, seen.account);

        let account = self.accounts.touch(seen.account, at, || Account {
            first_at: at,
            started_at: at,
            last_at: at,
            ..Account::default()
        });
        let earliest = account.who.is_none() || at < account.first_at;
        account.span(at);
        let silent = |from: Micros| account.started_at - from >= shortest;
        let waking = account.silent_from.is_some_and(silent)
            && (account.started_at..=account.started_at + WAKING).contains(&at);
        if account.profile.repeats(&seen) && !waking {
            return;
        }
        seen.read(observation, &mut self.tools);
        let news = account.profile.learn(&seen, &mut self.commons, &mut self.novelty);
        if earliest {
            account.who = Some(Who::of(event, principal));
        }
        if !waking {
            return;
        }
        let usual = match news.network {
            Some(_) => account.profile.usual_networks(seen.window),
            None => String::new(),
        };
        let hardly =
            account.silent_from.is_some_and(|from| observed_days(from, account) < HABIT_DAYS);
        let wake = account.wake.get_or_insert_default();
        let changed = wake.see(observation, &seen, &news, usual, hardly);
        self.waking.insert(seen.account);
        if changed && let Some(finding) = self.wake(seen.account) {
            findings.raise(finding);
        }
    }

    fn close(&mut self, watermark: Micros, findings: &mut Findings) {
        for key in std::mem::take(&mut self.waking) {
            if let Some(finding) = self.wake(key) {
                findings.raise(finding);
            }
        }
        // Posture is looked at once a day, as it is when the day is over, whichever event says that.
        let today = watermark.div_euclid(DAY);
        if self.looked.is_some_and(|looked| looked >= today)
            || self.noted.len() >= self.settings.max_notes
        {
            return;
        }
        self.looked = Some(today);
        let midnight = today * DAY;
        let before = midnight - micros(self.settings.silence);
        let silent = self.accounts.iter().filter_map(|(key, account)| {
            account.last_before(midnight).filter(|at| *at <= before).map(|at| (at, key))
        });
        let mut silent: Vec<_> = silent.collect();
        silent.sort_unstable();
        for (last_at, key) in silent {
            if self.noted.len() >= self.settings.max_notes {
                break;
            }
            if self.noted.insert(key)
                && let Some(account) = self.accounts.get(key)
                // Who has woken since is a finding by then, under the same id.
                && !(account.last_at >= midnight && self.wake(key).is_some())
                && let Some(note) = Self::note(key, account, last_at, midnight)
            {
                findings.raise(note);
            }
        }
    }

    fn evicted_total(&self) -> u64 {
        self.accounts.evicted_total() + self.logs.evicted_total() + self.commons.evicted_total()
    }

    fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { accounts, logs, commons, waking, noted, looked, .. } = self;
        save(&(accounts, logs, commons, waking, noted, looked), out)
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), Unreadable> {
        let (accounts, logs, commons, waking, noted, looked) = postcard::from_bytes(saved)?;
        self.accounts = accounts;
        self.logs = logs;
        self.commons = commons;
        self.waking = waking;
        self.noted = noted;
        self.looked = looked;
        Ok(())
    }
}

impl Account {
    /// When it last acted before `midnight`, as far as events behind that have come already; `None`
    /// where it was at work then.
    fn last_before(&self, midnight: Micros) -> Option<Micros> {
        if self.last_at < midnight {
            Some(self.last_at)
        } else {
            self.silent_from.filter(|_| self.started_at >= midnight)
        }
    }

    /// Extends the present span of activity or begins a new one.
    fn span(&mut self, at: Micros) {
        if at > self.last_at + SPAN {
            if let Some(from) = self.silent_from {
                self.longest = self.longest.max(self.started_at - from);
            }
            self.silent_from = Some(self.last_at);
            self.started_at = at;
            self.wake = None;
        } else if at < self.started_at {
            // A late first action makes the silence shorter.
            self.started_at = at;
        }
        self.first_at = self.first_at.min(at);
        self.last_at = self.last_at.max(at);
    }
}

impl Wake {
    /// Adds an action; true when it says something new.
    fn see(
        &mut self,
        observation: &Observation<'_>,
        seen: &Sighting,
        news: &News,
        usual: String,
        hardly: bool,
    ) -> bool {
        let event = &observation.event;
        let mut changed = self.count == 0;
        self.count += 1;
        let sighting = (seen.at, event.event_id);
        if let Err(place) = self.events.binary_search(&sighting) {
            if place == 0 {
                self.credential_id = event.credential_id.map(str::to_owned);
            }
            self.events.insert(place, sighting);
            self.events.truncate(Finding::MAX_EVENTS);
        }
        if let Some(address) = event.source_ip
            && !self.addresses.contains(address)
            && self.addresses.len() < 2 * Finding::MAX_EVENTS
        {
            self.addresses.insert(address.to_owned());
        }
        changed |= self.strange.see(seen, news);
        // A single past window is enough to compare with after months of silence.
        let rare = |probability: f64, windows: u32| windows > 0 && probability < RARE;
        let shown =
            |novel: Novel| hardly && novel.windows > 0 || rare(novel.probability, novel.windows);
        let elsewhere =
            |novel: Novel| hardly && novel.windows > 0 && novel.probability <= ELSEWHERE;
        if let (Some(novel), Some(network)) = (news.network, seen.network)
            && (elsewhere(novel) || rare(novel.probability, novel.windows))
        {
            let found = (novel.probability.min(0.09), network.to_string(), usual);
            if self.network.as_ref().is_none_or(|known| (found.0, &found.1) < (known.0, &known.1)) {
                self.network = Some(found);
                changed = true;
            }
        }
        if let (Some(novel), Some(tool)) = (news.tool, &seen.tool)
            && shown(novel)
        {
            let found = (novel.probability.min(0.09), tool.to_string());
            if self.tool.as_ref().is_none_or(|known| found < *known) {
                self.tool = Some(found);
                changed = true;
            }
        }
        let name = observation.doing();
        for (novel, set) in
            [(news.operation, &mut self.operations), (news.refusal, &mut self.refusals)]
        {
            if novel.is_some_and(shown)
                && set.len() < 2 * Finding::MAX_EVENTS
                && !set.contains(name.as_ref())
            {
                set.insert(name.clone().into_owned());
                changed = true;
            }
        }
        changed
    }
}

impl Strange {
    /// Takes in what is new about an action; true when that says more than before.
    fn see(&mut self, seen: &Sighting, news: &News) -> bool {
        let before = self.odds();
        if news.windows == 0 {
            return false;
        }
        let of = |novel: Option<Novel>, odds: [f64; 2]| match novel.map(|novel| novel.standing) {
            Some(Standing::Unseen) => odds[0],
            Some(Standing::Shared) => odds[1],
            Some(Standing::Wave) | None => 1.0,
        };
        // Functions and pods move by themselves.
        let moves = seen.tool.as_ref().is_some_and(|tool| tool.platform == "lambda");
        let network = if moves { [odds::NETWORK[1]; 2] } else { odds::NETWORK };
        let elsewhere = news.network.filter(|novel| novel.probability <= ELSEWHERE);
        self.network = self.network.min(of(elsewhere, network));
        self.tool = self.tool.min(of(news.tool, odds::TOOL));
        if news.operation.is_some()
            && self.calls.len() < odds::CALLS.len()
            && !self.calls.contains(&seen.operation)
        {
            self.calls.push(seen.operation);
        }
        self.refused |= seen.refused && news.refusal.is_some();
        self.odds() < before
    }
}

/// For how many days an account was known when it fell silent at `from`.
fn observed_days(from: Micros, account: &Account) -> f64 {
    (from - account.first_at) as f64 / DAY as f64
}

impl Log {
    /// Notes that somebody acted.
    fn see(&mut self, at: Micros, account: u64) {
        if self.accounts.len() < BUSY && !self.accounts.contains(&account) {
            self.accounts.push(account);
        }
        let gap = at - self.last_at;
        if gap > OUTAGE.max(2 * self.longest_gap) && self.longest_gap > 0 {
            self.outages.push((self.last_at, at));
            if self.outages.len() > MAX_OUTAGES {
                self.outages.remove(0);
            }
        } else if let Some((from, to)) = self.outages.last_mut()
            && (*from..*to).contains(&at)
        {
            *to = at;
        }
        // A log that has become sparse is no broken log.
        self.longest_gap = self.longest_gap.max(gap);
        self.last_at = self.last_at.max(at);
    }

    /// How much of a time the log as a whole was silent.
    fn silent_within(&self, from: Micros, to: Micros) -> Micros {
        if self.accounts.len() < BUSY {
            return 0;
        }
        let within = |(start, end): &(Micros, Micros)| ((*end).min(to) - (*start).max(from)).max(0);
        self.outages
            .iter()
            .filter(|(start, end)| (OUTAGE..=LONGEST_OUTAGE).contains(&(end - start)))
            .map(within)
            .sum()
    }
}

fn log_key(who: &Who) -> u64 {
    join_keys(key(&who.log), crate::baseline::text_key(who.tenant.as_deref()))
}

fn micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// `92 days`, `26 hours`, `10 minutes`, `less than a minute`.
fn spell(length: Micros) -> String {
    let minutes = length / (60 * 1_000_000);
    match minutes {
        ..1 => "less than a minute".to_owned(),
        1 => "one minute".to_owned(),
        2..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}
