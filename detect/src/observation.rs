//! An event with the keys of its text: what detectors are shown.
//!
//! Detectors remember accounts, networks and credentials under hashes of their text. Every text is
//! hashed once for all of them, and where text is kept once, as in a timeline, once for all events.

use crate::baseline::{join_keys, text_key};
use std::borrow::Cow;
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

    /// The key of what was done: operation, service and, where the operation is a mere verb, what
    /// kind of thing it was done to.
    #[inline]
    pub fn deed(&self) -> u64 {
        let deed = join_keys(self.keys.operation, self.keys.service);
        match Object::of(&self.event) {
            Some(object) => {
                join_keys(deed, join_keys(text_key(Some(object.kind)), text_key(object.part)))
            }
            None => deed,
        }
    }

    /// What was done, for a reader: `GetObject`, `list secrets`, `create pods/exec`.
    pub fn doing(&self) -> Cow<'a, str> {
        let operation = self.event.operation.unwrap_or("unnamed");
        match Object::of(&self.event) {
            Some(Object { kind, part: Some(part) }) => format!("{operation} {kind}/{part}").into(),
            Some(Object { kind, part: None }) => format!("{operation} {kind}").into(),
            None => operation.into(),
        }
    }

    /// What kind of thing a verb is applied to: `secrets`, `clusterrolebindings`.
    pub fn kind_of_object(&self) -> Option<&'a str> {
        Object::of(&self.event).map(|object| object.kind)
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

/// What kind of thing a verb is applied to, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Object<'a> {
    kind: &'a str,
    /// A subresource, such as `exec` of `pods`.
    part: Option<&'a str>,
}

/// Kinds of Kubernetes that lie in no namespace; of those in one, the namespace comes first.
const OF_THE_CLUSTER: &[&str] = &[
    "nodes",
    "namespaces",
    "persistentvolumes",
    "clusterroles",
    "clusterrolebindings",
    "customresourcedefinitions",
    "certificatesigningrequests",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "apiservices",
    "storageclasses",
    "priorityclasses",
    "tokenreviews",
    "subjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "selfsubjectreviews",
    "users",
    "groups",
];

/// Parts of a Vault path that tell one folder of secrets from another.
const VAULT_FOLDER: usize = 3;

impl<'a> Object<'a> {
    fn of(event: &Event<'a>) -> Option<Self> {
        let resource = event.resource?;
        match event.log {
            "kubernetes_audit" => {
                let mut parts = resource.split('/');
                let first = parts.next()?;
                // Paths such as `/healthz` begin with the slash.
                let kind = match OF_THE_CLUSTER.contains(&first) || first.is_empty() {
                    true => first,
                    false => parts.next().unwrap_or(first),
                };
                Some(Self { kind, part: parts.nth(1) })
            }
            "hashicorp_vault_audit" => {
                let end = resource.match_indices('/').nth(VAULT_FOLDER - 1);
                Some(Self { kind: end.map_or(resource, |(at, _)| &resource[..at]), part: None })
            }
            _ => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(log: &str, operation: &str, resource: &str) -> String {
        let event =
            Event { operation: Some(operation), resource: Some(resource), ..Event::new(log, 1) };
        Observation::of(event).doing().into_owned()
    }

    #[test]
    fn a_verb_is_told_with_what_it_is_done_to() {
        let kubernetes = |verb, resource| doing("kubernetes_audit", verb, resource);
        assert_eq!(kubernetes("list", "apps/secrets"), "list secrets");
        assert_eq!(kubernetes("get", "apps/secrets/db"), "get secrets");
        assert_eq!(kubernetes("create", "apps/pods/web-1/exec"), "create pods/exec");
        assert_eq!(kubernetes("create", "clusterrolebindings"), "create clusterrolebindings");
        assert_eq!(kubernetes("get", "nodes/n1/proxy"), "get nodes/proxy");
        let vault = |resource| doing("hashicorp_vault_audit", "read", resource);
        assert_eq!(vault("secret/data/shop/db"), "read secret/data/shop");
        assert_eq!(vault("sys/mounts"), "read sys/mounts");
        assert_eq!(doing("aws_cloudtrail", "GetObject", "arn:aws:s3:::x"), "GetObject");
    }
}
