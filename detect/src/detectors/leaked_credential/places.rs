//! Credentials of instances and workloads, and where they belong.
//!
//! An instance is at home where it was first seen, and what was seen first may come last. So signs
//! that rest on a home or on an order are told when the watermark has passed them, as they stood at
//! their time; on arrival only those that whatever comes late can but move to an earlier time.

use super::is_desk;
use super::pending::Pending;
use super::verdict::Unusual;
use crate::baseline::bounded::Bounded;
use crate::baseline::place::Network;
use crate::baseline::profile::{News, SLOT, Sighting, key, note_first, slot_of};
use crate::baseline::{join_keys, push_to_few};
use crate::engine::MAX_LATENESS;
use crate::episode::{Item, Who, day_of};
use crate::observation::Observation;
use serde::{Deserialize, Serialize};
use telltale_schema::time::DAY;
use telltale_schema::{Event, EventId, Kind, Micros, PrincipalKind};

/// Networks remembered of one instance, tools of one network, and instances of one address.
const MAX_NETWORKS: usize = 6;
const MAX_TOOLS: usize = 6;
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
    /// The same with a credential that was used within a function or a container before.
    pub const FUNCTION_AT_DESK: f64 = 1e-4;
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

/// One network of one instance.
#[derive(Debug, Serialize, Deserialize)]
struct Stay {
    first: Micros,
    id: EventId,
    network: Network,
    /// Products of user agents, major versions told apart, and when each was first seen.
    tools: Vec<(Micros, u64)>,
    /// The first sighting in each of the latest parts of an hour.
    recent: Vec<(Micros, EventId)>,
}

impl Stay {
    fn see(&mut self, seen: &Sighting, tool: u64) {
        (self.first, self.id) = (self.first, self.id).min((seen.at, seen.id));
        match self.tools.iter_mut().find(|(_, known)| *known == tool) {
            Some((first, _)) => *first = seen.at.min(*first),
            None => {
                push_to_few(&mut self.tools, (seen.at, tool));
                self.tools.sort_unstable();
                self.tools.truncate(MAX_TOOLS);
            }
        }
        note_first(&mut self.recent, (seen.at, seen.id), |(at, _)| *at);
    }

    /// Whether this network shares no tool with another one, as it stood at `at`.
    fn has_other_tools(&self, other: &Self, at: Micros) -> bool {
        let until = |stay: &Self, tool| stay.tools.iter().any(|t| t.0 <= at && t.1 == tool);
        !self.tools.iter().any(|(first, tool)| *first <= at && until(other, *tool))
    }
}

/// Where an instance belongs and where else it was, as it stood at some time.
struct Roles<'a> {
    home: &'a Stay,
    away: &'a Stay,
    /// One is private and the other public.
    endpoint: bool,
}

impl<'a> Roles<'a> {
    /// `None` while there is but one place. Of several the public one is the stranger: endpoints
    /// are many.
    fn at(stays: &'a [Stay], at: Micros) -> Option<Self> {
        let (home, others) = stays.split_first()?;
        let endpoint = |stay: &Stay| stay.network.is_private() != home.network.is_private();
        let away = others
            .iter()
            .filter(|stay| stay.first <= at && is_away(stay.network, home))
            .min_by_key(|stay| (endpoint(stay), stay.first, stay.id))?;
        Some(Self { home, away, endpoint: endpoint(away) })
    }

    /// Probabilities of a second network, of the use of both, and of another tool.
    fn odds(&self) -> [f64; 3] {
        match self.endpoint {
            true => [odds::ENDPOINT, odds::BOTH_ENDPOINT, odds::OTHER_TOOL_ENDPOINT],
            false => [odds::SECOND_NETWORK, odds::BOTH, odds::OTHER_TOOL],
        }
    }
}

fn is_away(network: Network, home: &Stay) -> bool {
    network.wide() != home.network.wide()
}

/// The first sighting in a network, or one that asks who it is.
#[derive(Debug, Serialize, Deserialize)]
struct Move {
    instance: u64,
    account: u64,
    who: Who,
    network: Network,
    asks: bool,
    /// What is known of the event; what it is a sign of follows.
    item: Item<Unusual>,
}

/// An instance in several networks that was used since the watermark.
#[derive(Debug, Serialize, Deserialize)]
struct Traveller {
    account: u64,
    who: Who,
    name: Box<str>,
}

/// Who is behind one address.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Address {
    /// The first user with a key of their own, and the first browser.
    user: Option<Micros>,
    browser: Option<Micros>,
    /// Accounts of instances seen there, each at its first.
    guests: Vec<Guest>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Guest {
    instance: u64,
    account: u64,
    who: Who,
    network: Network,
    item: Item<Unusual>,
}

