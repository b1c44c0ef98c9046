//! Credentials: who uses them, from where, and which one minted which.

use super::verdict::Unusual;
use crate::baseline::bounded::Bounded;
use crate::baseline::join_keys;
use crate::baseline::place::Network;
use crate::baseline::profile::{Sighting, key};
use crate::baseline::push_to_few;
use crate::baseline::windows::Daily;
use crate::episode::Item;
use crate::observation::Observation;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use telltale_schema::{EventId, Finding, Kind, Micros};

/// Credentials in a chain that are followed upwards.
const MAX_DEPTH: usize = 6;
/// Places remembered of one credential.
const MAX_PLACES: usize = 6;
/// An account with fewer credentials than this says nothing about how they are used.
const ENOUGH: u64 = 5;
/// Kinds of accounts whose custom counts for an account that is little known, and the least that it
/// may be.
const MAX_CUSTOMS: usize = 256;
const CUSTOM: f64 = 0.02;
/// Tools whose names are kept.
const MAX_TOOLS: usize = 16_384;

/// One credential.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Credential {
    /// Most neither mint nor were seen to be minted.
    family: Option<Box<Family>>,
    /// Its id, once it was used.
    id: Option<Box<str>>,
    networks: Vec<Place>,
    tools: Vec<Place>,
    /// Counted as one that was seen in two networks, with two tools.
    counted: [bool; 2],
}

/// Where a credential came from and what it minted.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Family {
    /// When it was minted, by which event, with which credential and by which account.
    minted: Option<Minted>,
    children: Vec<(Micros, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Minted {
    at: Micros,
    by: EventId,
    parent: u64,
    account: u64,
}

impl Credential {
    fn minted(&self) -> Option<Minted> {
        self.family.as_ref()?.minted
    }

    fn family(&mut self) -> &mut Family {
        self.family.get_or_insert_default()
    }
}

/// Where or with what a credential was first used: the number of a network or a host, or the key of a
/// tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    at: Micros,
    id: EventId,
    value: u64,
}

/// How many credentials an account used, and in how many networks and tools each.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Habit {
    credentials: Daily,
    /// Few accounts use one credential in several.
    several: Option<Box<[Daily; 2]>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Lineage {
    credentials: Bounded<Credential>,
    habits: Bounded<Habit>,
    /// The same of all accounts of a log and kind, for one that is little known.
    customs: Bounded<Habit>,
    /// What tools are called.
    tools: Bounded<Box<str>>,
}

impl Lineage {
    pub fn new(cap: usize) -> Self {
        Self {
            credentials: Bounded::new(cap),
            habits: Bounded::new(cap),
            customs: Bounded::new(MAX_CUSTOMS),
            tools: Bounded::new(MAX_TOOLS),
        }
    }

    pub fn evicted_total(&self) -> u64 {
        self.credentials.evicted_total()
            + self.habits.evicted_total()
            + self.customs.evicted_total()
            + self.tools.evicted_total()
    }

    /// Notes the credential that `event` minted.
    pub fn minted(&mut self, observation: &Observation<'_>, account: u64) {
        let Observation { event, keys } = observation;
        let Some(child) = event.issued_credential_id else { return };
        let parent = event.credential_id.map_or(account, |_| keys.credential);
        let at = event.event_time;
        let minting = Minted { at, by: event.event_id, parent, account };
        let credential = self.credentials.touch(key(child), at, Credential::default);
        // The earliest counts, whichever is told first.
        let minted = &mut credential.family().minted;
        *minted = Some(minted.map_or(minting, |known| known.min(minting)));
        // Whoever signs in uses what it gets from there.
        let itself = event.target_id.is_none_or(|target| event.principal_id == Some(target));
        let signs_in = itself || event.kind == Kind::Authentication;
        if let Some((_, host)) = event.source_ip.filter(|_| signs_in).and_then(Network::with_host) {
            note(&mut credential.networks, (at, event.event_id), host.0, is_same_network);
        }
        let children =
            &mut self.credentials.touch(parent, at, Credential::default).family().children;
        match children.iter_mut().find(|(_, known)| known == child) {
            Some((known_at, _)) => *known_at = at.min(*known_at),
            None => children.push((at, child.to_owned())),
        }
        children.sort_unstable();
        if children.len() > 2 * Finding::MAX_EVENTS {
            // A broker mints all day: its latest children are those in question.
            children.remove(0);
        }
    }

    /// What `credential` and its children minted in `span`, in order of minting.
    pub fn children_of(&self, credential: &str, span: Range<Micros>) -> Vec<String> {
        let mut found: Vec<(Micros, String)> = Vec::new();
        let mut todo = vec![key(credential)];
        while let Some(parent) = todo.pop() {
            let family = self.credentials.get(parent).and_then(|c| c.family.as_ref());
            for child in family.into_iter().flat_map(|family| &family.children) {
                if span.contains(&child.0) && found.len() < 200 && !found.contains(child) {
                    todo.push(key(&child.1));
                    found.push(child.clone());
                }
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, child)| child).take(Finding::MAX_EVENTS).collect()
    }

    /// The id of a credential that was used.
    pub fn id(&self, credential: u64) -> Option<&str> {
        self.credentials.get(credential)?.id.as_deref()
    }

    /// Whether a credential was first used within a function or a container.
    pub fn ran_in_function(&self, credential: u64) -> bool {
        let first = self.credentials.get(credential).and_then(|known| known.tools.first());
        let name = first.and_then(|tool| self.tools.get(tool.value));
        let platforms = [" on lambda", " on container"];
        name.is_some_and(|name| platforms.iter().any(|platform| name.ends_with(platform)))
    }

