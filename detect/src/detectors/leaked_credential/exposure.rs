//! Credentials that were reported as exposed, and their use since.

use super::lineage::Lineage;
use super::{PAGE, report, target_key};
use crate::Findings;
use crate::baseline::account_key;
use crate::baseline::bounded::Bounded;
use crate::baseline::profile::key;
use crate::episode::Who;
use telltale_schema::{Event, EventId, Finding, Micros};

/// An exposed credential or account.
#[derive(Debug)]
pub struct Exposure {
    pub reported_at: Micros,
    pub report: EventId,
    pub what: String,
    pub uses: Option<Uses>,
    changed: bool,
}

/// Its use since the report.
#[derive(Debug)]
pub struct Uses {
    pub who: Who,
    pub account: u64,
    pub credential_id: Option<String>,
    /// The earliest uses.
    pub first: Vec<(Micros, EventId)>,
    pub last: Micros,
    pub count: u64,
    pub addresses: Vec<String>,
    pub children: Vec<String>,
}

#[derive(Debug)]
pub struct Exposures {
    by_key: Bounded<Exposure>,
    /// Those with uses that were not reported yet, in order.
    changed: std::collections::BTreeSet<u64>,
}

impl Exposures {
    pub fn new(cap: usize) -> Self {
        Self { by_key: Bounded::new(cap), changed: Default::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn evicted_total(&self) -> u64 {
        self.by_key.evicted_total()
    }

    /// Notes the report of an exposure: of the target's credentials, else of the one it names.
    pub fn report(&mut self, event: &Event<'_>, principal: &str) {
        let named = event.credential_id.filter(|_| event.target_id.is_none());
        let (exposed, what) = match (event.target_id, named) {
            (Some(target), _) => (target_key(event, target), target),
            (None, Some(credential)) => (key(credential), credential),
            (None, None) => (account_key(event, principal), principal),
        };
        let (at, id) = (event.event_time, event.event_id);
        let exposure = self.by_key.touch(exposed, at, || Exposure {
            reported_at: at,
            report: id,
            what: what.to_owned(),
            uses: None,
            changed: false,
        });
        if (at, id) < (exposure.reported_at, exposure.report) {
            (exposure.reported_at, exposure.report) = (at, id);
        }
        // A target may be the credential itself.
        if let Some(target) = event.target_id
            && key(target) != exposed
        {
            self.by_key.touch(key(target), at, || Exposure {
                reported_at: at,
                report: id,
                what: target.to_owned(),
                uses: None,
                changed: false,
            });
        }
    }

    /// Notes the use of a credential if it, one above it, or its account is exposed.
    pub fn used(
        &mut self,
        event: &Event<'_>,
        principal: &str,
        lineage: &Lineage,
        findings: &mut Findings,
    ) {
        let account = account_key(event, principal);
        let chain: Vec<u64> =
            event.credential_id.map_or_else(Vec::new, |id| lineage.chain(key(id)).collect());
        let exposed =
            chain.into_iter().chain([account]).find(|key| self.by_key.get(*key).is_some());
        let Some(exposed) = exposed else { return };
        let at = event.event_time;
        let Some(exposure) = self.by_key.get_mut(exposed) else { return };
        let replaced = event
            .credential_id
            .is_some_and(|id| lineage.replaced_after(key(id), account, exposure.reported_at));
        if at <= exposure.reported_at || replaced {
            return;
        }
        let new = exposure.uses.is_none();
        let uses = exposure.uses.get_or_insert_with(|| Uses {
            who: Who::of(event, principal),
            account,
            credential_id: event.credential_id.map(str::to_owned),
            first: Vec::new(),
            last: at,
            count: 0,
            addresses: Vec::new(),
            children: Vec::new(),
        });
        uses.count += 1;
        uses.last = uses.last.max(at);
        let sighting = (at, event.event_id);
        if let Err(place) = uses.first.binary_search(&sighting) {
            if place == 0 {
                uses.who = Who::of(event, principal);
                uses.account = account;
                uses.credential_id = event.credential_id.map(str::to_owned);
            }
            uses.first.insert(place, sighting);
            uses.first.truncate(Finding::MAX_EVENTS - 1);
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

/// Adds a text to a short list that is kept in order, the first ones by spelling.
fn insert(texts: &mut Vec<String>, text: Option<&str>) {
    let Some(text) = text else { return };
    if let Err(place) = texts.binary_search_by(|known| known.as_str().cmp(text)) {
        texts.insert(place, text.to_owned());
        texts.truncate(Finding::MAX_EVENTS);
    }
}
