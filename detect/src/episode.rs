//! An episode: what was unusual about one account within a day, each thing once, at its earliest.
//!
//! Episodes lie on a grid of days, so a late event never moves one. Evidence is a set in which the
//! earliest sighting of each thing wins, so the order of arrival does not matter either.

use crate::baseline::make_room;
use crate::detectors::Page;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use telltale_schema::time::{DAY, HOUR};
use telltale_schema::{Dimension, Event, EventId, Finding, Micros, Severity};

/// Evidence of one dimension kept for one episode; the earliest stays.
const MAX_ITEMS: usize = 24;
/// How far an episode looks back into the day before it.
const LOOK_BACK: Micros = 6 * HOUR;

/// One unusual thing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item<D> {
    pub at: Micros,
    pub id: EventId,
    /// Further events that it rests on, such as those of a count.
    pub also: Vec<EventId>,
    pub dimension: D,
    /// Which one of its dimension; evidence of the same dimension and value is one.
    pub value: u64,
    /// Tail probability of this one alone.
    pub probability: f64,
    /// For counts of new things: values seen once, windows known. For others free to use.
    pub once: u32,
    pub windows: u32,
    /// A second key, such as the service of an operation.
    pub group: u64,
    pub observed: String,
    pub usual: String,
    pub source_ip: Option<String>,
    pub credential_id: Option<String>,
    pub target_id: Option<String>,
    pub operation: Option<String>,
}

impl<D> Item<D> {
    pub fn new(event: &Event<'_>, dimension: D, value: u64, probability: f64) -> Self {
        Self {
            at: event.event_time,
            id: event.event_id,
            also: Vec::new(),
            dimension,
            value,
            probability,
            once: 0,
            windows: 0,
            group: 0,
            observed: String::new(),
            usual: String::new(),
            source_ip: event.source_ip.map(str::to_owned),
            credential_id: event.credential_id.map(str::to_owned),
            target_id: event.target_id.map(str::to_owned),
            operation: None,
        }
    }

    /// Names the operation, where the evidence is this event and no other.
    pub fn during(mut self, event: &Event<'_>) -> Self {
        self.operation = event.operation.map(str::to_owned);
        self
    }

    pub fn observed(mut self, text: impl Into<String>) -> Self {
        self.observed = text.into();
        self
    }

    pub fn usual(mut self, text: impl Into<String>) -> Self {
        self.usual = text.into();
        self
    }
}

/// Whom an episode is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Who {
    pub log: Box<str>,
    pub tenant: Option<Box<str>>,
    pub principal_id: Box<str>,
    /// What people call it, where its id says nothing to them.
    name: Option<Box<str>>,
    pub principal_kind: telltale_schema::PrincipalKind,
}

impl Who {
    pub fn of(event: &Event<'_>, principal: &str) -> Self {
        Self {
            log: event.log.into(),
            tenant: event.tenant.map(Into::into),
            principal_id: principal.into(),
            name: event.principal_name.filter(|_| is_uuid(principal)).map(Into::into),
            principal_kind: event.principal_kind,
        }
    }

    /// What people call it.
    pub fn short(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| short_name(&self.principal_id))
    }

    /// Its id, and what people call it where that says more.
    pub fn full(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.principal_id),
            None => self.principal_id.to_string(),
        }
    }
}

