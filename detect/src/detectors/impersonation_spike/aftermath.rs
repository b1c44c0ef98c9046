//! What is done as an identity right after somebody acted as it for the first time.
//!
//! An edge and an act belong together when the act uses the credential that the edge minted, or
//! comes from the edge's address by the identity itself. Either may arrive first, so both are kept.

use super::verdict::Unusual;
use crate::baseline::bounded::Bounded;
use crate::baseline::join_keys;
use crate::baseline::profile::key;
use crate::episode::{Item, Who};
use crate::observation::Observation;
use telltale_schema::time::HOUR;
use telltale_schema::{Kind, Micros};

/// For how long acts belong to an edge.
const WITHIN: Micros = 2 * HOUR;
/// Edges and acts kept of one identity and place, the latest ones.
const MAX_EDGES: usize = 4;
const MAX_ACTS: usize = 16;

/// Probability of an act that changes who may do what, and of reading a secret, within the time.
const CHANGE: f64 = 0.01;
const READ: f64 = 0.1;

/// Evidence about a caller, with its account.
pub type Found = (u64, Who, Item<Unusual>);

/// A caller that newly acts as some identity.
#[derive(Debug)]
struct Edge {
    at: Micros,
    caller: u64,
    who: Who,
}

#[derive(Debug, Default)]
struct Link {
    edges: Vec<Edge>,
    acts: Vec<Item<Unusual>>,
}

#[derive(Debug)]
pub struct Aftermath {
    links: Bounded<Link>,
}

impl Aftermath {
    pub fn new(cap: usize) -> Self {
        Self { links: Bounded::new(cap) }
    }

    pub fn evicted_total(&self) -> u64 {
        self.links.evicted_total()
    }

    /// Notes that `caller` newly acts as `target`; what was done as the target since.
    pub fn edge(
        &mut self,
        observation: &Observation<'_>,
        target: &str,
        caller: u64,
        who: &Who,
    ) -> Vec<Found> {
        let (event, at) = (&observation.event, observation.event.event_time);
        let place = join_keys(observation.account_of(target), observation.keys.source_ip);
        let minted = event.issued_credential_id.map(key);
        let mut found = Vec::new();
        for link in [Some(place), minted].into_iter().flatten() {
            let link = self.links.touch(link, at, Link::default);
            let within = |act: &&Item<Unusual>| (at..=at + WITHIN).contains(&act.at);
            found.extend(link.acts.iter().filter(within).map(|a| (caller, who.clone(), a.clone())));
            link.edges.push(Edge { at, caller, who: who.clone() });
            link.edges.sort_by_key(|edge| (edge.at, edge.caller));
            if link.edges.len() > MAX_EDGES {
                link.edges.remove(0);
            }
        }
        found
    }

    /// Notes an act that an intruder would be after, if `event` is one; evidence for who newly acts
    /// as its principal.
    pub fn act(&mut self, observation: &Observation<'_>, account: u64) -> Vec<Found> {
        let event = &observation.event;
        let probability = match event.kind {
            Kind::PolicyChanged
            | Kind::IdentityChanged
            | Kind::CredentialCreated
            | Kind::LoggingChanged => CHANGE,
            Kind::SecretRead => READ,
            _ => return Vec::new(),
        };
        let at = event.event_time;
        let item = Item::new(event, Unusual::Aftermath, observation.deed(), probability)
            .during(event)
            .observed(observation.doing());
        let place = join_keys(account, observation.keys.source_ip);
        let with = event.credential_id.map(|_| observation.keys.credential);
        let mut found = Vec::new();
        for link in [Some(place), with].into_iter().flatten() {
            let link = self.links.touch(link, at, Link::default);
            let newly = |edge: &&Edge| (edge.at..=edge.at + WITHIN).contains(&at);
            let of = |edge: &Edge| (edge.caller, edge.who.clone(), item.clone());
            found.extend(link.edges.iter().filter(newly).map(of));
            let place =
                link.acts.partition_point(|known| (known.at, known.id) < (item.at, item.id));
            link.acts.insert(place, item.clone());
            if link.acts.len() > MAX_ACTS {
                link.acts.remove(0);
            }
        }
        found
    }
}
