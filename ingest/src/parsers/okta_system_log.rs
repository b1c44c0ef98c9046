//! Okta System Log, as `/api/v1/logs`, log streaming and event hooks give it: one JSON object for
//! each event. Data lakes that write the keys in lower case and times without zone are read too.
//!
//! Who acted is `actor.alternateId`, or `actor.id` where that is missing or `unknown`; whom it
//! concerns is the first user, app user or app of `target`. The credential is the API token of the
//! call (`requestApiTokenId`), else the session, else the device token.
//! Okta says `FAILURE` both for a wrong password and for an operation that went wrong; only the
//! former is the outcome `failure`. It reports no latency.
//! <https://developer.okta.com/docs/reference/api/system-log/>

use super::Parser;
use crate::json::{self, Lenient, Raw, Text};
use crate::payload::{Payload, Rejects};
use crate::value::{address, event_id};
use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use telltale_schema::time::parse_lenient;
use telltale_schema::{Event, EventBuilder, Kind, Outcome, PrincipalKind};

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

    fn parse(&self, payload: &Payload, events: &mut EventBuilder, rejects: &mut Rejects) {
        for (position, record) in payload.records() {
            match json::from_str::<LogEvent<'_>>(record) {
                Ok(event) => {
                    if let Err(cause) = event.append_to(record, events) {
                        rejects.push(position, cause);
                    }
                }
                Err(cause) => rejects.push(position, cause),
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogEvent<'a> {
    #[serde(borrow)]
    uuid: Text<'a>,
    #[serde(borrow)]
    published: Text<'a>,
    #[serde(borrow, alias = "eventtype")]
    event_type: Text<'a>,
    #[serde(borrow)]
    actor: Lenient<Actor<'a>>,
    #[serde(borrow)]
    client: Lenient<Client<'a>>,
    #[serde(borrow)]
    device: Lenient<Device<'a>>,
    #[serde(borrow)]
    outcome: Lenient<Ending<'a>>,
    #[serde(borrow)]
    target: Targets<'a>,
    #[serde(borrow)]
    transaction: Lenient<Transaction<'a>>,
    #[serde(borrow, alias = "debugcontext")]
    debug_context: Lenient<DebugContext<'a>>,
    #[serde(borrow, alias = "authenticationcontext")]
    authentication_context: Lenient<AuthenticationContext<'a>>,
    /// Looked into only where `client` has no address.
    #[serde(borrow)]
    request: Option<Raw<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Actor<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, alias = "alternateid")]
    alternate_id: Text<'a>,
    #[serde(borrow, alias = "displayname")]
    display_name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Client<'a> {
    #[serde(borrow, alias = "ipaddress")]
    ip_address: Text<'a>,
    #[serde(borrow, alias = "useragent")]
    user_agent: Lenient<UserAgent<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct UserAgent<'a> {
    #[serde(borrow, alias = "rawuseragent")]
    raw_user_agent: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Device<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ending<'a> {
    #[serde(borrow)]
    result: Text<'a>,
    #[serde(borrow)]
    reason: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Transaction<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    detail: Lenient<TransactionDetail<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TransactionDetail<'a> {
    #[serde(borrow, alias = "requestapitokenid")]
    request_api_token_id: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DebugContext<'a> {
    #[serde(borrow, alias = "debugdata")]
    debug_data: Lenient<DebugData<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DebugData<'a> {
    #[serde(borrow, alias = "dthash")]
    dt_hash: Text<'a>,
    #[serde(borrow, alias = "requesturi")]
    request_uri: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthenticationContext<'a> {
    #[serde(borrow, alias = "externalsessionid")]
    external_session_id: Text<'a>,
    #[serde(borrow, alias = "rootsessionid")]
    root_session_id: Text<'a>,
}

/// What an event has in `target`, sorted while it is read.
#[derive(Default)]
struct Targets<'a> {
    /// The user, app user, app or group that was acted on, in this order of preference.
    identity: Option<(u8, Actor<'a>)>,
    /// The first target that is no identity or a less preferred one.
    other: Option<Actor<'a>>,
    /// The token that was issued or revoked; access tokens before others.
    token: Option<Actor<'a>>,
}

