//! Credentials of instances and workloads, and where they belong.

use super::is_desk;
use super::verdict::Unusual;
use crate::baseline::bounded::Bounded;
use crate::baseline::join_keys;
use crate::baseline::place::Network;
use crate::baseline::profile::{News, Sighting, key};
use crate::episode::{Item, Who};
use serde::{Deserialize, Serialize};
use telltale_schema::{Event, EventId, Micros, PrincipalKind};

/// Networks remembered of one instance, and instances of one address.
const MAX_NETWORKS: usize = 6;
const MAX_GUESTS: usize = 6;

/// Probabilities of what is no theft but looks like one of its signs.
mod odds {
    /// An instance with a second public network: a new address after a restart.
    pub const SECOND_NETWORK: f64 = 0.02;
    /// An instance seen by its private and by its public address: an endpoint beside a gateway.
    pub const ENDPOINT: f64 = 0.2;
    /// The first network goes on being used after the second appeared: two gateways.
    pub const BOTH: f64 = 0.05;
    pub const BOTH_ENDPOINT: f64 = 0.8;
    /// The second network is used with a tool that the first never showed.
    pub const OTHER_TOOL: f64 = 0.2;
    pub const OTHER_TOOL_ENDPOINT: f64 = 0.5;
    /// A laptop's system under a workload.
    pub const DESK: f64 = 0.01;
    /// A person's browser behind the same address, where the instance is at home or away.
    pub const BROWSER: f64 = 0.01;
    pub const BROWSER_AWAY: f64 = 0.002;
    /// A user's own key behind the same address: a jump host does that.
    pub const USER: f64 = 0.05;
    pub const USER_AWAY: f64 = 0.01;
    /// A workload that asks who it is, away from its network.
    pub const WHO_AM_I: f64 = 0.1;
    /// A pod's account from a public address.
    pub const POD_OUTSIDE: f64 = 0.05;
}

/// Signs, as values of their evidence.
const SECOND: u64 = 1;
const BOTH: u64 = 2;
const DESK: u64 = 3;
const NEIGHBOUR: u64 = 4;
const WHO_AM_I: u64 = 5;
const OUTSIDE: u64 = 6;
const OTHER_TOOL: u64 = 7;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Stay {
    first: Micros,
    id: EventId,
    last: Micros,
    network: Network,
    /// Products of user agents, major versions told apart.
    tools: Vec<u64>,
}

/// Who is behind one address.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Address {
    /// The first user with a key of their own, and the first browser.
    user: Option<Micros>,
    browser: Option<Micros>,
    /// Instances seen there, and whether away from where they were first seen.
    guests: Vec<(u64, Who, Item<Unusual>, bool)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Places {
    instances: Bounded<Vec<Stay>>,
    addresses: Bounded<Address>,
}

impl Places {
    pub fn new(cap: usize) -> Self {
        Self { instances: Bounded::new(cap), addresses: Bounded::new(cap) }
    }

    pub fn evicted_total(&self) -> u64 {
        self.instances.evicted_total() + self.addresses.evicted_total()
    }

    /// Notes where a workload's credential is used. Evidence about its own account goes to `items`,
    /// about others that share the address to `elsewhere`.
    pub fn used(
        &mut self,
        event: &Event<'_>,
        seen: &Sighting,
        news: &News,
        wants: &dyn Fn(Unusual, u64, Micros) -> bool,
        items: &mut Vec<Item<Unusual>>,
        elsewhere: &mut Vec<(u64, Who, Item<Unusual>)>,
    ) {
        let (Some(address), Some(network)) = (event.source_ip, seen.network) else { return };
        let Some(principal) = event.principal_id else { return };
        let instance = event.session_id.filter(|session| is_instance(session));
        let pod = principal.starts_with("system:serviceaccount:");
        let sign = |value, probability, text: String| {
            Item::new(event, Unusual::Place, value, probability).observed(text)
        };
        let wants = |value| wants(Unusual::Place, value, seen.at);
        let desk = seen.tool.as_ref().filter(|tool| is_desk(tool) && news.tool.is_some());
        if (instance.is_some() || pod || event.principal_kind == PrincipalKind::Workload)
            && let Some(tool) = desk
            && wants(DESK)
        {
            items.push(sign(DESK, odds::DESK, format!("{tool}, which no workload is")));
        }
        if pod && !network.is_private() && news.network.is_some_and(|n| n.probability < 0.5) {
            items.push(sign(OUTSIDE, odds::POD_OUTSIDE, format!("a pod's account from {network}")));
        }
        let Some(instance) = instance else {
            self.host(event, principal, seen, address, elsewhere);
            return;
        };
        let away = self.stay(event, instance, seen, network, &wants, items);
        let text = || format!("{instance} behind {address}, where people work");
        let host = self.addresses.touch(key(address), seen.at, Address::default);
        if let Some(probability) = host.odds(away)
            && wants(NEIGHBOUR)
        {
            items.push(sign(NEIGHBOUR, probability, text()));
        }
        if !host.guests.iter().any(|(account, ..)| *account == seen.account)
            && host.guests.len() < MAX_GUESTS
        {
            let guest = sign(NEIGHBOUR, 1.0, text());
            host.guests.push((seen.account, Who::of(event, principal), guest, away));
        }
    }

