//! HashiCorp Vault's audit device (`file`, `socket`, `syslog`): one JSON object for each request
//! and one for its response, which share `request.id`; KMIP entries of Vault Enterprise.
//!
//! What the call was (a login, a secret read) is said once, by the response: the row of a request is
//! an `api_call`. It was not answered yet, so its outcome is `unknown`, unless Vault refused it at
//! once and its entry has the `error`.
//! Who acted is `auth.entity_id`, else `auth.display_name`. Accessors and tokens are HMACed by
//! Vault with a salt of the audit device, so they are ids within one device. The accessor is
//! preferred, and a login's `issued_credential_id` is the `credential_id` of what follows.
//! An AppRole's secret id, HMACed too, is the credential of its login; one in clear, which a device
//! with `log_raw` writes and a role may choose as it likes, is none. Vault reports no latency.
//! <https://developer.hashicorp.com/vault/docs/audit/schema>

mod call;
mod failure;
mod record;

use super::{Parser, append_or_refuse};
use crate::json::{self, Raw, Text};
use crate::payload::{Payload, Rejects};
use crate::value::{address, content_id, event_id};
use call::Call;
use failure::Failure;
use memchr::memmem;
use record::{Auth, Entry, LoginData, MintedData, hidden, known};
use telltale_schema::time::{SECOND, UNKNOWN, parse_instant};
use telltale_schema::{Event, Events, Kind, Outcome, PrincipalKind};

const LOG: &str = "hashicorp_vault_audit";

pub struct HashicorpVaultAudit;

impl Parser for HashicorpVaultAudit {
    fn name(&self) -> &'static str {
        LOG
    }

    fn help(&self) -> &'static str {
        "HashiCorp Vault audit device entries: requests, responses, KMIP"
    }

    fn source(&self) -> &'static str {
        include_str!("hashicorp_vault_audit.rs")
    }

    fn recognises(&self, record: &str) -> bool {
        const NAMES: [&str; 5] = [
            "\"token_type\"",
            "\"client_token\"",
            "\"mount_type\"",
            "\"remote_address\"",
            "\"kmip-re",
        ];
        let has = |name: &str| memmem::find(record.as_bytes(), name.as_bytes()).is_some();
        record.starts_with('{')
            && has("\"request\"")
            && NAMES.iter().any(|name| has(name))
            && json::field(record, "request").is_some_and(Raw::is_object)
            && json::field(record, "type").is_some_and(|kind| {
                matches!(
                    kind.0,
                    "\"request\"" | "\"response\"" | "\"kmip-request\"" | "\"kmip-response\""
                )
            })
    }

    fn parse(&self, payload: &Payload, events: &mut dyn Events, rejects: &mut Rejects) {
        append_or_refuse(payload, rejects, |record| {
            let entry: Entry<'_> = json::from_str(record).map_err(|cause| cause.to_string())?;
            entry.append_to(record, events)
        });
    }
}