/// The use of an instance's credential.
#[derive(Clone, Copy)]
struct Visit<'a> {
    event: &'a Event<'a>,
    seen: &'a Sighting,
    principal: &'a str,
    name: &'a str,
    /// Its key.
    instance: u64,
    /// The address, its key and its network.
    place: (&'a str, u64, Network),
}

impl Visit<'_> {
    fn who(&self) -> Who {
        Who::of(self.event, self.principal)
    }
}

/// Evidence about an account.
pub type Found = (u64, Who, Item<Unusual>);

#[derive(Debug, Serialize, Deserialize)]
pub struct Places {
    /// In order of their first sighting: an instance is at home in the first.
    instances: Bounded<Vec<Stay>>,
    addresses: Bounded<Address>,
    settled: Micros,
    moves: Pending<Move>,
    travellers: Bounded<Traveller>,
    /// Addresses at which people and guests met since the watermark.
    meetings: Bounded<()>,
}

impl Places {
    pub fn new(cap: usize) -> Self {
        Self {
            instances: Bounded::new(cap),
            addresses: Bounded::new(cap),
            settled: Micros::MIN,
            moves: Pending::default(),
            travellers: Bounded::new(cap),
            meetings: Bounded::new(cap),
        }
    }

    pub fn evicted_total(&self) -> u64 {
        self.instances.evicted_total()
            + self.addresses.evicted_total()
            + self.moves.evicted_total()
            + self.travellers.evicted_total()
            + self.meetings.evicted_total()
    }

    /// Notes where a workload's credential is used; evidence of that which stands whatever comes
    /// late goes to `items`.
    pub fn used(
        &mut self,
        Observation { event, keys }: &Observation<'_>,
        seen: &Sighting,
        news: &News,
        in_function: bool,
        wants: &dyn Fn(Unusual, u64, Micros) -> bool,
        items: &mut Vec<Item<Unusual>>,
    ) {
        let (Some(address), Some(network)) = (event.source_ip, seen.network) else { return };
        let Some(principal) = event.principal_id else { return };
        let instance = event.session_id.filter(|session| is_instance(session));
        // A proxy that acts as people hands on their addresses and their tools.
        let for_person = event.kind == Kind::Impersonation
            && event.target_id.is_some_and(|target| !target.starts_with("system:"));
        let pod = !for_person && principal.starts_with("system:serviceaccount:");
        let sign = |value, probability, text: String| {
            Item::new(event, Unusual::Place, value, probability).observed(text)
        };
        let desk = seen.tool.as_ref().filter(|tool| is_desk(tool) && news.tool.is_some());
        let workload = !for_person && event.principal_kind == PrincipalKind::Workload;
        let odds = match instance.is_some() || pod || workload {
            true => Some((odds::DESK, ", which no workload is")),
            false if in_function => {
                Some((odds::FUNCTION_AT_DESK, " with the credential of a function"))
            }
            false => None,
        };
        if let (Some(tool), Some((odds, what))) = (desk, odds)
            && wants(Unusual::Place, DESK, seen.at)
        {
            items.push(sign(DESK, odds, format!("{tool}{what}")));
        }
        if pod && !network.is_private() && news.network.is_some_and(|n| n.probability < 0.5) {
            items.push(sign(OUTSIDE, odds::POD_OUTSIDE, format!("a pod's account from {network}")));
        }
        match instance {
            Some(name) => {
                let instance = join_keys(seen.account, keys.session);
                let place = (address, keys.source_ip, network);
                let visit = Visit { event, seen, principal, name, instance, place };
                self.stay(&visit, wants, items);
                self.guest(&visit, wants, items);
            }
            None => self.host(event, principal, seen, keys.source_ip),
        }
    }

    /// Notes the network of an instance.
    fn stay(
        &mut self,
        visit: &Visit<'_>,
        wants: &dyn Fn(Unusual, u64, Micros) -> bool,
        items: &mut Vec<Item<Unusual>>,
    ) {
        let Visit { event, seen, name, instance, place: (.., network), .. } = *visit;
        let tool =
            event.user_agent.map_or(0, |agent| key(agent.split('/').next().unwrap_or(agent)));
        let stays = self.instances.touch(instance, seen.at, Vec::new);
        let is_first = match stays.iter_mut().find(|stay| stay.network == network) {
            Some(stay) => {
                stay.see(seen, tool);
                (stay.first, stay.id) == (seen.at, seen.id)
            }
            None => {
                let (first, id) = (seen.at, seen.id);
                let (tools, recent) = (Vec::new(), Vec::new());
                let mut stay = Stay { first, id, network, tools, recent };
                stay.see(seen, tool);
                push_to_few(stays, stay);
                true
            }
        };
        if is_first {
            stays.sort_unstable_by_key(|stay| (stay.first, stay.id));
            stays.truncate(MAX_NETWORKS);
        }
        let asks = event.operation.is_some_and(|name| name.contains("GetCallerIdentity"));
        let travels = stays.iter().any(|stay| is_away(stay.network, &stays[0]));
        let known = stays[0].first < self.settled;
        let account = seen.account;
        if travels {
            let new = || Traveller { account, who: visit.who(), name: name.into() };
            self.travellers.touch(instance, seen.at, new);
        }
        if is_first || asks {
            let item = Item::new(event, Unusual::Place, 0, 1.0).observed(name);
            let moved = Move { instance, account, who: visit.who(), network, asks, item };
            if known {
                items.extend(signs_of_move(stays, &moved, false));
            }
            self.moves.push(moved);
        }
        if travels && known {
            signs_of_use(stays, name, Micros::MAX, false, wants, items);
        }
    }

