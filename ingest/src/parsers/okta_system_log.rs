//! Okta System Log, as `/api/v1/logs`, log streaming and event hooks give it: one JSON object for
//! each event. Data lakes that write the keys in lower case and times without zone are read too.
//!
//! Who acted is `actor.alternateId`, or `actor.id` where that is missing or `unknown`; nobody where
//! both are, as where somebody signs in as a user who does not exist, and then `principal_name` has
//! Okta's word for it. Whom it concerns is the first
//! user, app user or app of `target`. The credential is the API token of the call
//! (`requestApiTokenId`), else the session, else the device token.
//! Okta says `FAILURE` both for a wrong password and for an operation that went wrong; only the
//! former is the outcome `failure`. It reports no latency. An event whose `published` is no time has
//! none.
//! <https://developer.okta.com/docs/reference/api/system-log/>

mod kind;
mod record;

use super::{Parser, append_or_refuse};
use crate::json::{self, Lenient};
use crate::payload::{Payload, Rejects};
use crate::value::{address, content_id, event_id};
use kind::kind_of;
use memchr::memmem;
use record::{Actor, Ending, LogEvent, Request, known};
use telltale_schema::time::{UNKNOWN, parse_lenient};
use telltale_schema::{Event, Events, Kind, Outcome, PrincipalKind};

const LOG: &str = "okta_system_log";

pub struct OktaSystemLog;

impl Parser for OktaSystemLog {
    fn name(&self) -> &'static str {
        LOG
    }

    fn help(&self) -> &'static str {
        "Okta System Log events: API, log streaming, event hooks, data-lake exports"
    }

    fn source(&self) -> &'static str {
        include_str!("okta_system_log.rs")
    }

    fn recognises(&self, record: &str) -> bool {
        const NAMES: [&str; 8] = [
            "\"alternateId\"",
            "\"authenticationContext\"",
            "\"authenticationcontext\"",
            "\"legacyEventType\"",
            "\"legacyeventtype\"",
            "\"displayMessage\"",
            "\"displaymessage\"",
            "\"debugContext\"",
        ];
        let has = |name: &str| memmem::find(record.as_bytes(), name.as_bytes()).is_some();
        let own = |name: &str| has(name) && json::field(record, name.trim_matches('"')).is_some();
        record.starts_with('{')
            && (own("\"eventType\"") || own("\"eventtype\""))
            && own("\"actor\"")
            && NAMES.iter().any(|name| has(name))
    }

    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects) {
        append_or_refuse(payload, rejects, |record| {
            let event: LogEvent<'_> = json::from_str(record).map_err(|cause| cause.to_string())?;
            event.append_to(record, events)
        });
    }
}

impl LogEvent<'_> {
    /// Errors: why the record is no event.
    fn append_to(&self, record: &str, events: &mut dyn Events) -> Result<(), String> {
        let operation = self.event_type.get();
        let (principal_id, principal_name) = names(&self.actor);
        let event_time = match self.published.get().and_then(parse_lenient) {
            Some(at) => at,
            None if operation.is_none() => return Err("`eventType` is missing".to_owned()),
            // An event hook has a type of its own around its events.
            None if self.published.get().is_none() && self.actor.kind.get().is_none() => {
                return Err("`published` and `actor` are missing".to_owned());
            }
            None => UNKNOWN,
        };
        let kind = operation.map_or(Kind::ApiCall, kind_of);
        let target_id = self.targets_identity();
        let chain = [principal_id.unwrap_or_default(), target_id.unwrap_or_default()];
        let impersonates = kind == Kind::Impersonation && chain.iter().all(|link| !link.is_empty());

        let context = &self.authentication_context;
        let session_id =
            known(&context.external_session_id).or_else(|| known(&context.root_session_id));
        let debug = &self.debug_context.debug_data;
        let api_token = known(&self.transaction.detail.request_api_token_id);
        let token = self.target.token.as_ref();
        // What is reported as exposed is the token, not the session of whoever reports it.
        let exposed = token.filter(|_| kind == Kind::ExposureReported).and_then(|t| known(&t.id));
        let (credential_id, credential_kind) = match (api_token, session_id) {
            _ if exposed.is_some() => (exposed, Some("token")),
            (Some(token), _) => (Some(token), Some("api_token")),
            (None, Some(session)) => (Some(session), Some("session")),
            _ => (known(&debug.dt_hash), known(&debug.dt_hash).map(|_| "device_token")),
        };
        let mints = matches!(kind, Kind::TokenIssued | Kind::CredentialCreated);
        let issued = token.filter(|_| mints);

        let request = match self.client.ip_address.get() {
            None => self.request.and_then(|raw| raw.read::<Lenient<Request<'_>>>().ok()),
            Some(_) => None,
        };
        let first_hop = request.as_ref().and_then(|request| request.ip_chain.first());
        let source_ip = match first_hop {
            Some(hop) => hop.ip.get().and_then(address),
            None => self.client.ip_address.get().and_then(address),
        };
        let outcome = outcome_of(&self.outcome, kind, operation.unwrap_or_default());
        let error_code = match outcome {
            Outcome::Success | Outcome::Unknown => None,
            _ => self.outcome.reason.get().filter(|r| is_code(r)).or(self.outcome.result.get()),
        };
        events.push(&Event {
            event_id: match known(&self.uuid) {
                Some(uuid) => event_id(LOG, None, &[uuid]),
                None => content_id(LOG, None, &[record]),
            },
            kind,
            operation,
            outcome,
            error_code,
            principal_id,
            principal_kind: principal_kind(&self.actor),
            principal_name,
            target_id,
            delegation_chain: if impersonates { &chain } else { &[] },
            credential_id,
            credential_kind,
            issued_credential_id: issued.and_then(|token| known(&token.id)),
            session_id,
            source_ip: source_ip.as_deref(),
            user_agent: known(&self.client.user_agent.raw_user_agent),
            resource: self.resource().or_else(|| debug.request_uri.get()),
            instance_id: known(&self.device.id).or_else(|| known(&self.device.name)),
            change_id: self.transaction.id.get().filter(|_| kind == Kind::PolicyChanged),
            raw: Some(record),
            ..Event::new(LOG, event_time)
        });
        Ok(())
    }

    fn targets_identity(&self) -> Option<&str> {
        let (_, identity) = self.target.identity.as_ref()?;
        known(&identity.alternate_id).or_else(|| known(&identity.id))
    }

    fn resource(&self) -> Option<&str> {
        let other = self.target.other.as_ref().or(self.target.token.as_ref())?;
        known(&other.alternate_id)
            .or_else(|| known(&other.display_name))
            .or_else(|| known(&other.id))
    }
}

