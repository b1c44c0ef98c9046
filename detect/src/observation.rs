//! An event with the keys of its text: what detectors are shown.
//!
//! Detectors remember accounts, networks and credentials under hashes of their text. Every text is
//! hashed once for all of them, and where text is kept once, as in a timeline, once for all events.

use crate::baseline::{join_keys, text_key};
use telltale_schema::Event;

/// One event and its keys.
#[derive(Clone, Debug)]
pub struct Observation<'a> {
    pub event: Event<'a>,
    pub keys: Keys,
}

/// Keys of the text of an event; zero where there is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys {
    pub log: u64,
    pub tenant: u64,
    pub operation: u64,
    pub service: u64,
    pub principal: u64,
    pub credential: u64,
    pub session: u64,
    pub source_ip: u64,
    pub user_agent: u64,
}

impl<'a> Observation<'a> {
    pub fn of(event: Event<'a>) -> Self {
        let keys = Keys {
            log: text_key(Some(event.log)),
            tenant: text_key(event.tenant),
            operation: text_key(event.operation),
            service: text_key(event.service),
            principal: text_key(event.principal_id),
            credential: text_key(event.credential_id),
            session: text_key(event.session_id),
            source_ip: text_key(event.source_ip),
            user_agent: text_key(event.user_agent),
        };
        Self { event, keys }
    }

    /// The key under which the principal is remembered: see [`account_key`].
    #[inline]
    pub fn account(&self, principal: &str) -> u64 {
        account_key(principal, self.keys.principal, self.keys.tenant)
    }

    /// The key of an identity that the event names, remembered as its principal would be.
    pub fn account_of(&self, identity: &str) -> u64 {
        account_key(identity, text_key(Some(identity)), self.keys.tenant)
    }
}

/// Names that are unique in the world stand for themselves, any other belongs to its tenant.
#[inline]
fn account_key(name: &str, key: u64, tenant: u64) -> u64 {
    match name.starts_with("arn:") || memchr::memchr(b'@', name.as_bytes()).is_some() {
        true => key,
        false => join_keys(key, tenant),
    }
}
