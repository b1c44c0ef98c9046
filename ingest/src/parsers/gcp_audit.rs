//! Google Cloud audit logs: Cloud Logging's `LogEntry` with an `AuditLog` as its `protoPayload`,
//! as sinks, `gcloud logging read` and data lakes (top-level keys in lower case, times with a
//! space) write it, and as BigQuery does, where `requestJson` and the like are JSON in strings. GKE's, Cloud Identity's and Workspace's audit come in the same form.
//! <https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog>
//!
//! Who acted is `authenticationInfo`, which is `{}` in some denied calls and has only a
//! `principalSubject` for federated callers. Whom a service account was borrowed through stands in
//! `serviceAccountDelegationInfo`, first caller first; whose token an IAM Credentials call asked for
//! in `request.name` by e-mail and in `resourceName` by number; as whom a caller was not let act in a
//! cluster of GKE only in the text of `response`. `status` is missing or `{}` when all
//! went well; `error_code` is the name of its gRPC code. A sink repeats entries: `insertId`,
//! `timestamp` and `logName` together say which are the same.

mod kind;
mod principal;
mod record;

use super::kubernetes_audit::refused_impersonation;
use super::{Parser, append_or_refuse};
use crate::json::{self, Object, Raw};
use crate::payload::{Payload, Rejects};
use crate::value::{content_id, event_id, outcome_of_status};
use kind::kind_of_call;
use memchr::memmem;
use principal::principal_kind;
use record::{Answer, AuditLog, Body, Delegation, Labels, LogEntry, Metadata, PolicyDelta};
use record::{RequestMetadata, ServiceData};
use serde::Deserialize;
use std::fmt::Write;
use telltale_schema::time::{Micros, SECOND, UNKNOWN, parse_instant};
use telltale_schema::{Event, Events, Kind, Outcome};

const LOG: &str = "gcp_audit";

pub struct GcpAudit;

impl Parser for GcpAudit {
    fn name(&self) -> &'static str {
        LOG
    }

    fn help(&self) -> &'static str {
        "Google Cloud audit logs: LogEntry with protoPayload"
    }

    fn source(&self) -> &'static str {
        include_str!("gcp_audit.rs")
    }

    fn recognises(&self, record: &str) -> bool {
        let has = |text: &str| memmem::find(record.as_bytes(), text.as_bytes()).is_some();
        record.starts_with('{')
            && (has("\"protoPayload\"") || has("\"protopayload"))
            && ["audit.AuditLog", "cloudaudit.googleapis.com", "\"methodName\"", "\"methodname\""]
                .into_iter()
                .chain(["\"authenticationInfo\"", "\"authorizationInfo\""])
                .any(has)
    }

    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects) {
        let mut scratch = Scratch::default();
        append_or_refuse(payload, rejects, |record| {
            let entry: LogEntry<'_> = json::from_str(record)?;
            entry.append_to(events, record, &mut scratch)
        });
    }
}

/// Memory for texts that have to be put together, used again for every event.
#[derive(Default)]
struct Scratch {
    target: String,
    issued: String,
    time: String,
    bodies: Bodies,
}

/// What an export has as JSON in strings, unescaped.
#[derive(Default)]
struct Bodies {
    request: String,
    response: String,
    metadata: String,
}

