//! What a path of Vault's API means.

use telltale_schema::Kind;

/// What was called.
pub(super) struct Call<'t> {
    pub path: &'t str,
    pub operation: &'t str,
    pub mount_type: &'t str,
    pub mount_point: &'t str,
}

impl<'t> Call<'t> {
    /// The segment of the path behind `before`, which begins a segment itself.
    pub fn name_after(&self, before: &str) -> Option<&'t str> {
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

    pub fn kind(&self) -> Kind {
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
}
