//! What is done as an identity right after somebody acted as it for the first time.
//!
//! It says nothing about a caller whose trade it is, such as a broker that deploys: one after whose
//! usual edges the same acts are done.
//!
//! An edge and an act belong together when the act uses the credential that the edge minted, or
//! comes from the edge's address by the identity itself. Either may arrive first, so both are kept.
//! To act as a third identity is such an act where the caller never acted as anybody before. What
//! Kubernetes does under somebody's name is edge and act in one.

use super::verdict::Unusual;
use crate::baseline::bounded::Bounded;
use crate::baseline::join_keys;
use crate::baseline::profile::key;
use crate::baseline::windows::{Window, known_before, window_of};
use crate::episode::{Item, Who};
use crate::observation::Observation;
use serde::{Deserialize, Serialize};
use telltale_schema::time::HOUR;
use telltale_schema::{Kind, Micros};

/// For how long acts belong to an edge.
const WITHIN: Micros = 2 * HOUR;
/// Edges and acts of a kind kept of one identity and place, the latest ones.
const MAX_EDGES: usize = 6;
const MAX_ACTS: usize = 8;

/// Probability of an act that changes who may do what, of going on to another identity, and of
/// reading a secret, within the time.
const CHANGE: f64 = 0.005;
const ONWARD: f64 = 0.005;
const READ: f64 = 0.1;

/// Evidence about a caller, with its account.
pub type Found = (u64, Who, Item<Unusual>);

/// Whoever newly acts as some identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Newcomer {
    pub who: Who,
    /// It never acted as anybody, and was active for long.
    pub is_first: bool,
}

/// A caller that acts as some identity.
#[derive(Debug, Serialize, Deserialize)]
struct Edge {
    at: Micros,
    caller: u64,
    /// Of a new edge.
    newly: Option<Newcomer>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Link {
    edges: Vec<Edge>,
    acts: Vec<Item<Unusual>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Aftermath {
    links: Bounded<Link>,
    /// By caller and act: since when such acts are done after its usual edges.
    trades: Bounded<Window>,
}

impl Aftermath {
    pub fn new(cap: usize) -> Self {
        Self { links: Bounded::new(cap), trades: Bounded::new(cap) }
    }

    pub fn evicted_total(&self) -> u64 {
        self.links.evicted_total() + self.trades.evicted_total()
    }

    /// Notes that `caller` acts as `target`, newly if it says who that is; what was done as the
    /// target since.
    pub fn edge(
        &mut self,
        observation: &Observation<'_>,
        target: &str,
        caller: u64,
        newly: Option<Newcomer>,
    ) -> Vec<Found> {
        let (event, at) = (&observation.event, observation.event.event_time);
        let place = join_keys(observation.account_of(target), observation.keys.source_ip);
        let minted = event.issued_credential_id.map(key);
        let direct = direct_act(observation).into_iter();
        let mut pairs: Vec<_> = direct.map(|act| (caller, newly.clone(), act)).collect();
        for link in [Some(place), minted].into_iter().flatten() {
            let link = self.links.touch(link, at, Link::default);
            let within = |act: &&Item<Unusual>| (at..=at + WITHIN).contains(&act.at);
            let acts = link.acts.iter().filter(within);
            pairs.extend(acts.map(|act| (caller, newly.clone(), act.clone())));
            // Of the usual edges of one caller one an hour will do.
            let same = |edge: &Edge| {
                edge.caller == caller && edge.newly.is_none() && window_of(edge.at) == window_of(at)
            };
            match link.edges.iter_mut().find(|edge| newly.is_none() && same(edge)) {
                Some(edge) => edge.at = edge.at.min(at),
                None => link.edges.push(Edge { at, caller, newly: newly.clone() }),
            }
            link.edges.sort_by_key(|edge| (edge.at, edge.caller, edge.newly.is_none()));
            if link.edges.len() > MAX_EDGES {
                link.edges.remove(0);
            }
        }
        self.tell(pairs)
    }

    /// Evidence of acts that followed new edges, by callers whose trade it is not.
    fn tell(&mut self, pairs: Vec<(u64, Option<Newcomer>, Item<Unusual>)>) -> Vec<Found> {
        let mut found = Vec::new();
        for (caller, newly, act) in pairs {
            let window = window_of(act.at);
            let trade = join_keys(caller, act.value);
            match newly {
                None => {
                    let since = self.trades.touch(trade, act.at, || window);
                    *since = (*since).min(window);
                }
                // Who acts as others for a living may do so in steps.
                Some(newly) if act.dimension == Unusual::Onward && !newly.is_first => {}
                Some(newly) => {
                    let since = self.trades.get(trade);
                    if since.is_none_or(|since| *since > known_before(window)) {
                        found.push((caller, newly.who, act));
                    }
                }
            }
        }
        found
    }

    /// Notes an act that an intruder would be after, if `event` is one, such as to act as `target`;
    /// evidence for who newly acts as its principal.
    pub fn act(
        &mut self,
        observation: &Observation<'_>,
        account: u64,
        target: Option<&str>,
    ) -> Vec<Found> {
        let Some(item) = act_of(observation, target) else { return Vec::new() };
        let (event, at) = (&observation.event, item.at);
        let place = join_keys(account, observation.keys.source_ip);
        let with = event.credential_id.map(|_| observation.keys.credential);
        let mut pairs = Vec::new();
        for link in [Some(place), with].into_iter().flatten() {
            let link = self.links.touch(link, at, Link::default);
            let within = |edge: &&Edge| (edge.at..=edge.at + WITHIN).contains(&at);
            let pair = |edge: &Edge| (edge.caller, edge.newly.clone(), item.clone());
            pairs.extend(link.edges.iter().filter(within).map(pair));
            let place =
                link.acts.partition_point(|known| (known.at, known.id) < (item.at, item.id));
            link.acts.insert(place, item.clone());
            let alike = |known: &Item<Unusual>| known.dimension == item.dimension;
            if link.acts.iter().filter(|known| alike(known)).count() > MAX_ACTS {
                link.acts.remove(link.acts.iter().position(alike).unwrap_or_default());
            }
        }
        self.tell(pairs)
    }
}

/// An act that an intruder would be after, if `event` is one, such as to act as `target`.
fn act_of(observation: &Observation<'_>, target: Option<&str>) -> Option<Item<Unusual>> {
    if let Some(target) = target {
        return Some(item(observation, Unusual::Onward, ONWARD).observed(target));
    }
    let probability = match observation.event.kind {
        Kind::PolicyChanged
        | Kind::IdentityChanged
        | Kind::CredentialCreated
        | Kind::LoggingChanged => CHANGE,
        Kind::SecretRead => READ,
        _ => return None,
    };
    Some(item(observation, Unusual::Aftermath, probability).observed(observation.doing()))
}

/// What is done by the very call that acts as another, as with the headers of Kubernetes.
fn direct_act(observation: &Observation<'_>) -> Option<Item<Unusual>> {
    let verb = observation.event.operation?;
    let probability = match observation.kind_of_object()? {
        "clusterrolebindings" | "rolebindings" | "clusterroles" | "roles"
            if matches!(verb, "create" | "update" | "patch") =>
        {
            CHANGE
        }
        "secrets" if matches!(verb, "get" | "list" | "watch") => READ,
        _ => return None,
    };
    Some(item(observation, Unusual::Aftermath, probability).observed(observation.doing()))
}

fn item(observation: &Observation<'_>, dimension: Unusual, probability: f64) -> Item<Unusual> {
    let event = &observation.event;
    Item::new(event, dimension, observation.deed(), probability).during(event)
}