/// Id and name of who acted.
fn names<'t>(actor: &'t Actor<'_>) -> (Option<&'t str>, Option<&'t str>) {
    let id = known(&actor.id);
    let principal_id = known(&actor.alternate_id).or(id);
    let word = actor.alternate_id.get().or(actor.id.get()).filter(|_| principal_id.is_none());
    (principal_id, known(&actor.display_name).or(id).or(word))
}

fn is_named(actor: &Actor<'_>) -> bool {
    let names = [&actor.id, &actor.alternate_id, &actor.display_name];
    names.into_iter().any(|name| known(name).is_some())
}

fn principal_kind(actor: &Actor<'_>) -> PrincipalKind {
    match actor.kind.get().unwrap_or_default() {
        // Whoever signs in as a user that does not exist.
        "User" if !is_named(actor) => PrincipalKind::Anonymous,
        "User" => PrincipalKind::Human,
        // OAuth clients that act for themselves.
        "PublicClientApp" | "OAuth2Client" | "ServiceAccount" => PrincipalKind::ServiceAccount,
        "AppInstance" | "AppUser" | "Agent" => PrincipalKind::Workload,
        "AIAgent" | "AI_AGENT" | "AiAgent" => PrincipalKind::AiAgent,
        "SystemPrincipal" | "System" => PrincipalKind::System,
        "IP address" => PrincipalKind::Anonymous,
        _ => PrincipalKind::Unknown,
    }
}

/// Whether a reason is a code (`INVALID_CREDENTIALS`, `invalid_client`) and not a sentence, which
/// may hold names.
fn is_code(reason: &str) -> bool {
    reason.len() <= 64 && reason.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_')
}

fn outcome_of(said: &Ending<'_>, kind: Kind, operation: &str) -> Outcome {
    match said.result.get().unwrap_or_default() {
        "SUCCESS" | "ALLOW" => Outcome::Success,
        "DENY" => Outcome::Denied,
        "FAILURE" => {
            let reason = said.reason.get().unwrap_or_default().to_ascii_lowercase();
            let authenticates = matches!(kind, Kind::Authentication | Kind::TokenIssued);
            match () {
                () if reason.contains("denied") && !reason.contains("credential") => {
                    Outcome::Denied
                }
                () if ["not authorized", "unauthorized access", "permission"]
                    .iter()
                    .any(|words| reason.contains(words)) =>
                {
                    Outcome::Denied
                }
                () if operation.contains(".unauth_app_access_") => Outcome::Denied,
                () if authenticates || operation.starts_with("user.") => Outcome::Failure,
                () => Outcome::Error,
            }
        }
        // CHALLENGE and SKIPPED are steps on the way, not an end.
        _ => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Opener;

    #[test]
    fn the_record_is_recognised_and_its_envelope_is_opened() {
        let record = r#"{"eventType":"user.session.start","published":"2026-02-03T09:10:01Z","actor":{"alternateId":"a"}}"#;
        let quoted = record.replace('"', "\\\"");
        for envelope in [
            format!(r#"{{"source":"aws.partner/okta.com","detail":{record}}}"#),
            format!(
                r#"{{"eventType":"com.okta.event_hook","data":{{"events":[{record},{record}]}}}}"#
            ),
            format!(r#"{{"event":{{"original":"{quoted}"}}}}"#),
            format!(r#"{{"line":"{quoted}"}}"#),
            format!(r#"{{"payload":{record}}}"#),
        ] {
            assert!(OktaSystemLog.recognises(record));
            assert!(!OktaSystemLog.recognises(&envelope), "{envelope}");
            let mut found = Vec::new();
            Opener::new(None).open(&envelope, &mut |text| found.push(text.to_owned()));
            assert!(!found.is_empty() && found.iter().all(|inner| inner == record), "{envelope}");
        }
    }
}