impl LogEntry<'_> {
    fn append_to(
        &self,
        events: &mut dyn Events,
        record: &str,
        scratch: &mut Scratch,
    ) -> Result<(), json::Error> {
        let (payload_text, payload);
        let audit = match self.proto_payload.get() {
            Some(audit) => audit,
            None => {
                payload_text = text_of_payload(record).ok_or_else(|| {
                    json::Error::message("no audit entry: `protoPayload` is missing")
                })?;
                payload = json::from_str(&payload_text)?;
                &payload
            }
        };
        if let Some(other) = audit.payload_type.get().filter(|text| !text.contains("AuditLog")) {
            let other: String = other.chars().take(100).collect();
            return Err(json::Error::message(format_args!("`protoPayload` is a `{other}`")));
        }
        let caller = audit.request_metadata.get();
        let event_time = match self.event_time(caller) {
            Some(at) => at,
            None if audit.method_name.get().is_none() => {
                return Err(json::Error::message("no audit entry: neither a time nor a method"));
            }
            None => UNKNOWN,
        };

        let who = audit.authentication_info.get();
        let email = who.and_then(|who| who.principal_email.get());
        let subject = who.and_then(|who| who.principal_subject.get());
        let key = who.and_then(|who| who.service_account_key_name.get());
        let principal = email.or(subject);
        let labels = self.resource.get().and_then(|resource| resource.labels.get());
        let service = audit.service_name.get();
        let method = audit.method_name.get().unwrap_or_default();
        let status = audit.status.get().map(|status| status.code.0.unwrap_or(0));
        let refused = audit
            .response()
            .filter(|_| status == Some(7) && method.starts_with("io.k8s."))
            .and_then(|response| response.opened(&mut scratch.bodies.response))
            .and_then(|response| response.read::<Answer<'_>>().ok()?.message)
            .and_then(|message| refused_impersonation(message, &mut scratch.target));
        let kind = match refused {
            Some(_) => Kind::Impersonation,
            None => kind_of_call(service, method),
        };
        let details = Details::of(audit, kind, method, &mut scratch.bodies);

        let email_id = labels.and_then(|labels| labels.email_id.get());
        let target = match refused {
            Some(told) => told.then_some(scratch.target.as_str()),
            None => details.target(audit, email_id, &mut scratch.target),
        };
        let delegated = who.and_then(|who| who.service_account_delegation_info);
        let delegated: Vec<Object<Delegation<'_>>> =
            delegated.and_then(|raw| raw.read().ok()).unwrap_or_default();
        let mut chain = Vec::new();
        if !delegated.is_empty() || details.kind == Kind::Impersonation {
            details.chain(&delegated, principal, target, &mut chain);
        }

        let failed = method.ends_with(".loginFailure");
        let (http, error_code) = http_status(status.unwrap_or(0));
        let outcome = if failed { Outcome::Failure } else { outcome_of_status(http.into()) };
        let ip = caller.and_then(RequestMetadata::address);
        let tenant = tenant(labels, self.log_name.get());
        scratch.time.clear();
        // Writing to a `String` does not fail. Exports spell the same instant in several ways.
        let _ = write!(scratch.time, "{event_time}");
        let log_name = self.log_name.get().unwrap_or_default();
        let latency = self.http_request.get().and_then(|request| request.latency.get());
        events.push(&Event {
            event_id: match self.insert_id.get() {
                Some(id) => event_id(LOG, tenant, &[id, &scratch.time, log_name]),
                None => content_id(LOG, tenant, &[record]),
            },
            tenant,
            kind: details.kind,
            operation: audit.method_name.get(),
            service,
            outcome,
            status_code: status.map(|_| http),
            error_code,
            principal_id: principal,
            principal_kind: principal_kind(email, subject),
            target_id: target,
            delegation_chain: &chain,
            credential_id: key,
            credential_kind: key.map(|_| "service_account_key"),
            issued_credential_id: details.issued(&mut scratch.issued),
            source_ip: ip.as_deref(),
            user_agent: caller.and_then(|caller| caller.caller_supplied_user_agent.get()),
            resource: audit.resource_name.get(),
            region: labels
                .and_then(|l| l.location.get().or(l.region.get()).or(l.zone.get()))
                .or_else(|| audit.resource_location.get()?.current_locations.get()),
            latency_us: latency.and_then(duration),
            change_id: self
                .operation
                .get()
                .filter(|_| details.is_change())
                .and_then(|operation| operation.id.get()),
            raw: Some(record),
            ..Event::new(LOG, event_time)
        });
        Ok(())
    }

    /// `timestamp`; exports that lost it have when the entry was received or the call was made.
    fn event_time(&self, caller: Option<&RequestMetadata<'_>>) -> Option<Micros> {
        let request = || caller?.request_attributes.get()?.time.get().and_then(parse_instant);
        let received = || self.receive_timestamp.get().and_then(parse_instant);
        self.timestamp.get().and_then(parse_instant).or_else(received).or_else(request)
    }
}

/// What only some calls are looked into for: nothing of it is read for the others.
struct Details<'a> {
    kind: Kind,
    request: Body<'a>,
    response: Body<'a>,
    metadata: Metadata<'a>,
    delta: Object<PolicyDelta<'a>>,
}

