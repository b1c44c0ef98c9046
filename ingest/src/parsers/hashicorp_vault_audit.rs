//! HashiCorp Vault's audit device (`file`, `socket`, `syslog`): one JSON object for each request
//! and one for its response, which share `request.id`; KMIP entries of Vault Enterprise.
//!
//! A request that was not answered yet has no outcome: its row is an `api_call` with outcome
//! `unknown`, and what the call was (a login, a secret read) is said once, by the response.
//! Who acted is `auth.entity_id`, else `auth.display_name`. Accessors and tokens are HMACed by
//! Vault with a salt of the audit device, so they are ids within one device. The accessor is
//! preferred, and a login's `issued_credential_id` is the `credential_id` of what follows.
//! An AppRole's secret id, HMACed too, is the credential of its login. Vault reports no latency.
//! <https://developer.hashicorp.com/vault/docs/audit/schema>

use super::Parser;
use crate::json::{self, First, Lenient, Number, Raw, Text};
use crate::payload::{Payload, Rejects};
use crate::value::{address, event_id};
use memchr::memmem;
use serde::Deserialize;
use telltale_schema::time::{SECOND, parse_instant};
use telltale_schema::{Event, EventBuilder, Kind, Outcome, PrincipalKind};

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

    fn parse(&self, payload: &Payload, events: &mut EventBuilder, rejects: &mut Rejects) {
        for (position, record) in payload.records() {
            match json::from_str::<Entry<'_>>(record) {
                Ok(entry) => {
                    if let Err(cause) = entry.append_to(record, events) {
                        rejects.push(position, cause);
                    }
                }
                Err(cause) => rejects.push(position, cause),
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry<'a> {
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    auth: Lenient<Auth<'a>>,
    #[serde(borrow)]
    request: Lenient<Request<'a>>,
    #[serde(borrow)]
    response: Lenient<Response<'a>>,
    #[serde(borrow)]
    error: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth<'a> {
    #[serde(borrow)]
    accessor: Text<'a>,
    #[serde(borrow)]
    client_token: Text<'a>,
    #[serde(borrow)]
    display_name: Text<'a>,
    #[serde(borrow)]
    entity_id: Text<'a>,
    #[serde(borrow)]
    metadata: Lenient<Metadata<'a>>,
    #[serde(borrow)]
    token_type: Text<'a>,
    #[serde(borrow)]
    token_issue_time: Text<'a>,
    /// Seconds.
    token_ttl: Number,
}

/// What auth methods say of whom they let in. Not HMACed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    /// AppRole's spelling.
    #[serde(borrow)]
    role_name: Text<'a>,
    /// Userpass, LDAP, Okta, RADIUS.
    #[serde(borrow)]
    username: Text<'a>,
    #[serde(borrow)]
    service_account_name: Text<'a>,
    #[serde(borrow)]
    canonical_arn: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    operation: Text<'a>,
    #[serde(borrow)]
    path: Text<'a>,
    #[serde(borrow)]
    mount_type: Text<'a>,
    #[serde(borrow)]
    mount_point: Text<'a>,
    #[serde(borrow)]
    client_token: Text<'a>,
    #[serde(borrow)]
    client_token_accessor: Text<'a>,
    #[serde(borrow)]
    remote_address: Text<'a>,
    /// The standby that passed the request on.
    #[serde(borrow)]
    forwarded_from: Text<'a>,
    #[serde(borrow)]
    namespace: Lenient<Namespace<'a>>,
    #[serde(borrow)]
    headers: Lenient<Headers<'a>>,
    #[serde(borrow)]
    data: Option<Raw<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Namespace<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    path: Text<'a>,
}

/// Request headers, where the operator has them audited.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Headers<'a> {
    #[serde(borrow, rename = "user-agent", alias = "User-Agent")]
    user_agent: First<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response<'a> {
    #[serde(borrow)]
    auth: Lenient<Auth<'a>>,
    #[serde(borrow)]
    secret: Lenient<Secret<'a>>,
    #[serde(borrow)]
    wrap_info: Lenient<WrapInfo<'a>>,
    #[serde(borrow)]
    mount_type: Text<'a>,
    #[serde(borrow)]
    data: Option<Raw<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Secret<'a> {
    #[serde(borrow)]
    lease_id: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WrapInfo<'a> {
    #[serde(borrow)]
    accessor: Text<'a>,
    /// The accessor of the token inside.
    #[serde(borrow)]
    wrapped_accessor: Text<'a>,
}