impl Entry<'_> {
    /// Errors: why the record is no event.
    fn append_to(&self, record: &str, events: &mut dyn Events) -> Result<(), String> {
        let entry_type = self.kind.get().ok_or("`type` is missing")?;
        let (request, response, auth) = (&self.request, &self.response, &self.auth);
        let event_time = match self.time.get() {
            Some(time) => {
                parse_instant(time).ok_or_else(|| format!("`time` is not RFC 3339: {time:?}"))?
            }
            None if request.path.get().is_none() => {
                return Err("neither `time` nor `request.path` is there".to_owned());
            }
            None => UNKNOWN,
        };
        let mount_type = request.mount_type.get().or_else(|| response.mount_type.get());
        let call = Call {
            path: request.path.get().unwrap_or_default(),
            operation: request.operation.get().unwrap_or_default(),
            mount_type: mount_type.unwrap_or_default(),
            mount_point: request.mount_point.get().unwrap_or_default(),
        };
        let meaning = call.kind();
        let answered = entry_type.ends_with("response");
        let kind = if answered { meaning } else { Kind::ApiCall };
        let failure = self.failure(meaning);
        let outcome = match &failure {
            Some(failure) => failure.outcome,
            None if answered => Outcome::Success,
            None => Outcome::Unknown,
        };

        let principal_name = known(&auth.display_name);
        let principal_id = known(&auth.entity_id).or(principal_name);
        let data: LoginData<'_> = match (meaning, request.data) {
            (Kind::Authentication, Some(data)) => data.read().unwrap_or_default(),
            _ => LoginData::default(),
        };
        let target_id = self.target(&call, meaning, &data);
        // A token that is minted for another entity than the one that asks for it.
        let child = known(&response.auth.entity_id);
        let chain = [principal_id.unwrap_or_default(), child.unwrap_or_default()];
        let delegates = kind == Kind::TokenIssued && !chain[1].is_empty() && chain[0] != chain[1];

        let (credential_id, credential_kind) = self.credential(meaning, &data);
        let own_token = credential_id.is_some() && credential_kind != Some("secret_id");
        let issued_at = auth.token_issue_time.get().and_then(parse_instant).filter(|_| own_token);
        let minted: MintedData<'_> = match (outcome, kind, response.data) {
            (Outcome::Success, Kind::CredentialCreated | Kind::TokenIssued, Some(data)) => {
                data.read().unwrap_or_default()
            }
            _ => MintedData::default(),
        };
        let tenant = request.namespace.path.get().map(|path| path.trim_end_matches('/'));
        let tenant = tenant.filter(|path| !path.is_empty()).or_else(|| request.namespace.id.get());
        let source_ip = request.remote_address.get().and_then(address);
        events.push(&Event {
            event_id: match known(&request.id) {
                Some(id) => event_id(LOG, tenant, &[id, entry_type]),
                None => content_id(LOG, tenant, &[record]),
            },
            tenant,
            kind,
            operation: request.operation.get(),
            service: mount_type.or_else(|| entry_type.starts_with("kmip").then_some("kmip")),
            outcome,
            status_code: failure.as_ref().and_then(|f| f.status_code),
            error_code: failure.as_ref().and_then(|f| f.code.as_deref()),
            principal_id,
            principal_kind: principal_kind(auth),
            principal_name,
            target_id,
            delegation_chain: if delegates { &chain } else { &[] },
            credential_id,
            credential_kind,
            credential_issued_at: issued_at,
            credential_expires_at: issued_at.and_then(|at| {
                let ttl = auth.token_ttl.0.filter(|ttl| *ttl > 0)?;
                at.checked_add(ttl.checked_mul(SECOND)?)
            }),
            issued_credential_id: match outcome {
                Outcome::Success => self.issued(kind, &minted),
                _ => None,
            },
            source_ip: source_ip.as_deref(),
            user_agent: known(&request.headers.user_agent.0),
            resource: request.path.get(),
            instance_id: request.forwarded_from.get(),
            raw: Some(record),
            ..Event::new(LOG, event_time)
        });
        Ok(())
    }

    /// The credential that was presented, and its sort.
    fn credential<'t>(
        &'t self,
        meaning: Kind,
        login: &'t LoginData<'_>,
    ) -> (Option<&'t str>, Option<&'t str>) {
        let (auth, request) = (&self.auth, &self.request);
        if meaning == Kind::Authentication {
            // The `auth` of a login is the token that it gives, not one that was presented.
            let secret_id = hidden(&login.secret_id);
            return (secret_id, secret_id.map(|_| "secret_id"));
        }
        let id = known(&auth.accessor)
            .or_else(|| known(&auth.client_token))
            .or_else(|| known(&request.client_token_accessor))
            .or_else(|| known(&request.client_token));
        let kind = match auth.token_type.get() {
            Some("service") => "service_token",
            Some("batch") => "batch_token",
            _ => "token",
        };
        (id, id.map(|_| kind))
    }

    /// Whom a login or a new token is for; whom a change of identities concerns.
    fn target<'t>(
        &'t self,
        call: &Call<'t>,
        meaning: Kind,
        login: &'t LoginData<'_>,
    ) -> Option<&'t str> {
        let entity = || known(&self.response.auth.entity_id);
        match meaning {
            Kind::Authentication => {
                let metadata = &self.auth.metadata;
                [&metadata.role, &metadata.role_name, &metadata.username, &login.role]
                    .into_iter()
                    .find_map(|text| known(text).filter(|text| !text.starts_with("hmac-")))
                    .or_else(|| call.name_after("login/"))
                    .or_else(entity)
            }
            Kind::TokenIssued => call.name_after("create/").or_else(entity),
            Kind::CredentialCreated | Kind::IdentityChanged => ["role/", "users/", "name/", "id/"]
                .into_iter()
                .find_map(|before| call.name_after(before)),
            _ => None,
        }
    }

    /// The id by which what was minted is known later.
    fn issued<'t>(&'t self, kind: Kind, minted: &'t MintedData<'_>) -> Option<&'t str> {
        let (auth, wrap) = (&self.response.auth, &self.response.wrap_info);
        let token = || {
            [&auth.accessor, &wrap.wrapped_accessor, &auth.client_token].into_iter().find_map(known)
        };
        let lease = || {
            let data = [&minted.secret_id_accessor, &minted.access_key];
            known(&self.response.secret.lease_id)
                .or_else(|| hidden(&minted.secret_id))
                .or_else(|| data.into_iter().find_map(known))
                .or_else(|| known(&minted.serial_number))
                .or_else(|| known(&wrap.accessor))
        };
        match kind {
            Kind::Authentication => token(),
            Kind::TokenIssued => token().or_else(lease),
            Kind::CredentialCreated => lease(),
            _ => None,
        }
    }

    /// What went wrong, if anything did.
    fn failure(&self, meaning: Kind) -> Option<Failure> {
        if let Some(text) = self.error.get() {
            return Some(Failure::of(text, meaning));
        }
        // Errors that a plugin answers with are not in `error` but the only member of the data,
        // where Vault HMACs their text. A secret of the key-value store may look the same.
        let data = self.response.data?;
        let short = data.0.len() < 200 && data.0.contains("\"error\"");
        if !short || meaning == Kind::SecretRead {
            return None;
        }
        let only: std::collections::BTreeMap<&str, Text<'_>> = data.read().ok()?;
        let is_error = only.len() == 1 && only.get("error")?.get().is_some();
        is_error.then_some(Failure {
            outcome: match meaning {
                Kind::Authentication => Outcome::Failure,
                _ => Outcome::Error,
            },
            status_code: Some(400),
            code: None,
        })
    }
}

/// Sorts principals by what their auth method tells of them. A display name begins with the path
/// of the method's mount, which is its type unless an operator chose another.
fn principal_kind(auth: &Auth<'_>) -> PrincipalKind {
    let (metadata, name) = (&auth.metadata, auth.display_name.get().unwrap_or_default());
    if metadata.service_account_name.get().is_some() || metadata.canonical_arn.get().is_some() {
        return PrincipalKind::Workload;
    }
    match name.split(['-', '/']).next().unwrap_or_default() {
        "" => PrincipalKind::Unknown,
        "kubernetes" | "k8s" | "aws" | "gcp" | "azure" | "alicloud" | "cf" | "oci" => {
            PrincipalKind::Workload
        }
        "approle" | "jwt" | "cert" | "spiffe" => PrincipalKind::ServiceAccount,
        "userpass" | "ldap" | "oidc" | "okta" | "github" | "radius" | "kerberos" | "saml" => {
            PrincipalKind::Human
        }
        _ if metadata.role_name.get().is_some() => PrincipalKind::ServiceAccount,
        _ if metadata.username.get().is_some() => PrincipalKind::Human,
        _ if metadata.role.get().is_some() => PrincipalKind::ServiceAccount,
        _ => PrincipalKind::Unknown,
    }
}