impl<'a> Details<'a> {
    fn of(audit: &AuditLog<'a>, mut kind: Kind, method: &str, texts: &'a mut Bodies) -> Self {
        fn read<'a, T: Deserialize<'a> + Default>(raw: Option<Raw<'a>>, wanted: bool) -> T {
            raw.filter(|_| wanted).and_then(|raw| raw.read().ok()).unwrap_or_default()
        }
        let service = audit.service_name.get();
        let directory = matches!(service, Some("login.googleapis.com" | "admin.googleapis.com"));
        let bodies = concerns_identity(kind);
        let request = audit.request().and_then(|raw| raw.opened(&mut texts.request));
        let response = audit.response().and_then(|raw| raw.opened(&mut texts.response));
        let metadata = audit.metadata().and_then(|raw| raw.opened(&mut texts.metadata));
        let delta = read::<ServiceData<'_>>(audit.service_data(), kind == Kind::PolicyChanged);
        let delta = delta.policy_delta;
        if let Some(delta) = delta.get() {
            // Only what is logged was changed: `SetIamPolicy` also turns data access logs off.
            let audit_only = delta.binding_deltas.is_none() && delta.audit_config_deltas.is_some();
            kind = if audit_only { Kind::LoggingChanged } else { kind };
        }
        let flow_logs = |raw: Raw<'_>| {
            ["\"enableFlowLogs\"", "\"logConfig\""]
                .iter()
                .any(|name| memmem::find(raw.0.as_bytes(), name.as_bytes()).is_some())
        };
        if method.ends_with("compute.subnetworks.patch") && request.is_some_and(flow_logs) {
            kind = Kind::LoggingChanged;
        }
        Self {
            kind,
            request: read(request, bodies),
            response: read(response, bodies),
            metadata: read(metadata, directory || kind == Kind::Impersonation),
            delta,
        }
    }

    fn is_change(&self) -> bool {
        matches!(self.kind, Kind::PolicyChanged | Kind::IdentityChanged | Kind::LoggingChanged)
    }

    /// The identity acted as or acted on, by e-mail where the entry has it.
    fn target<'s>(
        &'s self,
        audit: &'s AuditLog<'_>,
        email_id: Option<&'s str>,
        text: &'s mut String,
    ) -> Option<&'s str> {
        let parameter = self.parameter(&["affected_email_address", "USER_EMAIL"]);
        if parameter.is_some() {
            return parameter;
        }
        if !concerns_identity(self.kind) {
            return None;
        }
        let resource = audit.resource_name.get();
        let named = [
            self.request.name.get().and_then(service_account),
            self.request.resource.get().and_then(service_account),
            email_id,
            self.response.email.get(),
            resource.and_then(service_account),
        ];
        let mut all = named.into_iter().flatten();
        let by_email = all.clone().find(|account| account.contains('@'));
        by_email.or_else(|| all.next()).or_else(|| self.member()).or_else(|| {
            // GKE: `core/v1/namespaces/prod/serviceaccounts/deploy/token`.
            let (namespace, name) =
                resource?.strip_prefix("core/v1/namespaces/")?.split_once("/serviceaccounts/")?;
            let name = name.split('/').next().unwrap_or(name);
            text.clear();
            let _ = write!(text, "system:serviceaccount:{namespace}:{name}");
            Some(text.as_str())
        })
    }

    /// Whom a policy change gave a role or took it from: the first one of them.
    fn member(&self) -> Option<&str> {
        let deltas = self.delta.get()?.binding_deltas.as_ref()?;
        let member = deltas.iter().find_map(Object::get)?.member.get()?;
        let kinds = ["serviceAccount:", "user:", "group:", "domain:"];
        Some(kinds.iter().find_map(|kind| member.strip_prefix(kind)).unwrap_or(member))
    }

    fn parameter(&self, names: &[&str]) -> Option<&str> {
        let activities = self.metadata.event.iter().flatten().filter_map(Object::get);
        let mut parameters = activities
            .flat_map(|activity| activity.parameter.iter().flatten())
            .filter_map(Object::get);
        parameters.find(|p| p.name.get().is_some_and(|name| names.contains(&name)))?.value.get()
    }

    /// Fills `chain` with who acted through whom: real callers, the account that called, delegates,
    /// the account acted as. Left empty when nobody is named who called, or nobody else.
    fn chain<'s>(
        &'s self,
        delegated: &'s [Object<Delegation<'_>>],
        principal: Option<&'s str>,
        target: Option<&'s str>,
        chain: &mut Vec<&'s str>,
    ) {
        let callers = delegated.iter().filter_map(Object::get).filter_map(Delegation::authority);
        let through = self.metadata.identity_delegation_chain.iter().flatten();
        let through = through.filter_map(|link| {
            let link = link.get()?;
            Some(service_account(link).unwrap_or(link))
        });
        let target = target.filter(|_| self.kind == Kind::Impersonation);
        chain.extend(callers.chain(principal));
        if !chain.is_empty() {
            chain.extend(through.chain(target));
        }
        chain.dedup();
        if chain.len() == 1 {
            chain.clear();
        }
    }

    /// The new key, spelled as `serviceAccountKeyName` will spell it when it is used.
    fn issued<'s>(&'s self, text: &'s mut String) -> Option<&'s str> {
        let name = self.response.name.get().filter(|_| self.kind == Kind::CredentialCreated)?;
        if service_account(name).is_none() {
            return Some(name);
        }
        text.clear();
        let _ = write!(text, "//iam.googleapis.com/{name}");
        Some(text.as_str())
    }
}