impl<'a> Targets<'a> {
    fn add(&mut self, target: Actor<'a>) {
        let rank = match target.kind.get().unwrap_or_default() {
            "User" => 0,
            "AppUser" => 1,
            "AppInstance" | "PublicClientApp" | "OAuth2Client" | "ServiceAccount" => 2,
            "UserGroup" => 3,
            kind if is_token(kind) => {
                let better = matches!(kind, "access_token" | "AccessToken");
                if better || self.token.is_none() {
                    self.token = Some(target);
                }
                return;
            }
            _ if known(&target.alternate_id).is_some() => 4,
            _ => 5,
        };
        let loser = match &self.identity {
            _ if rank == 5 => Some(target),
            Some((best, _)) if *best <= rank => Some(target),
            _ => self.identity.replace((rank, target)).map(|(_, before)| before),
        };
        self.other = self.other.take().or(loser);
    }
}

fn is_token(kind: &str) -> bool {
    matches!(kind, "Token" | "AccessToken" | "RefreshToken" | "IDToken" | "ApiToken")
        || kind.ends_with("_token")
}

impl<'de: 'a, 'a> Deserialize<'de> for Targets<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TargetsVisitor;
        impl<'de> Visitor<'de> for TargetsVisitor {
            type Value = Targets<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of targets")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Targets<'de>, A::Error> {
                let mut targets = Targets::default();
                while let Some(target) = seq.next_element::<Lenient<Actor<'de>>>()? {
                    targets.add(target.0);
                }
                Ok(targets)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Targets<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Targets::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Targets<'de>, E> {
                Ok(Targets::default())
            }
            fn visit_unit<E>(self) -> Result<Targets<'de>, E> {
                Ok(Targets::default())
            }
        }
        deserializer.deserialize_any(TargetsVisitor)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request<'a> {
    #[serde(borrow, alias = "ipchain")]
    ip_chain: Vec<Lenient<Hop<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Hop<'a> {
    #[serde(borrow)]
    ip: Text<'a>,
}

impl LogEvent<'_> {
    /// Errors: why the record is no event.
    fn append_to(&self, record: &str, events: &mut EventBuilder) -> Result<(), String> {
        let operation = self.event_type.get();
        let event_time = match self.published.get() {
            Some(text) => parse_lenient(text)
                .ok_or_else(|| format!("`published` is not RFC 3339: {text:?}"))?,
            None if operation.is_none() => return Err("`eventType` is missing".to_owned()),
            None => events.received_at(),
        };
        let kind = operation.map_or(Kind::ApiCall, kind_of);
        let (principal_id, principal_name) = names(&self.actor);
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
                None => event_id(LOG, None, &[record]),
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

/// Text that is not one of Okta's ways to say nothing.
fn known<'t>(text: &'t Text<'_>) -> Option<&'t str> {
    text.get().filter(|text| !matches!(*text, "unknown" | "UNKNOWN" | "null"))
}

/// Id and name of who acted.
fn names<'t>(actor: &'t Actor<'_>) -> (Option<&'t str>, Option<&'t str>) {
    let id = known(&actor.id);
    (known(&actor.alternate_id).or(id), known(&actor.display_name).or(id))
}

fn principal_kind(actor: &Actor<'_>) -> PrincipalKind {
    match actor.kind.get().unwrap_or_default() {
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
                () if reason.contains("not authorized") || reason.contains("permission") => {
                    Outcome::Denied
                }
                () if authenticates || operation.starts_with("user.") => Outcome::Failure,
                () => Outcome::Error,
            }
        }
        // CHALLENGE and SKIPPED are steps on the way, not an end.
        _ => Outcome::Unknown,
    }
}