    /// The credentials above this one, itself first.
    pub fn chain(&self, credential: u64) -> impl Iterator<Item = u64> + '_ {
        let mut next = Some(credential);
        std::iter::from_fn(move || {
            let current = next?;
            next = self.minted_as(current).map(|minted| minted.parent);
            Some(current)
        })
        .take(MAX_DEPTH)
    }

    /// Whether somebody else gave `account` this credential after `at`, as a rotation does.
    pub fn replaced_after(&self, credential: u64, account: u64, at: Micros) -> bool {
        let minted = self.minted_as(credential);
        minted.is_some_and(|minted| minted.at > at && minted.account != account)
    }

    fn minted_as(&self, credential: u64) -> Option<Minted> {
        self.credentials.get(credential)?.minted()
    }

    /// The accounts whose credentials had minted this one by the time of a sighting, without
    /// `account` itself, each with the id of its credential.
    pub fn accounts_above(
        &self,
        credential: u64,
        account: u64,
        sighting: (Micros, EventId),
    ) -> Vec<(u64, Option<&str>)> {
        let mut accounts: Vec<(u64, _)> = Vec::new();
        let above = self.chain(credential).map_while(|link| self.minted_as(link));
        for minted in above.take_while(|minted| (minted.at, minted.by) <= sighting) {
            if minted.account != account
                && accounts.iter().all(|(known, _)| *known != minted.account)
            {
                accounts.push((minted.account, self.id(minted.parent)));
            }
        }
        accounts
    }

    /// Notes from where and with what a credential is used; evidence when that is a second place.
    pub fn used(
        &mut self,
        observation: &Observation<'_>,
        seen: &Sighting,
        wants: &dyn Fn(Unusual, u64, Micros) -> bool,
        items: &mut Vec<Item<Unusual>>,
    ) {
        let Observation { event, keys } = observation;
        let Some(text) = event.credential_id else { return };
        let id = keys.credential;
        let credential = self.credentials.touch(id, seen.at, Credential::default);
        let habit = self.habits.touch(seen.account, seen.at, Habit::default);
        let alike = join_keys(keys.log, event.principal_kind as u64);
        if credential.id.is_none() {
            credential.id = Some(text.into());
            habit.credentials.add(seen.at);
            self.customs.touch(alike, seen.at, Habit::default).credentials.add(seen.at);
        }
        let sighting = (seen.at, seen.id);
        let network = seen.host.and_then(|host| {
            note(&mut credential.networks, sighting, host.0, is_same_network);
            second(&credential.networks, |place| Network(place.value).is_host() == host.is_host())
        });
        let tool = seen.tool.as_ref().and_then(|tool| {
            if note(&mut credential.tools, sighting, tool.key, |known, tool| known == tool) {
                self.tools.touch(tool.key, seen.at, || tool.to_string().into());
            }
            second(&credential.tools, |_| true)
        });
        let found = [(network, Unusual::CredentialNetwork), (tool, Unusual::CredentialTool)];
        if found.iter().all(|(places, _)| places.is_none()) {
            return;
        }
        let custom = self.customs.touch(alike, seen.at, Habit::default);
        let credentials = habit.credentials.sum_before(seen.at);
        let credentials_alike = custom.credentials.sum_before(seen.at);
        for (at, (places, dimension)) in found.into_iter().enumerate() {
            let Some((first, place)) = places else { continue };
            let own = &mut habit.several.get_or_insert_default()[at];
            let others = &mut custom.several.get_or_insert_default()[at];
            if !std::mem::replace(&mut credential.counted[at], true) {
                own.add(place.at);
                others.add(place.at);
            }
            // The account's own share, from that of all accounts like it.
            let share =
                (others.sum_before(seen.at) as f64 + 1.0) / (credentials_alike as f64 + 2.0);
            let own = own.sum_before(seen.at) as f64 + share.clamp(CUSTOM, 0.5);
            let probability = own / (credentials as f64 + 1.0);
            if credentials < ENOUGH || probability > 0.1 || !wants(dimension, id, place.at) {
                continue;
            }
            let name = |place: &Place| match dimension {
                Unusual::CredentialNetwork => Network(place.value).to_string(),
                _ => self.tools.get(place.value).map_or("a tool", |name| name).to_owned(),
            };
            let mut item = Item::new(event, dimension, id, probability.max(1e-4))
                .observed(format!("{} after {}", name(place), name(first)))
                .usual(format!("one for each of {credentials} credentials"));
            (item.at, item.id) = (place.at, place.id);
            items.push(item);
        }
    }
}

/// Whether a credential stays where it was: in the wide network of a public address, on a host of a
/// private network.
fn is_same_network(known: u64, network: u64) -> bool {
    Network(known).wide() == Network(network).wide()
}

/// Notes a place, at its earliest; true when it is new.
fn note(
    places: &mut Vec<Place>,
    (at, id): (Micros, EventId),
    value: u64,
    is_same: impl Fn(u64, u64) -> bool,
) -> bool {
    let place = Place { at, id, value };
    let known = places.iter_mut().find(|known| is_same(known.value, value));
    let is_new = known.is_none();
    match known {
        Some(known) if (known.at, known.id) <= (at, id) => return false,
        Some(known) => *known = place,
        None => push_to_few(places, place),
    }
    places.sort_unstable();
    places.truncate(MAX_PLACES);
    is_new
}

/// The first two of the places that count.
fn second(places: &[Place], counts: impl Fn(&Place) -> bool) -> Option<(&Place, &Place)> {
    let mut counted = places.iter().filter(|place| counts(place));
    counted.next().zip(counted.next())
}
