//! Credentials that were reported as exposed, and their use since.
//!
//! A report may come later than uses that happened after it, so the uses of the last hour are kept
//! as keys and looked through when a report arrives.

use super::lineage::Lineage;
use super::{PAGE, report};
use crate::Findings;
use crate::baseline::bounded::Bounded;
use crate::baseline::profile::key;
use crate::engine::MAX_LATENESS;
use crate::episode::Who;
use crate::observation::Observation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use telltale_schema::{Event, EventId, Finding, Micros};

/// An exposed credential or account.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exposure {
    pub reported_at: Micros,
    pub report: EventId,
    pub what: String,
    pub uses: Option<Uses>,
    changed: bool,
}

/// Its use since the report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Uses {
    /// Of the earliest use that was seen after the report had come; else of the report.
    pub who: Who,
    known_from: Option<(Micros, EventId)>,
    /// The credential of the earliest use.
    pub credential_id: Option<String>,
    /// The earliest uses.
    pub first: Vec<(Micros, EventId)>,
    pub last: Micros,
    pub count: u64,
    pub addresses: Vec<String>,
    pub children: Vec<String>,
}

/// Uses of the last hour that are kept as keys.
const MAX_RECENT: usize = 1 << 17;

/// One use, as keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Recent {
    at: Micros,
    id: EventId,
    account: u64,
    /// The account without the path of its name, which is how IAM calls name it.
    pathless: Option<u64>,
    credential: u64,
}