/// What an `eventType` means.
/// Source: <https://developer.okta.com/docs/reference/api/event-types/>
fn kind_of(operation: &str) -> Kind {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| operation.starts_with(p));
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| operation.ends_with(s));
    match operation.split('.').next().unwrap_or_default() {
        "user" => user_kind(operation),
        "app" if operation.contains("detect_reuse") || operation == "app.token.reuse" => {
            Kind::ExposureReported
        }
        "app" if operation.contains(".token.grant") => Kind::TokenIssued,
        "app" if operation.contains(".token.revoke") => Kind::CredentialRevoked,
        "app" if ends(&[".key.rollover"]) => Kind::CredentialRotated,
        "app" if operation.contains(".credentials.") || operation.contains(".secret.") => {
            credential_kind_of(operation)
        }
        "app" if operation.contains(".client.lifecycle.") => Kind::IdentityChanged,
        "app" if operation.contains(".privilege.") || operation.contains(".consent.") => {
            Kind::PolicyChanged
        }
        "application" if starts(&["application.lifecycle."]) => Kind::IdentityChanged,
        "application" if starts(&["application.user_membership.", "application.policy."]) => {
            Kind::PolicyChanged
        }
        "policy" if starts(&["policy.lifecycle.", "policy.rule."]) => Kind::PolicyChanged,
        "group" if starts(&["group.lifecycle.", "group.profile."]) => Kind::IdentityChanged,
        "group" if operation.starts_with("group.") => Kind::PolicyChanged,
        "iam" | "zone" => Kind::PolicyChanged,
        "event_hook" => Kind::LoggingChanged,
        "system" if starts(&["system.log_stream."]) => Kind::LoggingChanged,
        "system" if starts(&["system.api_token."]) => credential_kind_of(operation),
        "system" if starts(&["system.idp."]) => Kind::PolicyChanged,
        "system" if starts(&["system.mfa.factor."]) => Kind::PolicyChanged,
        "security" if starts(&["security.breached_credential."]) => Kind::ExposureReported,
        "security" if operation.contains(".lifecycle.") || operation.contains("trusted_origin") => {
            Kind::PolicyChanged
        }
        "pam" if operation.contains("secret") && operation.contains("reveal") => Kind::SecretRead,
        _ => Kind::ApiCall,
    }
}

fn user_kind(operation: &str) -> Kind {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| operation.starts_with(p));
    match operation {
        _ if starts(&["user.session.impersonation."]) => Kind::Impersonation,
        "user.session.clear" => Kind::CredentialRevoked,
        _ if starts(&["user.session.start", "user.authentication.", "user.mfa.okta_verify."]) => {
            Kind::Authentication
        }
        _ if starts(&["user.mfa.attempt"]) => Kind::Authentication,
        _ if starts(&["user.mfa.factor.", "user.credential."]) => credential_kind_of(operation),
        "user.account.update_password" | "user.account.reset_password" => Kind::CredentialRotated,
        _ if starts(&["user.account.report_suspicious_activity"]) => Kind::ExposureReported,
        _ if starts(&["user.account.privilege."]) => Kind::PolicyChanged,
        _ if starts(&["user.lifecycle.", "user.account."]) => Kind::IdentityChanged,
        _ => Kind::ApiCall,
    }
}

/// What the last word of an operation does to a credential.
fn credential_kind_of(operation: &str) -> Kind {
    match operation.rsplit('.').next().unwrap_or_default() {
        "create" | "activate" | "enroll" | "unsuspend" => Kind::CredentialCreated,
        "update" | "rotate" | "rollover" => Kind::CredentialRotated,
        "revoke" | "deactivate" | "delete" | "reset_all" | "suspend" => Kind::CredentialRevoked,
        _ => Kind::ApiCall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_has_its_kind() {
        for (operation, kind) in [
            ("user.session.start", Kind::Authentication),
            ("user.authentication.auth_via_mfa", Kind::Authentication),
            ("user.session.impersonation.initiate", Kind::Impersonation),
            ("user.account.privilege.grant", Kind::PolicyChanged),
            ("user.mfa.factor.reset_all", Kind::CredentialRevoked),
            ("app.oauth2.as.token.grant.access_token", Kind::TokenIssued),
            ("app.oauth2.token.detect_reuse", Kind::ExposureReported),
            ("app.oauth2.as.token.revoke", Kind::CredentialRevoked),
            ("app.oauth2.credentials.lifecycle.create", Kind::CredentialCreated),
            ("system.api_token.create", Kind::CredentialCreated),
            ("system.api_token.revoke", Kind::CredentialRevoked),
            ("system.log_stream.lifecycle.deactivate", Kind::LoggingChanged),
            ("security.breached_credential.detected", Kind::ExposureReported),
            ("policy.rule.update", Kind::PolicyChanged),
            ("policy.evaluate_sign_on", Kind::ApiCall),
            ("group.user_membership.add", Kind::PolicyChanged),
            ("something.new", Kind::ApiCall),
        ] {
            assert_eq!(kind_of(operation), kind, "{operation}");
        }
    }
}
