//! Kubernetes audit log, `audit.k8s.io` in any of its versions, as the API server writes it to its
//! file or webhook, as EKS puts it into CloudWatch and AKS into `properties.log`.
//! <https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/>
//!
//! One request is up to three events that share an `auditID`, one for each `stage`; each of them is
//! an event of its own here, so that a request that was never answered is not lost. The first one,
//! `RequestReceived`, knows no outcome. `operation` is the `verb`, `service` the API group (`core`
//! for the unnamed one), `resource` is `namespace/resource/name/subresource` with what there is of
//! it, or the path of a URL that is no resource. Events of 2017 have `timestamp` alone, and some that
//! were shared have no time at all.
//!
//! Whom a caller acted as is `impersonatedUser`. A caller that may not has none: whom it asked for
//! stands in `responseStatus.message`, be it a user, a service account, a node or a group.

mod act;
mod principal;
mod record;

pub(super) use act::{kind_of, refused_impersonation};
pub(super) use principal::kind_of_name;

use super::{Parser, append_or_refuse};
use crate::json;
use crate::payload::{Payload, Rejects};
use crate::value::{address, content_id, event_id, outcome_of_status};
use act::Act;
use memchr::memmem;
use principal::credential;
use record::{Annotations, AuditEvent, ObjectRef, ResponseStatus, User};
use std::fmt::Write;
use telltale_schema::time::{Micros, UNKNOWN, parse_instant};
use telltale_schema::{Event, EventId, Events, Kind, Outcome, PrincipalKind};

const LOG: &str = "kubernetes_audit";

pub struct KubernetesAudit;

impl Parser for KubernetesAudit {
    fn name(&self) -> &'static str {
        LOG
    }

    fn help(&self) -> &'static str {
        "Kubernetes audit events: file, webhook, EKS, AKS"
    }

    fn source(&self) -> &'static str {
        include_str!("kubernetes_audit.rs")
    }

    fn recognises(&self, record: &str) -> bool {
        let bytes = record.as_bytes();
        let has = |text: &str| memmem::find(bytes, text.as_bytes()).is_some();
        // A quote behind a backslash is an exporter's string with an audit event in it.
        let of_group = memmem::find_iter(bytes, b"\"audit.k8s.io/")
            .any(|at| at == 0 || bytes[at - 1] != b'\\');
        let of_shape = || {
            has_member(bytes, "kind", "Event")
                && has("\"verb\"")
                && (has("\"objectRef\"") || has("\"requestURI\"") || has("\"responseStatus\""))
        };
        record.starts_with('{')
            && (of_group || of_shape())
            && !has("\"protoPayload\"")
            && !is_list(bytes)
    }

    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects) {
        let mut scratch = Scratch::default();
        append_or_refuse(payload, rejects, |record| {
            let event: AuditEvent<'_> = json::from_str(record)?;
            event.append_to(events, record, &mut scratch)
        });
    }
}