/// What logins and AppRole say in `request.data`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LoginData<'a> {
    #[serde(borrow)]
    role: Text<'a>,
    #[serde(borrow)]
    secret_id: Text<'a>,
}

/// What minting calls say in `response.data`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MintedData<'a> {
    #[serde(borrow)]
    secret_id: Text<'a>,
    #[serde(borrow)]
    secret_id_accessor: Text<'a>,
    #[serde(borrow)]
    serial_number: Text<'a>,
    /// Key id of an AWS user. HMACed unless the mount says otherwise.
    #[serde(borrow)]
    access_key: Text<'a>,
}

impl Entry<'_> {
    /// Errors: why the record is no event.
    fn append_to(&self, record: &str, events: &mut EventBuilder) -> Result<(), String> {
        let entry_type = self.kind.get().ok_or("`type` is missing")?;
        let time = self.time.get().ok_or("`time` is missing")?;
        let event_time =
            parse_instant(time).ok_or_else(|| format!("`time` is not RFC 3339: {time:?}"))?;

        let (request, response, auth) = (&self.request, &self.response, &self.auth);
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
        let failure = if answered { self.failure(meaning) } else { None };
        let outcome = match &failure {
            _ if !answered => Outcome::Unknown,
            None => Outcome::Success,
            Some(failure) => failure.outcome,
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
                None => event_id(LOG, tenant, &[record]),
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
            let secret_id = known(&login.secret_id);
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
            let data = [&minted.secret_id, &minted.secret_id_accessor, &minted.access_key];
            known(&self.response.secret.lease_id)
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

/// An error as the columns say it.
struct Failure {
    outcome: Outcome,
    status_code: Option<i16>,
    code: Option<String>,
}

impl Failure {
    /// Vault has no codes, only texts, which it may put together (`1 error occurred:\n\t* …`).
    /// Those of its own (`sdk/logical/error.go`) come first; of any other the plain words are kept
    /// and the values that it quotes left out, so that there are few of them.
    fn of(text: &str, meaning: Kind) -> Self {
        const KNOWN: [(&str, Outcome, i16); 14] = [
            // An unknown token is refused with both texts, and this one tells more.
            ("invalid token", Outcome::Failure, 403),
            ("bad token", Outcome::Failure, 403),
            ("permission denied", Outcome::Denied, 403),
            ("missing client token", Outcome::Failure, 400),
            ("invalid credentials", Outcome::Failure, 400),
            ("invalid username or password", Outcome::Failure, 400),
            ("invalid role or secret ID", Outcome::Failure, 400),
            ("invalid role ID", Outcome::Failure, 400),
            ("invalid secret id", Outcome::Failure, 400),
            ("unsupported operation", Outcome::Error, 405),
            ("unsupported path", Outcome::Error, 404),
            ("rate limit quota exceeded", Outcome::Error, 429),
            ("internal error", Outcome::Error, 500),
            ("Vault is sealed", Outcome::Error, 503),
        ];
        if let Some((code, outcome, status)) = KNOWN.iter().find(|(known, ..)| text.contains(known))
        {
            let (outcome, status_code) = (*outcome, Some(*status));
            return Self { outcome, status_code, code: Some((*code).to_owned()) };
        }
        let doubts = ["invalid", "expired", "could not be", "not authorized", "failed to verify"];
        let outcome = match meaning {
            Kind::Authentication if doubts.iter().any(|doubt| text.contains(doubt)) => {
                Outcome::Failure
            }
            _ => Outcome::Error,
        };
        let first = text.split("* ").nth(1).unwrap_or(text).lines().next().unwrap_or_default();
        let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        let words = first.split_whitespace().map(|w| w.trim_end_matches([':', ',', '.', ';']));
        let code = words.filter(plain).take(8).collect::<Vec<_>>().join(" ");
        let status_code = text.contains("invalid request").then_some(400);
        Self { outcome, status_code, code: (!code.is_empty()).then_some(code) }
    }
}

/// Text that is there and not masked by whoever shared the log.
fn known<'t>(text: &'t Text<'_>) -> Option<&'t str> {
    text.get().filter(|text| text.bytes().any(|byte| byte != b'*'))
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

/// What was called.
struct Call<'t> {
    path: &'t str,
    operation: &'t str,
    mount_type: &'t str,
    mount_point: &'t str,
}

impl<'t> Call<'t> {
    /// The segment of the path behind `before`, which begins a segment itself.
    fn name_after(&self, before: &str) -> Option<&'t str> {
        let tail = self.tail();
        let start = match tail.strip_prefix(before) {
            Some(rest) => rest,
            None => {
                let at = tail.match_indices(before).find(|(at, _)| tail[..*at].ends_with('/'))?;
                &tail[at.0 + before.len()..]
            }
        };
        start.split('/').next().filter(|name| !name.is_empty())
    }

    /// The path below its mount.
    fn tail(&self) -> &'t str {
        if !self.mount_point.is_empty()
            && let Some(tail) = self.path.strip_prefix(self.mount_point)
        {
            return tail;
        }
        let below = self.path.strip_prefix("auth/").unwrap_or(self.path);
        below.split_once('/').map_or(below, |(_, tail)| tail)
    }

    fn writes(&self) -> bool {
        matches!(self.operation, "create" | "update" | "patch" | "delete" | "revoke")
    }

    fn kind(&self) -> Kind {
        if self.operation == "help" || self.operation == "list" {
            return Kind::ApiCall;
        }
        let tail = self.tail();
        match self.path.split('/').next().unwrap_or_default() {
            "auth" => self.auth_kind(tail),
            "sys" => self.sys_kind(self.path.strip_prefix("sys/").unwrap_or_default()),
            "identity" if tail.starts_with("oidc/token/") => Kind::TokenIssued,
            "identity" if self.writes() => Kind::IdentityChanged,
            "identity" => Kind::ApiCall,
            _ => self.engine_kind(tail),
        }
    }

    fn auth_kind(&self, tail: &str) -> Kind {
        let first = tail.split('/').next().unwrap_or_default();
        if self.mount_type == "token" || self.path.starts_with("auth/token/") {
            return match first {
                "create" | "create-orphan" => Kind::TokenIssued,
                _ if first.starts_with("revoke") => Kind::CredentialRevoked,
                "roles" if self.writes() => Kind::PolicyChanged,
                _ => Kind::ApiCall,
            };
        }
        match first {
            "login" => Kind::Authentication,
            "callback" => Kind::Authentication,
            _ if tail.ends_with("/callback") || tail.ends_with("/login") => Kind::Authentication,
            _ if !self.writes() => Kind::ApiCall,
            _ if tail.contains("secret-id") => match tail.contains("/destroy") {
                true => Kind::CredentialRevoked,
                false if tail.contains("/lookup") => Kind::ApiCall,
                false => Kind::CredentialCreated,
            },
            "users" if tail.ends_with("/password") => Kind::CredentialRotated,
            "config" | "tune" => Kind::PolicyChanged,
            "users" | "role" | "roles" | "groups" | "map" | "certs" => Kind::IdentityChanged,
            _ => Kind::ApiCall,
        }
    }

    fn sys_kind(&self, path: &str) -> Kind {
        let mut segments = path.split('/');
        let (first, second) =
            (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
        match (first, second) {
            ("wrapping", "unwrap") => Kind::SecretRead,
            ("mfa", "validate") => Kind::Authentication,
            _ if !self.writes() => Kind::ApiCall,
            ("policy" | "policies" | "auth", _) => Kind::PolicyChanged,
            ("audit", _) | ("config", "auditing") => Kind::LoggingChanged,
            ("leases", "revoke" | "revoke-prefix" | "revoke-force")
            | ("revoke" | "revoke-prefix" | "revoke-force", _) => Kind::CredentialRevoked,
            ("rotate" | "rekey" | "rekey-recovery-key", _) => Kind::CredentialRotated,
            ("generate-root", _) => Kind::CredentialCreated,
            _ => Kind::ApiCall,
        }
    }

    /// What a call to a secrets engine means. Entries of old versions have no `mount_type`; for
    /// them the usual mount names stand in.
    fn engine_kind(&self, tail: &str) -> Kind {
        let engine = match self.mount_type {
            "" => self.path.split('/').next().unwrap_or_default(),
            known => known,
        };
        let first = tail.split('/').next().unwrap_or_default();
        let reads = self.operation == "read";
        match (engine, first) {
            ("kv" | "generic" | "cubbyhole" | "secret" | "kv-v1" | "kv-v2", first) => match first {
                "metadata" | "config" => Kind::ApiCall,
                _ if reads => Kind::SecretRead,
                _ => Kind::ApiCall,
            },
            (_, "static-creds" | "static-cred" | "static-account" | "library") if reads => {
                Kind::SecretRead
            }
            ("transit", "export") | ("totp", "code") => Kind::SecretRead,
            ("aws", "sts")
            | ("kubernetes", "creds")
            | ("gcp", "token" | "roleset" | "impersonated-account") => Kind::TokenIssued,
            (_, "creds" | "cred") => Kind::CredentialCreated,
            ("gcp", "key") | ("pki", "issue" | "sign" | "sign-verbatim" | "sign-intermediate") => {
                Kind::CredentialCreated
            }
            ("ssh", "issue" | "sign") => Kind::CredentialCreated,
            ("pki", "revoke" | "revoke-with-key") => Kind::CredentialRevoked,
            (_, "rotate-root" | "rotate-role") => Kind::CredentialRotated,
            ("transit", "keys") if tail.ends_with("/rotate") => Kind::CredentialRotated,
            ("kmip", _) if self.operation == "get" => Kind::SecretRead,
            // PKI under a name of its own, in an entry without `mount_type`.
            (_, "issue") if self.mount_type.is_empty() => Kind::CredentialCreated,
            _ => Kind::ApiCall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_kind() {
        for (mount_type, operation, path, kind) in [
            ("jwt", "update", "auth/jwt/login", Kind::Authentication),
            ("approle", "update", "auth/team/approle/login", Kind::Authentication),
            ("userpass", "update", "auth/userpass/login/ada", Kind::Authentication),
            ("oidc", "read", "auth/oidc/oidc/callback", Kind::Authentication),
            ("token", "update", "auth/token/create/ci", Kind::TokenIssued),
            ("token", "update", "auth/token/renew-self", Kind::ApiCall),
            ("token", "update", "auth/token/revoke-accessor", Kind::CredentialRevoked),
            ("approle", "update", "auth/approle/role/ci/secret-id", Kind::CredentialCreated),
            (
                "approle",
                "update",
                "auth/approle/role/ci/secret-id/destroy",
                Kind::CredentialRevoked,
            ),
            ("kv", "read", "secret/data/s3", Kind::SecretRead),
            ("kv", "read", "secret/metadata/s3", Kind::ApiCall),
            ("kv", "list", "secret/metadata/", Kind::ApiCall),
            ("", "read", "secret/s3", Kind::SecretRead),
            ("database", "read", "database/creds/reader", Kind::CredentialCreated),
            ("database", "read", "database/static-creds/app", Kind::SecretRead),
            ("aws", "update", "aws/sts/deploy", Kind::TokenIssued),
            ("pki", "update", "internal-ca/issue/server", Kind::CredentialCreated),
            ("system", "update", "sys/policies/acl/admin", Kind::PolicyChanged),
            ("system", "delete", "sys/audit/file", Kind::LoggingChanged),
            ("system", "read", "sys/audit", Kind::ApiCall),
            ("system", "update", "sys/leases/revoke", Kind::CredentialRevoked),
            ("identity", "update", "identity/entity/name/ci", Kind::IdentityChanged),
            ("system", "update", "sys/wrapping/unwrap", Kind::SecretRead),
        ] {
            let call = Call { path, operation, mount_type, mount_point: mount_point(path) };
            assert_eq!(call.kind(), kind, "{operation} {path}");
        }
    }

    /// As Vault would say it for the nested mount; the others must do without.
    fn mount_point(path: &str) -> &str {
        if path.starts_with("auth/team/") { "auth/team/approle/" } else { "" }
    }

    #[test]
    fn an_error_has_a_code_without_values() {
        for (text, outcome, code) in [
            ("1 error occurred:\n\t* permission denied\n\n", Outcome::Denied, "permission denied"),
            (
                "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n",
                Outcome::Failure,
                "invalid token",
            ),
            ("bad token", Outcome::Failure, "bad token"),
            ("role \"ci-7\" could not be found", Outcome::Failure, "role could not be found"),
            (
                "1 error occurred:\n\t* failed to reach 10.0.0.7: refused",
                Outcome::Error,
                "failed to reach refused",
            ),
        ] {
            let failure = Failure::of(text, Kind::Authentication);
            assert_eq!((failure.outcome, failure.code.as_deref()), (outcome, Some(code)), "{text}");
        }
    }
}
