//! What an `eventType` means.

use telltale_schema::Kind;

/// What an `eventType` means.
/// Source: <https://developer.okta.com/docs/reference/api/event-types/>
pub(super) fn kind_of(operation: &str) -> Kind {
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