/// Whether a member `"key": "value"` stands anywhere in the record.
fn has_member(record: &[u8], key: &str, value: &str) -> bool {
    memmem::find_iter(record, key).any(|at| {
        let mut rest = &record[at + key.len()..];
        // Quote, colon and quote, with or without white space between them.
        for mark in *b"\":\"" {
            match rest.trim_ascii_start().strip_prefix(&[mark]) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        rest.strip_prefix(value.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'))
    })
}

/// Whether this is an `EventList`, as webhooks are sent it, and not an event that carries a list of
/// something else: the list's own kind stands before the first `auditID`.
fn is_list(record: &[u8]) -> bool {
    let before = memmem::find(record, b"\"auditID\"").unwrap_or(record.len());
    memmem::find(&record[..before], b"\"EventList\"").is_some()
}

/// Memory for texts that have to be put together, used again for every event.
#[derive(Default)]
struct Scratch {
    resource: String,
    target: String,
    time: String,
}

impl AuditEvent<'_> {
    fn append_to(
        &self,
        events: &mut dyn Events,
        record: &str,
        scratch: &mut Scratch,
    ) -> Result<(), json::Error> {
        let asked = self.verb.get().or(self.request_uri.get());
        if self.audit_id.get().is_none() && !(self.kind.is("Event") && asked.is_some()) {
            return Err(json::Error::message(
                "no audit event: none of `auditID`, `verb` and `requestURI`",
            ));
        }
        let received = self.request_received_timestamp.get().and_then(parse_instant);
        let staged = || self.stage_timestamp.get().and_then(parse_instant);
        let created = || self.metadata.get()?.creation_timestamp.get().and_then(parse_instant);
        let event_time = received
            .or_else(|| self.timestamp.get().and_then(parse_instant))
            .or_else(created)
            .or_else(staged);
        if event_time.is_none() && asked.is_none() {
            return Err(json::Error::message("no audit event: neither a time nor a request"));
        }
        let event_time = event_time.unwrap_or(UNKNOWN);

        let user = self.user.get();
        let extra = user.and_then(|user| user.extra.get());
        let username = user.and_then(|user| user.username.get());
        let object = self.object_ref.get();
        let verb = self.verb.get().unwrap_or_default();
        let acts_as = self.impersonated_user.get().and_then(|user| user.username.get());
        let status = self.response_status.get();
        let code = status.and_then(|status| status.code.0).filter(|code| *code != 0);
        let act = status
            .filter(|status| acts_as.is_none() && outcome_of(status, code) == Outcome::Denied)
            .and_then(|status| refused_impersonation(status.message?, &mut scratch.target))
            .map(|target| Act { kind: Kind::Impersonation, target })
            .unwrap_or_else(|| Act::of(self, verb, &mut scratch.target));
        let issues_token = act.kind == Kind::TokenIssued;

        // Annotations are looked into only for what nothing else says.
        let annotations: Annotations<'_> = match self.annotations {
            Some(raw) if code.is_none() || issues_token => raw.read().unwrap_or_default(),
            _ => Annotations::default(),
        };
        let outcome = match status.map_or(Outcome::Unknown, |status| outcome_of(status, code)) {
            _ if code.is_none() && annotations.decision.is("forbid") => Outcome::Denied,
            Outcome::Unknown if self.stage.is("Panic") => Outcome::Error,
            outcome => outcome,
        };
        let failed = !matches!(outcome, Outcome::Success | Outcome::Unknown);

        let (credential_id, credential_kind) = credential(extra);
        let target = acts_as.or(act.target.then_some(scratch.target.as_str()));
        let kind = if acts_as.is_some() { Kind::Impersonation } else { act.kind };
        let chain = [username.unwrap_or_default(), target.unwrap_or_default()];
        let impersonates = kind == Kind::Impersonation && chain.iter().all(|link| !link.is_empty());
        let ip = self.source_ips.get().and_then(address);
        let tenant = self.cluster.get().and_then(|cluster| cluster.name.get());
        events.push(&Event {
            event_id: self.id(tenant, event_time, record, &mut scratch.time),
            tenant,
            kind,
            operation: self.verb.get(),
            service: object.and_then(|object| {
                object.resource.get().map(|_| object.api_group.get().unwrap_or("core"))
            }),
            outcome,
            status_code: code.and_then(|code| i16::try_from(code).ok()),
            error_code: status.filter(|_| failed).and_then(|status| status.reason.get()),
            principal_id: username,
            principal_kind: user.map_or(PrincipalKind::Unknown, User::principal_kind),
            principal_name: extra.and_then(|extra| extra.canonical_arn.get()),
            target_id: target,
            delegation_chain: if impersonates { &chain } else { &[] },
            credential_id,
            credential_kind,
            issued_credential_id: annotations.issued_credential_id.get().filter(|_| issues_token),
            session_id: extra.and_then(|extra| extra.session_name.get()),
            source_ip: ip.as_deref(),
            user_agent: self.user_agent.get(),
            resource: resource(object, self.request_uri.get(), &mut scratch.resource),
            instance_id: extra
                .and_then(|extra| extra.pod_name.get().or_else(|| extra.node_name.get()))
                .or_else(|| username?.strip_prefix("system:node:")),
            latency_us: received.filter(|_| self.is_answer(verb)).and_then(|received| {
                staged().map(|staged| staged - received).filter(|latency| *latency >= 0)
            }),
            raw: Some(record),
            ..Event::new(LOG, event_time)
        });
        Ok(())
    }

    /// A client may choose the `auditID` of its request by a header; with the time of the request
    /// beside it, nobody can make an event look like a repetition of another.
    fn id(&self, tenant: Option<&str>, at: Micros, record: &str, time: &mut String) -> EventId {
        let Some(id) = self.audit_id.get() else { return content_id(LOG, tenant, &[record]) };
        time.clear();
        // Writing to a `String` does not fail.
        let _ = write!(time, "{at}");
        event_id(LOG, tenant, &[id, self.stage.get().unwrap_or_default(), time.as_str()])
    }

    /// Whether this stage is where the answer was given. A watch and an attached terminal are
    /// answered when they start; their end is up to the client.
    fn is_answer(&self, verb: &str) -> bool {
        let subresource = self.object_ref.get().and_then(|object| object.subresource.get());
        let stays_open = verb == "watch"
            || matches!(subresource, Some("exec" | "attach" | "portforward" | "proxy" | "log"));
        self.stage.is(if stays_open { "ResponseStarted" } else { "ResponseComplete" })
    }
}