    /// An instance at an address: evidence where people were known to work there before.
    fn guest(
        &mut self,
        visit: &Visit<'_>,
        wants: &dyn Fn(Unusual, u64, Micros) -> bool,
        items: &mut Vec<Item<Unusual>>,
    ) {
        let Visit { event, seen, name, instance, place: (address, key, network), .. } = *visit;
        let sign = |probability| {
            let text = format!("{name} behind {address}, where people work");
            Item::new(event, Unusual::Place, NEIGHBOUR, probability).observed(text)
        };
        let host = self.addresses.touch(key, seen.at, Address::default);
        // What happened this long ago has come, whatever comes late.
        let certain = slot_of(seen.at) * SLOT - MAX_LATENESS;
        let away = || is_stranger(self.instances.get(instance), network, certain);
        if host.user.is_some_and(|user| user <= certain)
            && wants(Unusual::Place, NEIGHBOUR, seen.at)
        {
            items.extend(host.odds(away(), certain).map(sign));
        }
        let rank = |guest: &Guest| (guest.item.at, guest.item.id);
        let known = host.guests.iter().position(|guest| guest.account == seen.account);
        match known {
            Some(at) if rank(&host.guests[at]) <= (seen.at, seen.id) => return,
            Some(at) => drop(host.guests.remove(at)),
            None if host.guests.len() < MAX_GUESTS => {}
            None if rank(&host.guests[MAX_GUESTS - 1]) <= (seen.at, seen.id) => return,
            None => drop(host.guests.pop()),
        }
        let (account, who, item) = (seen.account, visit.who(), sign(1.0));
        let at = host.guests.partition_point(|guest| rank(guest) < (seen.at, seen.id));
        host.guests.insert(at, Guest { instance, account, who, network, item });
        if host.user.is_some() {
            self.meetings.touch(key, seen.at, || ());
        }
    }

    /// An address from which somebody works who is no instance.
    fn host(&mut self, event: &Event<'_>, principal: &str, seen: &Sighting, address: u64) {
        let browser = seen.tool.as_ref().is_some_and(|tool| tool.browser);
        let person = event.principal_kind == PrincipalKind::Human || principal.contains(":user/");
        if !browser && !person {
            return;
        }
        let host = self.addresses.touch(address, seen.at, Address::default);
        let before = (host.user, host.browser);
        let earliest = |known: Option<Micros>| Some(known.map_or(seen.at, |at| at.min(seen.at)));
        host.user = earliest(host.user);
        if browser {
            host.browser = earliest(host.browser);
        }
        if (host.user, host.browser) != before && !host.guests.is_empty() {
            self.meetings.touch(address, seen.at, || ());
        }
    }

    /// Evidence of everything that the watermark has passed.
    pub fn settle(
        &mut self,
        watermark: Micros,
        wants: &dyn Fn(u64, Unusual, u64, Micros) -> bool,
    ) -> Vec<Found> {
        self.settled = watermark;
        let mut found = Vec::new();
        for moved in self.moves.before(watermark, |moved| moved.item.at) {
            let stays = self.instances.get(moved.instance).map_or(&[][..], Vec::as_slice);
            let signs = signs_of_move(stays, &moved, true);
            found.extend(signs.into_iter().map(|item| (moved.account, moved.who.clone(), item)));
        }
        for (instance, Traveller { account, who, name }) in self.travellers.iter() {
            let stays = self.instances.get(instance).map_or(&[][..], Vec::as_slice);
            let wants = |dimension, value, at| wants(*account, dimension, value, at);
            let mut items = Vec::new();
            signs_of_use(stays, name, watermark, true, &wants, &mut items);
            found.extend(items.into_iter().map(|item| (*account, who.clone(), item)));
        }
        self.travellers.expire(watermark);
        let mut met: Vec<u64> = self.meetings.iter().map(|(address, ())| address).collect();
        met.sort_unstable();
        self.meetings.expire(Micros::MAX);
        for address in met {
            let Some(host) = self.addresses.get(address) else { continue };
            let Some(met) = host.user else { continue };
            for Guest { instance, account, who, network, item } in &host.guests {
                let at = item.at.max(met);
                let away = is_stranger(self.instances.get(*instance), *network, item.at);
                if at >= watermark {
                    self.meetings.touch(address, at, || ());
                } else if wants(*account, Unusual::Place, NEIGHBOUR, item.at)
                    && let Some(probability) = host.odds(away, at)
                {
                    found.push((*account, who.clone(), Item { probability, ..item.clone() }));
                }
            }
        }
        found
    }
}

