//! How an account usually acts: when, from which networks, with which tools, doing what.

use super::commons::{Commons, Standing};
use super::known::Known;
use super::place::{Network, Tool, Tools};
use super::tail::{NoveltyOfOne, RAREST};
use super::windows::{Activity, Window, known_before, window_of};
use super::{join_keys, make_room};
use crate::observation::Observation;
use serde::{Deserialize, Serialize};
use telltale_schema::time::MINUTE;
use telltale_schema::{EventId, Micros, Outcome};
use xxhash_rust::xxh3::xxh3_64;

/// Values remembered for one account in each dimension.
const MAX_NETWORKS: usize = 48;
const MAX_TOOLS: usize = 16;
const MAX_OPERATIONS: usize = 96;

/// Part of an hour in which repetitions say nothing new.
pub const SLOT: Micros = 10 * MINUTE;

/// What one event says about its account, as keys.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub id: EventId,
    pub at: Micros,
    pub window: Window,
    pub account: u64,
    pub tenant: u64,
    pub network: Option<Network>,
    /// Of a private address the host, else the network again.
    pub host: Option<Network>,
    pub tool: Option<Tool>,
    pub operation: u64,
    pub credential: u64,
    pub refused: bool,
    /// Everything above but the time, of the raw text.
    pub raw: u64,
}

impl Sighting {
    /// The cheap part of it: keys of the raw text; [`Self::read`] does the rest.
    #[inline]
    pub fn glance(observation: &Observation<'_>, principal: &str) -> Self {
        let Observation { event, keys } = observation;
        let operation = observation.deed();
        let refused = matches!(event.outcome, Outcome::Denied | Outcome::Failure);
        let from = join_keys(keys.source_ip, keys.user_agent);
        let with = join_keys(keys.credential, keys.session);
        Self {
            id: event.event_id,
            at: event.event_time,
            window: window_of(event.event_time),
            account: observation.account(principal),
            tenant: keys.tenant,
            network: None,
            host: None,
            tool: None,
            operation,
            credential: keys.credential,
            refused,
            raw: join_keys(join_keys(from, with), operation.rotate_left(u32::from(refused))),
        }
    }

    /// Reads the address and the user agent.
    pub fn read(&mut self, observation: &Observation<'_>, tools: &mut Tools) {
        let Observation { event, keys } = observation;
        (self.network, self.host) = event.source_ip.and_then(Network::with_host).unzip();
        self.tool = event.user_agent.and_then(|agent| tools.read(agent, keys.user_agent));
    }
}

/// A value that is new to an account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Novel {
    /// Probability of something as new as this in one window.
    pub probability: f64,
    /// What it was computed from: values seen on one day only, and windows of activity.
    pub once: u32,
    pub windows: u32,
    /// How the tenant stands to it.
    pub standing: Standing,
}

/// What is new about one event.
#[derive(Clone, Copy, Debug, Default)]
pub struct News {
    pub network: Option<Novel>,
    pub tool: Option<Novel>,
    pub operation: Option<Novel>,
    pub refusal: Option<Novel>,
    /// Probability of activity at this hour of day, of what is seen first in the hour.
    pub hour: Option<f64>,
    /// Windows of activity that the account is known for.
    pub windows: u32,
    /// First sighting in this window.
    pub first_in_window: bool,
}

/// One account's habits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Profile {
    pub activity: Activity,
    pub networks: Known,
    pub tools: Known,
    pub operations: Known,
    pub refusals: Known,
    /// The latest part of an hour in which there was anything.
    slot: i64,
    /// What was seen in it, and when first, with the head of the event's id; the oldest is
    /// overwritten.
    latest: Vec<(u64, (Micros, u64))>,
    /// The first sighting from a known network in each of the latest parts of an hour.
    familiar: Vec<Familiar>,
}

/// A sighting from a network that the account is known for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Familiar {
    pub at: Micros,
    pub id: EventId,
    pub network: Network,
    /// The key of its credential.
    pub credential: u64,
}

/// Different sightings of one part of an hour that are told from new ones.
const MAX_LATEST: usize = 8;

/// Parts of an hour whose first sightings are remembered: long enough for an hour of lateness.
const MAX_FIRST: usize = 9;