    /// The networks of one instance; whether this one is another than its first.
    fn stay(
        &mut self,
        event: &Event<'_>,
        instance: &str,
        seen: &Sighting,
        network: Network,
        wants: &dyn Fn(u64) -> bool,
        items: &mut Vec<Item<Unusual>>,
    ) -> bool {
        let tool =
            event.user_agent.map_or(0, |agent| key(agent.split('/').next().unwrap_or(agent)));
        let stays = self.instances.touch(join_keys(seen.account, key(instance)), seen.at, Vec::new);
        match stays.iter_mut().find(|stay| stay.network == network) {
            Some(stay) => {
                (stay.first, stay.id) = (stay.first, stay.id).min((seen.at, seen.id));
                stay.last = stay.last.max(seen.at);
                if stay.tools.len() < MAX_NETWORKS && !stay.tools.contains(&tool) {
                    stay.tools.push(tool);
                }
            }
            None => {
                let (first, last) = (seen.at, seen.at);
                stays.push(Stay { first, id: seen.id, last, network, tools: vec![tool] });
            }
        }
        stays.sort_unstable();
        stays.truncate(MAX_NETWORKS);
        let Some((home, others)) = stays.split_first() else { return false };
        let is_away = |stay: &&Stay| stay.network.wide() != home.network.wide();
        // Of several the public one is the stranger: endpoints are many.
        let endpoint = |stay: &Stay| stay.network.is_private() != home.network.is_private();
        let away = others.iter().filter(is_away).min_by_key(|stay| (endpoint(stay), stay.first));
        let Some(away) = away else { return false };
        let [second, both, other_tool] = match endpoint(away) {
            true => [odds::ENDPOINT, odds::BOTH_ENDPOINT, odds::OTHER_TOOL_ENDPOINT],
            false => [odds::SECOND_NETWORK, odds::BOTH, odds::OTHER_TOOL],
        };
        let usual = home.network.to_string();
        let sign = |value, probability, text: String| {
            Item::new(event, Unusual::Place, value, probability).observed(text).usual(usual.clone())
        };
        if wants(SECOND) {
            let mut second = sign(SECOND, second, format!("{instance} from {}", away.network));
            (second.at, second.id) = (away.first, away.id);
            items.push(second);
        }
        if home.last > away.first && wants(BOTH) {
            items.push(sign(BOTH, both, format!("{instance} from both at once")));
        }
        if !away.tools.iter().any(|tool| home.tools.contains(tool)) && wants(OTHER_TOOL) {
            let text = "with a tool that is not the instance's".to_owned();
            items.push(sign(OTHER_TOOL, other_tool, text));
        }
        let asks = event.operation.is_some_and(|name| name.contains("GetCallerIdentity"));
        if asks && network == away.network && wants(WHO_AM_I) {
            items.push(sign(WHO_AM_I, odds::WHO_AM_I, "asked who it is".to_owned()));
        }
        network.wide() != home.network.wide()
    }

    /// An address from which somebody works who is no instance.
    fn host(
        &mut self,
        event: &Event<'_>,
        principal: &str,
        seen: &Sighting,
        address: &str,
        elsewhere: &mut Vec<(u64, Who, Item<Unusual>)>,
    ) {
        let browser = seen.tool.as_ref().is_some_and(|tool| tool.browser);
        let person = event.principal_kind == PrincipalKind::Human || principal.contains(":user/");
        if !browser && !person {
            return;
        }
        let host = self.addresses.touch(key(address), seen.at, Address::default);
        let before = host.odds(false);
        let earliest = |known: Option<Micros>| Some(known.map_or(seen.at, |at| at.min(seen.at)));
        host.user = earliest(host.user);
        if browser {
            host.browser = earliest(host.browser);
        }
        if host.odds(false) != before {
            for (account, who, guest, away) in &host.guests {
                let mut item = guest.clone();
                item.probability = host.odds(*away).unwrap_or(1.0);
                elsewhere.push((*account, who.clone(), item));
            }
        }
    }
}

impl Address {
    fn odds(&self, away: bool) -> Option<f64> {
        match (self.browser, self.user) {
            (Some(_), _) if away => Some(odds::BROWSER_AWAY),
            (Some(_), _) => Some(odds::BROWSER),
            (None, Some(_)) if away => Some(odds::USER_AWAY),
            (None, Some(_)) => Some(odds::USER),
            (None, None) => None,
        }
    }
}

/// EC2 names a role session after the instance that holds it.
fn is_instance(session: &str) -> bool {
    session
        .strip_prefix("i-")
        .is_some_and(|id| id.len() >= 8 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}