/// Whether an instance that was in `network` was then not at home.
fn is_stranger(stays: Option<&Vec<Stay>>, network: Network, at: Micros) -> bool {
    let home = stays.and_then(|stays| stays.first());
    home.is_some_and(|home| home.first <= at && is_away(network, home))
}

/// What a first sighting in a network, or a question, is a sign of.
///
/// Before it is settled: what a late sighting can but move to an earlier time of the same day.
fn signs_of_move(stays: &[Stay], moved: &Move, settled: bool) -> Vec<Item<Unusual>> {
    let (at, id, name) = (moved.item.at, moved.item.id, &moved.item.observed);
    let mut items = Vec::new();
    let Some(roles) = Roles::at(stays, at) else { return items };
    let Roles { home, away, endpoint } = &roles;
    let [second, _, other_tool] = roles.odds();
    let mut sign = |value, probability, observed: String| {
        let usual = home.network.to_string();
        items.push(Item { value, probability, observed, usual, ..moved.item.clone() });
    };
    let same_day = !endpoint && day_of(at - MAX_LATENESS) == day_of(at);
    if (away.first, away.id) == (at, id) && (settled || same_day) {
        sign(SECOND, second, format!("{name} from {}", away.network));
        if settled && away.has_other_tools(home, at) {
            sign(OTHER_TOOL, other_tool, "with a tool that is not the instance's".to_owned());
        }
    }
    let is_there = match endpoint {
        true => settled && moved.network == away.network,
        false => {
            is_away(moved.network, home) && moved.network.is_private() == home.network.is_private()
        }
    };
    if moved.asks && is_there {
        sign(WHO_AM_I, odds::WHO_AM_I, "asked who it is".to_owned());
    }
    items
}

/// Signs in the use of both networks of an instance before `until`, by the same rule. Both are in use
/// while the other one was within a day: at home an instance goes on after a theft is over.
fn signs_of_use(
    stays: &[Stay],
    name: &str,
    until: Micros,
    settled: bool,
    wants: &dyn Fn(Unusual, u64, Micros) -> bool,
    items: &mut Vec<Item<Unusual>>,
) {
    let Some(Roles { home, away: latest, .. }) = Roles::at(stays, until) else { return };
    let mut sign = |value, (at, id), probability, text: String| {
        let event = Event { event_id: id, ..Event::new("", at) };
        let item = Item::new(&event, Unusual::Place, value, probability).observed(text);
        items.push(item.usual(home.network.to_string()));
    };
    // Which network is the other one may change within the time that is remembered.
    let then = |at| Roles::at(stays, at).filter(|roles| settled || !roles.endpoint);
    let mut day = None;
    for (at, id) in home.recent.iter().copied().take_while(|(at, _)| *at < until) {
        if day != Some(day_of(at))
            && let Some(roles) = then(at)
            && slot_of(at) > slot_of(roles.away.first)
            && roles.away.recent.iter().any(|(used, _)| *used <= at && at - used < DAY)
        {
            day = Some(day_of(at));
            if wants(Unusual::Place, BOTH, at) {
                sign(BOTH, (at, id), roles.odds()[1], format!("{name} from both at once"));
            }
        }
    }
    let mut day = Some(day_of(latest.first));
    for (at, id) in latest.recent.iter().copied().take_while(|(at, _)| settled && *at < until) {
        if day != Some(day_of(at))
            && let Some(roles) = then(at)
            && roles.away.network == latest.network
            && latest.has_other_tools(home, at)
        {
            day = Some(day_of(at));
            if wants(Unusual::Place, OTHER_TOOL, at) {
                let text = "with a tool that is not the instance's".to_owned();
                sign(OTHER_TOOL, (at, id), roles.odds()[2], text);
            }
        }
    }
}

impl Address {
    /// How likely it is to share the address with those who were there by `at`.
    fn odds(&self, away: bool, at: Micros) -> Option<f64> {
        let by_then = |first: Option<Micros>| first.filter(|first| *first <= at);
        match (by_then(self.browser), by_then(self.user)) {
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