/// The payload of an entry that has it as JSON in a string.
fn text_of_payload(record: &str) -> Option<String> {
    let names = ["protoPayload", "protopayload", "protopayload_auditlog"];
    let raw = names.into_iter().find_map(|name| json::field(record, name))?;
    let mut text = String::new();
    raw.opened(&mut text)?.is_object().then_some(text)
}

/// Whether a call of this kind names somebody whom it is done to.
fn concerns_identity(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Impersonation
            | Kind::TokenIssued
            | Kind::CredentialCreated
            | Kind::CredentialRevoked
            | Kind::IdentityChanged
            | Kind::PolicyChanged
    )
}

/// E-mail or number out of `projects/-/serviceAccounts/deploy@p.iam.gserviceaccount.com/keys/1`.
fn service_account(name: &str) -> Option<&str> {
    let (_, account) = name.split_once("/serviceAccounts/")?;
    account.split('/').next().filter(|account| !account.is_empty())
}

/// The project, else the organisation, folder or billing account that the log belongs to.
fn tenant<'a>(labels: Option<&'a Labels<'_>>, log_name: Option<&'a str>) -> Option<&'a str> {
    labels.and_then(|labels| labels.project_id.get()).or_else(|| {
        let owner = log_name?.split_once("/logs/")?.0;
        Some(owner.strip_prefix("projects/").unwrap_or(owner))
    })
}

/// The HTTP equivalent of a gRPC code and its name where it is an error. Some services put an HTTP
/// status in its place.
/// Source: <https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>.
fn http_status(code: i64) -> (i16, Option<&'static str>) {
    match code {
        0 => (200, None),
        1 => (499, Some("CANCELLED")),
        3 => (400, Some("INVALID_ARGUMENT")),
        4 => (504, Some("DEADLINE_EXCEEDED")),
        5 => (404, Some("NOT_FOUND")),
        6 => (409, Some("ALREADY_EXISTS")),
        7 => (403, Some("PERMISSION_DENIED")),
        8 => (429, Some("RESOURCE_EXHAUSTED")),
        9 => (400, Some("FAILED_PRECONDITION")),
        10 => (409, Some("ABORTED")),
        11 => (400, Some("OUT_OF_RANGE")),
        12 => (501, Some("UNIMPLEMENTED")),
        13 => (500, Some("INTERNAL")),
        14 => (503, Some("UNAVAILABLE")),
        15 => (500, Some("DATA_LOSS")),
        16 => (401, Some("UNAUTHENTICATED")),
        100..=599 => (code as i16, None),
        _ => (500, Some("UNKNOWN")),
    }
}

/// Microseconds of a protobuf duration, `0.048180s`.
fn duration(text: &str) -> Option<i64> {
    let secs: f64 = text.strip_suffix('s')?.parse().ok()?;
    (0.0..1e9).contains(&secs).then(|| (secs * SECOND as f64).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_entries_are_recognised_and_other_entries_are_not() {
        for record in [
            r#"{"protoPayload":{"methodName":"SetIamPolicy"}}"#,
            r#"{"logname":"projects/p/logs/cloudaudit.googleapis.com%2Factivity","protopayload":{}}"#,
        ] {
            assert!(GcpAudit.recognises(record), "{record}");
        }
        for record in [
            r#"{"logName":"projects/p/logs/requests","jsonPayload":{},"httpRequest":{}}"#,
            r#"{"protoPayload":{"@type":"type.googleapis.com/google.appengine.logging.v1.RequestLog"}}"#,
            r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","verb":"get"}"#,
        ] {
            assert!(!GcpAudit.recognises(record), "{record}");
        }
    }
}