/// The last part of an ARN, which is what people call it; else the id.
pub fn short_name(principal: &str) -> &str {
    match principal.starts_with("arn:") {
        true => principal.rsplit('/').next().unwrap_or(principal),
        false => principal,
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The evidence about one account in one day of the grid, with the end of the day before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Episode<D> {
    pub who: Who,
    /// The earliest evidence, whose event said who it is.
    known_from: (Micros, EventId),
    pub day: i64,
    /// By dimension, the evidence of each in order of time.
    kinds: Vec<(D, Vec<Item<D>>)>,
}

/// At which moment evidence is weighed.
///
/// On arrival, something earlier may still come and shift the evidence to an earlier hour. It is
/// weighed as if it had, so that a page that is raised then also stands when all is settled.
#[derive(Clone, Copy, Debug)]
pub enum When {
    Arrival,
    /// Up to a watermark.
    Settled(Micros),
    Final,
}

impl When {
    pub fn includes(self, at: Micros) -> bool {
        !matches!(self, Self::Settled(watermark) if at >= watermark)
    }

    /// Windows from the first to the last of some evidence.
    pub fn windows(self, first: Micros, last: Micros) -> u32 {
        let between = (last.div_euclid(HOUR) - first.div_euclid(HOUR)) as u32;
        1 + between + u32::from(matches!(self, Self::Arrival))
    }

    /// On arrival only pages are worth the work; a ticket waits for the watermark.
    pub fn reports(self, severity: Severity) -> bool {
        severity.pages() || !matches!(self, Self::Arrival)
    }
}

/// The day of the grid.
pub fn day_of(at: Micros) -> i64 {
    at.div_euclid(DAY)
}

impl<D: Copy + Ord> Episode<D> {
    pub fn new(who: Who, known_from: (Micros, EventId), day: i64) -> Self {
        Self { who, known_from, day, kinds: Vec::new() }
    }

    /// Whether evidence at `at` would say something new: not known, or known from later on. Of two
    /// at the same instant the lesser id is the earlier; without one, any may be.
    pub fn wants(&self, dimension: D, value: u64, at: Micros, id: Option<EventId>) -> bool {
        let known = self.of(dimension);
        // Of many only something earlier would still find room.
        known.get(MAX_ITEMS - 1).is_none_or(|last| at <= last.at)
            && known.iter().find(|item| item.value == value).is_none_or(|item| {
                at < item.at || at == item.at && id.is_none_or(|id| id < item.id)
            })
    }

    /// Adds evidence; the earliest of its dimension and value stays. True when that changed it.
    pub fn add(&mut self, item: Item<D>) -> bool {
        let known = self.kind(item.dimension);
        let rank = |item: &Item<D>| (item.at, item.id, item.value);
        let new = rank(&item);
        match known.iter().position(|known| known.value == item.value) {
            Some(at) if rank(&known[at]) <= new => return false,
            Some(at) => drop(known.remove(at)),
            None if known.get(MAX_ITEMS - 1).is_some_and(|last| rank(last) < new) => return false,
            None => {}
        }
        let place = known.partition_point(|known| rank(known) < new);
        make_room(known);
        known.insert(place, item);
        known.truncate(MAX_ITEMS);
        true
    }

    /// The evidence of `dimension`, for more of it.
    fn kind(&mut self, dimension: D) -> &mut Vec<Item<D>> {
        let at = match self.kinds.binary_search_by_key(&dimension, |(known, _)| *known) {
            Ok(at) => at,
            Err(at) => {
                make_room(&mut self.kinds);
                self.kinds.insert(at, (dimension, Vec::new()));
                at
            }
        };
        &mut self.kinds[at].1
    }

    /// Puts evidence in the place of what was known of its dimension and value. True when that
    /// changed it.
    pub fn replace(&mut self, item: Item<D>) -> bool {
        let known = self.kind(item.dimension);
        let unchanged = known.iter().any(|known| {
            known.value == item.value
                && (known.at, known.id, known.once) == (item.at, item.id, item.once)
                && known.observed == item.observed
                && known.also == item.also
        });
        if unchanged {
            return false;
        }
        known.retain(|known| known.value != item.value);
        self.add(item)
    }

    /// Evidence of one dimension in order of time.
    pub fn of(&self, dimension: D) -> &[Item<D>] {
        let kind = self.kinds.iter().find(|(known, _)| *known == dimension);
        kind.map_or(&[], |(_, items)| items)
    }

    /// All evidence in order of time.
    pub fn items(&self) -> Vec<&Item<D>> {
        let mut items: Vec<_> = self.kinds.iter().flat_map(|(_, items)| items).collect();
        items.sort_by_key(|item| (item.at, item.id, item.dimension, item.value));
        items
    }

    /// Whether all evidence lies before the watermark.
    pub fn is_settled(&self, watermark: Micros) -> bool {
        let mut latest = self.kinds.iter().filter_map(|(_, items)| items.last());
        latest.all(|item| item.at < watermark)
    }

    /// Whether there was evidence already when something was seen.
    pub fn began_by(&self, sighting: (Micros, EventId)) -> bool {
        let mut first = self.kinds.iter().filter_map(|(_, items)| items.first());
        first.any(|item| (item.at, item.id) <= sighting)
    }

    /// What the end of this day lends to the next, in order of time.
    pub fn tail(&self) -> Vec<&Item<D>> {
        let from = (self.day + 1) * DAY - LOOK_BACK;
        let mut items = self.items();
        items.retain(|item| item.at >= from);
        items
    }

    /// A finding with everything that follows from the evidence alone.
    ///
    /// `justify` are the items that count, in order of time.
    pub fn finding(
        &self,
        page: &Page,
        account: u64,
        severity: Severity,
        raised_at: Micros,
        justify: &[&Item<D>],
    ) -> Finding {
        let mut event_ids: Vec<EventId> = Vec::new();
        for item in justify {
            for id in item.also.iter().chain([&item.id]) {
                if !event_ids.contains(id) {
                    event_ids.push(*id);
                }
            }
        }
        let event_count = event_ids.len() as u64;
        event_ids.truncate(Finding::MAX_EVENTS);
        Finding {
            id: finding_id(page.detector, account, self.day),
            detector: page.detector.into(),
            severity,
            title: String::new(),
            sentence: String::new(),
            next_steps: Vec::new(),
            log: self.who.log.clone().into(),
            tenant: self.who.tenant.clone().map(Into::into),
            principal_id: self.who.principal_id.clone().into(),
            principal_kind: self.who.principal_kind,
            credential_id: accused(justify),
            child_credential_ids: Vec::new(),
            target_ids: distinct(justify.iter().filter_map(|item| item.target_id.clone())),
            source_ips: distinct(justify.iter().filter_map(|item| item.source_ip.clone())),
            operations: distinct(justify.iter().filter_map(|item| item.operation.clone())),
            raised_at,
            first_seen: justify.first().map_or(raised_at, |item| item.at),
            last_seen: justify.last().map_or(raised_at, |item| item.at),
            dimensions: Vec::new(),
            event_ids,
            event_count,
            attack: Finding::ids(page.attack),
            owasp_nhi: Finding::ids(page.owasp_nhi),
        }
    }
}

/// Episodes by day and account, at most so many: the oldest goes first.
#[derive(Debug, Serialize, Deserialize)]
pub struct Episodes<D> {
    episodes: BTreeMap<(i64, u64), Episode<D>>,
    cap: usize,
    evicted: u64,
}

impl<D: Copy + Ord> Episodes<D> {
    pub fn new(cap: usize) -> Self {
        Self { episodes: BTreeMap::new(), cap, evicted: 0 }
    }

    pub fn get(&self, day: i64, account: u64) -> Option<&Episode<D>> {
        self.episodes.get(&(day, account))
    }

    pub fn get_mut(&mut self, day: i64, account: u64) -> Option<&mut Episode<D>> {
        self.episodes.get_mut(&(day, account))
    }

    /// Whether evidence about `account` at `at` would say something new, whatever its id.
    pub fn wants(&self, account: u64, dimension: D, value: u64, at: Micros) -> bool {
        let episode = self.get(day_of(at), account);
        episode.is_none_or(|episode| episode.wants(dimension, value, at, None))
    }

    /// The episode of `account` to which `item` belongs, begun if need be. The earliest evidence
    /// says about whom it is: an account may act in several tenants.
    pub fn begun(
        &mut self,
        account: u64,
        item: &Item<D>,
        who: impl Fn() -> Who,
    ) -> &mut Episode<D> {
        let (day, sighting) = (day_of(item.at), (item.at, item.id));
        if self.episodes.len() >= self.cap && !self.episodes.contains_key(&(day, account)) {
            self.episodes.pop_first();
            self.evicted += 1;
        }
        let new = || Episode::new(who(), sighting, day);
        let episode = self.episodes.entry((day, account)).or_insert_with(new);
        if sighting < episode.known_from {
            (episode.who, episode.known_from) = (who(), sighting);
        }
        episode
    }

    /// Whether the next one that is begun may drive another out before it is settled.
    pub fn is_full(&self) -> bool {
        self.episodes.len() >= self.cap
    }

    /// Forgets the days before `day`; this is expiry and not an eviction.
    pub fn forget_before(&mut self, day: i64) {
        while let Some(((first, _), _)) = self.episodes.first_key_value()
            && *first < day
        {
            self.episodes.pop_first();
        }
    }

    pub fn evicted_total(&self) -> u64 {
        self.evicted
    }
}

/// Hex of a hash of detector, account and the start of the episode.
pub fn finding_id(detector: &str, account: u64, start: i64) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(detector.as_bytes());
    hasher.update(&account.to_le_bytes());
    hasher.update(&start.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The credential in whose use most of the evidence shows; `None` where that is of calls without one.
/// An account has many, and those that work as ever have some evidence too.
///
/// Of each dimension the strongest counts, because a busy credential has more of the same. What was
/// put together from several calls has no address, and says nothing of the credential.
fn accused<D: Copy + Ord>(justify: &[&Item<D>]) -> Option<String> {
    let mut weights: Vec<(Option<&str>, BTreeMap<D, f64>)> = Vec::new();
    for item in justify.iter().filter(|item| item.source_ip.is_some()) {
        let credential = item.credential_id.as_deref();
        let at = weights.iter().position(|(known, _)| *known == credential);
        let at = at.unwrap_or_else(|| {
            weights.push((credential, BTreeMap::new()));
            weights.len() - 1
        });
        let strongest = weights[at].1.entry(item.dimension).or_default();
        *strongest = strongest.max(-item.probability.log10());
    }
    let weight = |dimensions: &BTreeMap<D, f64>| dimensions.values().sum::<f64>();
    // Of equals the earliest.
    let most = weights.iter().rev().max_by(|(_, a), (_, b)| weight(a).total_cmp(&weight(b)));
    match most {
        Some((credential, _)) => credential.map(str::to_owned),
        None => justify.iter().find_map(|item| item.credential_id.clone()),
    }
}

/// A dimension as a part of a sentence.
pub fn phrase(dimension: &Dimension) -> String {
    let usual = match dimension.usual.as_str() {
        "" => String::new(),
        usual => format!(" (usual: {usual})"),
    };
    format!("{} {}{usual}", dimension.name, dimension.observed)
}

/// What was usual in so many hours of an account, for whoever reads it.
pub fn in_active_hours(what: impl std::fmt::Display, hours: u32) -> String {
    match hours {
        0 => "not known yet".to_owned(),
        1 => format!("{what} in one active hour"),
        _ => format!("{what} in {hours} active hours"),
    }
}

/// The first few distinct ones, in their order.
pub fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in texts {
        if found.len() < Finding::MAX_EVENTS && !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// One dimension for each kind of evidence: the rarest speaks, and says how many there were.
pub fn dimensions<D: Copy + Ord>(
    justify: &[&Item<D>],
    name: impl Fn(D) -> &'static str,
    probability: impl Fn(D, &[&Item<D>]) -> Option<f64>,
) -> Vec<Dimension> {
    let mut kinds: Vec<D> = justify.iter().map(|item| item.dimension).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
        .into_iter()
        .map(|kind| {
            let items: Vec<_> =
                justify.iter().copied().filter(|item| item.dimension == kind).collect();
            let mut observed = distinct(items.iter().map(|item| item.observed.clone()));
            let rest = observed.len().saturating_sub(6);
            observed.truncate(6);
            let mut text = observed.join(", ");
            if rest > 0 {
                text.push_str(&format!(" and {rest} more"));
            }
            Dimension {
                name: name(kind).into(),
                observed: text,
                usual: items[0].usual.clone(),
                probability: probability(kind, &items),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_called_by_its_name_where_its_id_says_nothing() {
        let who = |principal: &str| {
            let event = Event { principal_name: Some("approle-ci"), ..Event::new("log", 1) };
            let who = Who::of(&event, principal);
            (who.short().to_owned(), who.full())
        };
        let called = |short: &str, full: &str| (short.to_owned(), full.to_owned());
        let id = "2737d58a-0a1b-4c2d-8e3f-a1b2c3d4e5f6";
        assert_eq!(who(id), called("approle-ci", &format!("approle-ci ({id})")));
        assert_eq!(who("ci@example.com"), called("ci@example.com", "ci@example.com"));
        let role = "arn:aws:iam::111122223333:role/team/ci";
        assert_eq!(who(role), called("ci", role));
    }
}