/// How a request ended by `responseStatus` alone: its code, else its words.
fn outcome_of(status: &ResponseStatus<'_>, code: Option<i64>) -> Outcome {
    match (code, status.status.get(), status.reason.get()) {
        (Some(code), ..) => outcome_of_status(code),
        (None, Some("Success"), _) => Outcome::Success,
        (None, Some("Failure"), Some("Forbidden")) => Outcome::Denied,
        (None, Some("Failure"), Some("Unauthorized")) => Outcome::Failure,
        (None, Some("Failure"), _) => Outcome::Error,
        (None, ..) => Outcome::Unknown,
    }
}

/// `namespace/resource/name/subresource` with what there is of it: a slice of the request's path
/// where that says the same, which is nearly always, else put together.
fn resource<'a>(
    object: Option<&'a ObjectRef<'_>>,
    uri: Option<&'a str>,
    scratch: &'a mut String,
) -> Option<&'a str> {
    let path = uri.map(|uri| uri.split('?').next().unwrap_or(uri));
    let Some(object) = object.filter(|object| object.resource.get().is_some()) else {
        return path;
    };
    // A namespace is an object within itself.
    let namespace = object.namespace.get().filter(|_| !object.resource.is("namespaces"));
    let parts = [namespace, object.resource.get(), object.name.get(), object.subresource.get()];
    let there = || parts.iter().flatten();
    let len = there().map(|part| part.len() + 1).sum::<usize>() - 1;
    let inner = path.and_then(|path| {
        let tail = match path.strip_prefix("/api/") {
            Some(rest) => rest.split_once('/')?.1,
            None => path.strip_prefix("/apis/")?.split_once('/')?.1.split_once('/')?.1,
        };
        if namespace.is_some() { tail.strip_prefix("namespaces/") } else { Some(tail) }
    });
    let same = |tail: &&str| {
        tail.len() == len
            && there().next().is_some_and(|first| tail.starts_with(first))
            && there().next_back().is_some_and(|last| tail.ends_with(last))
    };
    inner.filter(same).or_else(|| {
        scratch.clear();
        for part in there() {
            if !scratch.is_empty() {
                scratch.push('/');
            }
            scratch.push_str(part);
        }
        Some(scratch.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_events_are_recognised_and_other_records_are_not() {
        for record in [
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#,
            "{\n\t\"kind\": \"Event\",\n\t\"apiVersion\": \"audit.k8s.io/v1beta1\"}",
            r#"{"auditID":"a","apiVersion":"audit.k8s.io/v1","responseObject":{"kind":"EventList"}}"#,
            r#"{"verb": "get", "kind" : "Event", "objectRef": {"resource": "pods"}}"#,
        ] {
            assert!(KubernetesAudit.recognises(record), "{record}");
        }
        for record in [
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":"a"}]}"#,
            r#"{"properties":{"log":"{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\"}"}}"#,
            r#"{"kind":"Event","apiVersion":"v1","involvedObject":{"kind":"Pod"},"reason":"Killed"}"#,
            r#"{"protoPayload":{"request":{"kind":"Event"},"verb":"x","responseStatus":{}}}"#,
            r#"{"eventVersion":"1.08","eventSource":"eks.amazonaws.com"}"#,
        ] {
            assert!(!KubernetesAudit.recognises(record), "{record}");
        }
    }

    #[test]
    fn a_resource_is_a_slice_of_the_path_where_both_say_the_same() {
        let path = |object: &str, uri: Option<&str>| {
            let object: ObjectRef<'_> = json::from_str(object).unwrap();
            resource(Some(&object), uri, &mut String::new()).map(str::to_owned)
        };
        let secret = r#"{"resource":"secrets","namespace":"prod","name":"db"}"#;
        let uri = "/api/v1/namespaces/prod/secrets/db?timeout=10s";
        assert_eq!(path(secret, Some(uri)).as_deref(), Some("prod/secrets/db"));
        assert_eq!(path(secret, None).as_deref(), Some("prod/secrets/db"));
        // A create goes to the collection; the name is in the body.
        let collection = Some("/api/v1/namespaces/prod/secrets");
        assert_eq!(path(secret, collection).as_deref(), Some("prod/secrets/db"));
        let role =
            r#"{"resource":"clusterroles","name":"a:b","apiGroup":"rbac.authorization.k8s.io"}"#;
        let uri = Some("/apis/rbac.authorization.k8s.io/v1/clusterroles/a:b");
        assert_eq!(path(role, uri).as_deref(), Some("clusterroles/a:b"));
        let namespace = r#"{"resource":"namespaces","namespace":"prod","name":"prod"}"#;
        let uri = Some("/api/v1/namespaces/prod");
        assert_eq!(path(namespace, uri).as_deref(), Some("namespaces/prod"));
        assert_eq!(resource(None, Some("/healthz?verbose"), &mut String::new()), Some("/healthz"));
    }
}