impl Profile {
    /// Whether the same was seen in this part of the hour already, and earlier: nothing to learn.
    #[inline]
    pub fn repeats(&mut self, sighting: &Sighting) -> bool {
        let slot = slot_of(sighting.at);
        if slot > self.slot {
            self.slot = slot;
            self.latest.clear();
        }
        if slot < self.slot {
            return false;
        }
        // Of two at the same instant the one with the lesser id counts.
        let [a, b, c, d, e, f, g, h, ..] = sighting.id.0;
        let order = (sighting.at, u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let known = self.latest.iter_mut().find(|(raw, _)| *raw == sighting.raw);
        match known {
            Some((_, first)) if *first < order => true,
            Some((_, first)) => {
                *first = order;
                false
            }
            None => {
                self.latest.truncate(MAX_LATEST - 1);
                make_room(&mut self.latest);
                self.latest.insert(0, (sighting.raw, order));
                false
            }
        }
    }

    /// Learns from a sighting and says what was new in it, as things stood before its day.
    pub fn learn(
        &mut self,
        seen: &Sighting,
        commons: &mut Commons,
        novelty: &mut NoveltyOfOne,
    ) -> News {
        let first_in_window = self.activity.see(seen.window);
        let before = known_before(seen.window);
        let windows = self.activity.count_until(before);
        let began = self.activity.first;
        let mut news = News { windows, first_in_window, ..News::default() };

        let mut value_among = |known: &mut Known, value, cap, counts: &dyn Fn(u64) -> bool| {
            let (known_since, first) = known.see(value, seen.window, cap);
            let was_known = known_since.is_some_and(|since| since <= seen.window);
            let own = (first > before).then(|| {
                let once = match windows {
                    0 => 0,
                    _ => known.new_among(counts, before, began, windows),
                };
                Novel {
                    probability: novelty.tail(once, windows),
                    once,
                    windows,
                    standing: Standing::Unseen,
                }
            });
            (was_known, own)
        };
        let network = seen.network.map(|network| {
            // The wide network is remembered beside the near ones, under its own number.
            let (near, _) = self.networks.see(network.wide(), seen.window, MAX_NETWORKS);
            let near = near.is_some_and(|since| since <= before);
            // Who gets a new address near the last one every day is not at home everywhere: a far
            // one is as rare as its wide network.
            let counts = |value| near || Network(value).is_wide();
            (network, near, value_among(&mut self.networks, network.0, MAX_NETWORKS, &counts))
        });
        let mut value_of =
            |known: &mut Known, value, cap| value_among(known, value, cap, &|_| true);
        let tool = seen
            .tool
            .as_ref()
            .map(|tool| (tool.key, value_of(&mut self.tools, tool.key, MAX_TOOLS)));
        let is_new = |own: Option<Novel>| own.is_some_and(|novel| novel.probability < 0.1);
        let moves = network.is_some_and(|(.., (_, own))| is_new(own));
        let changes = tool.is_some_and(|(_, (_, own))| is_new(own));

        // Who changes one thing and keeps the other takes part in a migration; who changes both at
        // once may be a thief, and three thefts must not excuse a fourth.
        let mut adopt = |value, clean: bool| {
            let switched = windows > 0 && clean;
            commons.adopt(seen.tenant, value, seen.account, seen.window, switched);
        };
        if let Some((network, _, (false, _))) = network {
            adopt(network.0, !changes);
            adopt(network.wide(), !changes);
        }
        if let Some((value, (false, _))) = tool {
            adopt(value, !moves);
        }
        let standing = |value| commons.standing(seen.tenant, value, seen.account, seen.window);
        let weigh = |novel: Novel, value: u64, wide: Option<u64>, near: bool| {
            let standing = match standing(value) {
                _ if wide.is_some_and(|wide| standing(wide) == Standing::Wave) => Standing::Wave,
                own => own,
            };
            let weight = match standing {
                Standing::Wave => f64::INFINITY,
                Standing::Shared => 2.0,
                Standing::Unseen => 0.5,
            } * if near { 10.0 } else { 1.0 };
            let probability = (novel.probability * weight).clamp(RAREST, 1.0);
            Novel { probability, standing, ..novel }
        };
        if let Some((network, near, (_, own))) = network {
            news.network = own.map(|own| weigh(own, network.0, Some(network.wide()), near));
            if own.is_none() {
                self.note_familiar(seen, network);
            }
        }
        if let Some((value, (_, own))) = tool {
            news.tool = own.map(|own| weigh(own, value, None, false));
        }
        let (operation, cap) = (seen.operation, MAX_OPERATIONS);
        (_, news.operation) = value_of(&mut self.operations, operation, cap);
        if seen.refused {
            (_, news.refusal) = value_of(&mut self.refusals, operation, cap);
        }
        if first_in_window {
            news.hour = self.hour(seen.window, windows);
        }
        news
    }

    /// Probability of activity at the hour of day of `window`, once enough `windows` are known.
    pub fn hour(&self, window: Window, windows: u32) -> Option<f64> {
        let near = || self.activity.count_near_hour(window, known_before(window));
        (windows >= 5 * 24 / 8).then(|| (f64::from(near()) + 0.5) / (f64::from(windows) + 0.5))
    }

    fn note_familiar(&mut self, seen: &Sighting, network: Network) {
        let sighting = Familiar { at: seen.at, id: seen.id, network, credential: seen.credential };
        note_first(&mut self.familiar, sighting, |known| known.at);
    }

    /// The first sighting from a known network other than `new`, clearly after `at`, with `credential`
    /// where one is asked for: the owner went on working.
    pub fn familiar_after(
        &self,
        at: Micros,
        new: u64,
        credential: Option<u64>,
    ) -> Option<Familiar> {
        let from = slot_of(at) + 2;
        let other = |known: &Familiar| {
            known.network.0 != new
                && slot_of(known.at) >= from
                && credential.is_none_or(|credential| credential == known.credential)
        };
        self.familiar.iter().copied().find(other)
    }

    /// The networks known before `window`, for a reader.
    pub fn usual_networks(&self, window: Window) -> String {
        let known = self.networks.until(known_before(window));
        let near: Vec<_> = known
            .iter()
            .map(|value| Network(*value))
            .filter(|network| !network.is_wide())
            .collect();
        let mut text = near.iter().take(3).map(Network::to_string).collect::<Vec<_>>().join(", ");
        if near.len() > 3 {
            text.push_str(&format!(" and {} more", near.len() - 3));
        }
        text
    }
}

/// The part of an hour that `at` lies in, by its number.
pub fn slot_of(at: Micros) -> i64 {
    at.div_euclid(SLOT)
}

/// Notes a sighting among the first ones in each of the latest parts of an hour.
pub fn note_first<T: Copy + Ord>(known: &mut Vec<T>, sighting: T, time: impl Fn(&T) -> Micros) {
    match known.binary_search_by_key(&slot_of(time(&sighting)), |known| slot_of(time(known))) {
        Ok(at) => known[at] = known[at].min(sighting),
        Err(at) => {
            make_room(known);
            known.insert(at, sighting);
            if known.len() > MAX_FIRST {
                known.remove(0);
            }
        }
    }
}

/// The key of a text that is shown later.
pub fn key(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}