impl Recent {
    /// Under which keys it may have been reported as exposed: the credential, those above it, and
    /// its account.
    fn keys<'l>(&self, lineage: &'l Lineage) -> impl Iterator<Item = u64> + use<'l> {
        let chain = (self.credential != 0).then(|| lineage.chain(self.credential));
        chain.into_iter().flatten().chain([self.account]).chain(self.pathless)
    }

    /// Whether it has nothing to do with the exposure of `exposed`: an account that was reported
    /// works with a credential that somebody gave it since.
    fn is_replaced(&self, exposed: u64, reported_at: Micros, lineage: &Lineage) -> bool {
        (exposed == self.account || Some(exposed) == self.pathless)
            && lineage.replaced_after(self.credential, self.account, reported_at)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Exposures {
    by_key: Bounded<Exposure>,
    recent: VecDeque<Recent>,
    newest: Micros,
    /// Those with uses that were not reported yet, in order.
    changed: BTreeSet<u64>,
}

impl Exposures {
    pub fn new(cap: usize) -> Self {
        Self {
            by_key: Bounded::new(cap),
            recent: VecDeque::new(),
            newest: Micros::MIN,
            changed: BTreeSet::new(),
        }
    }

    pub fn evicted_total(&self) -> u64 {
        self.by_key.evicted_total()
    }

    /// Notes the report of an exposure: of the target's credentials, else of the one it names.
    pub fn report(
        &mut self,
        observation: &Observation<'_>,
        principal: &str,
        lineage: &Lineage,
        findings: &mut Findings,
    ) {
        let event = &observation.event;
        let (what, mut keys) = match (event.target_id, event.credential_id) {
            // A target may be an identity or the credential itself.
            (Some(target), _) => (target, vec![observation.account_of(target), key(target)]),
            (None, Some(credential)) => (credential, vec![key(credential)]),
            (None, None) => (principal, vec![observation.account(principal)]),
        };
        let (at, id) = (event.event_time, event.event_id);
        keys.dedup();
        for exposed in keys {
            // What was used after an earlier report has been counted.
            let known = self.by_key.get(exposed).map(|known| (known.reported_at, known.report));
            if known.is_some_and(|known| known <= (at, id)) {
                continue;
            }
            let until = known.map_or(Micros::MAX, |(known, _)| known);
            let exposure = self.by_key.touch(exposed, at, || Exposure {
                reported_at: at,
                report: id,
                what: what.to_owned(),
                uses: None,
                changed: false,
            });
            (exposure.reported_at, exposure.report) = (at, id);
            for recent in self.recent.iter().filter(|recent| (at + 1..=until).contains(&recent.at))
            {
                if recent.keys(lineage).any(|key| key == exposed)
                    && !recent.is_replaced(exposed, at, lineage)
                {
                    let new = || Uses::new(Who::of(event, what), recent.at);
                    let uses = exposure.uses.get_or_insert_with(new);
                    uses.add((recent.at, recent.id), lineage.id(recent.credential));
                }
            }
            if exposure.uses.is_some() {
                findings.raise(report::exposed(&PAGE, exposed, exposure));
            }
        }
    }

    /// Notes the use of a credential; counts it if it, one above it, or its account is exposed.
    #[inline]
    pub fn used(
        &mut self,
        observation: &Observation<'_>,
        account: u64,
        lineage: &Lineage,
        findings: &mut Findings,
    ) {
        let Observation { event, keys } = observation;
        let credential = keys.credential;
        let (at, id) = (event.event_time, event.event_id);
        self.newest = self.newest.max(at);
        while self.recent.len() >= MAX_RECENT
            || self.recent.front().is_some_and(|first| first.at + MAX_LATENESS < self.newest)
        {
            self.recent.pop_front();
        }
        let pathless = event.principal_id.and_then(without_path).map(|name| key(&name));
        let recent = Recent { at, id, account, pathless, credential };
        self.recent.push_back(recent);
        if !self.by_key.is_empty() {
            self.count(event, recent, lineage, findings);
        }
    }

    fn count(
        &mut self,
        event: &Event<'_>,
        recent: Recent,
        lineage: &Lineage,
        findings: &mut Findings,
    ) {
        let Recent { at, id, .. } = recent;
        let exposed = recent.keys(lineage).find(|key| self.by_key.get(*key).is_some());
        let Some(exposed) = exposed else { return };
        let Some(exposure) = self.by_key.get_mut(exposed) else { return };
        let reported_at = exposure.reported_at;
        if at <= reported_at || recent.is_replaced(exposed, reported_at, lineage) {
            return;
        }
        let (new, sighting) = (exposure.uses.is_none(), (at, id));
        let principal = event.principal_id.unwrap_or_default();
        let uses = exposure.uses.get_or_insert_with(|| Uses::new(Who::of(event, principal), at));
        uses.add(sighting, event.credential_id);
        if uses.known_from.is_none_or(|known| sighting < known) {
            uses.known_from = Some(sighting);
            uses.who = Who::of(event, principal);
        }
        insert(&mut uses.addresses, event.source_ip);
        insert(&mut uses.children, event.issued_credential_id);
        exposure.changed = true;
        if new {
            findings.raise(report::exposed(&PAGE, exposed, exposure));
        }
        self.changed.insert(exposed);
    }

    /// Reports what was added since the last time.
    pub fn close(&mut self, findings: &mut Findings) {
        for exposed in std::mem::take(&mut self.changed) {
            if let Some(exposure) = self.by_key.get_mut(exposed)
                && std::mem::take(&mut exposure.changed)
            {
                findings.raise(report::exposed(&PAGE, exposed, exposure));
            }
        }
    }
}

/// `arn:aws:iam::1:user/team/NAME` as `arn:aws:iam::1:user/NAME`, which is how IAM calls name it;
/// `None` where it has no path.
fn without_path(principal: &str) -> Option<String> {
    let (path, name) = principal.rsplit_once('/')?;
    let (head, _) = path.split_once(":user/")?;
    Some(format!("{head}:user/{name}"))
}

impl Uses {
    fn new(who: Who, at: Micros) -> Self {
        Self {
            who,
            known_from: None,
            credential_id: None,
            first: Vec::new(),
            last: at,
            count: 0,
            addresses: Vec::new(),
            children: Vec::new(),
        }
    }

    fn add(&mut self, sighting: (Micros, EventId), credential_id: Option<&str>) {
        if self.first.first().is_none_or(|first| sighting < *first) {
            self.credential_id = credential_id.map(str::to_owned);
        }
        self.count += 1;
        self.last = self.last.max(sighting.0);
        if let Err(place) = self.first.binary_search(&sighting) {
            self.first.insert(place, sighting);
            self.first.truncate(Finding::MAX_EVENTS - 1);
        }
    }
}

/// Adds a text to a short list that is kept in order, the first ones by spelling.
fn insert(texts: &mut Vec<String>, text: Option<&str>) {
    let Some(text) = text else { return };
    if let Err(place) = texts.binary_search_by(|known| known.as_str().cmp(text)) {
        texts.insert(place, text.to_owned());
        texts.truncate(Finding::MAX_EVENTS);
    }
}
