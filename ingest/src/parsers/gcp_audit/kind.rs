//! What a call does, by its method.

use crate::parsers::kubernetes_audit::kind_of;
use memchr::memmem;
use telltale_schema::Kind;

/// The kind of a call by its method, which services spell with or without their package
/// (`GenerateAccessToken`, `google.iam.credentials.v1.IAMCredentials.GenerateAccessToken`).
pub(super) fn kind_of_call(service: Option<&str>, method: &str) -> Kind {
    if let Some(kind) = kubernetes_kind(method) {
        return kind;
    }
    let last = method.rsplit('.').next().unwrap_or(method);
    let of = |name: &str| {
        service.is_some_and(|service| service.strip_suffix(".googleapis.com") == Some(name))
            || method.split('.').any(|part| part == name)
    };
    match last {
        "GenerateAccessToken" | "GenerateIdToken" | "SignBlob" | "SignJwt" => Kind::Impersonation,
        "ExchangeToken" | "ExchangeOauthToken" => Kind::TokenIssued,
        "CreateServiceAccountKey" | "UploadServiceAccountKey" => Kind::CredentialCreated,
        "DeleteServiceAccountKey" | "DisableServiceAccountKey" => Kind::CredentialRevoked,
        "CreateKey" if of("apikeys") => Kind::CredentialCreated,
        "DeleteKey" if of("apikeys") => Kind::CredentialRevoked,
        "GetKeyString" if of("apikeys") => Kind::SecretRead,
        "AccessSecretVersion" => Kind::SecretRead,
        "AddSecretVersion" => Kind::CredentialRotated,
        "DestroySecretVersion" | "DisableSecretVersion" => Kind::CredentialRevoked,
        "create" if method.ends_with("hmacKeys.create") => Kind::CredentialCreated,
        "delete" if method.ends_with("hmacKeys.delete") => Kind::CredentialRevoked,
        "SetIamPolicy" | "SetIAMPolicy" | "setIamPolicy" | "setIamPermissions" | "SetOrgPolicy"
        | "ClearOrgPolicy" => Kind::PolicyChanged,
        "CreateRole" | "UpdateRole" | "DeleteRole" | "UndeleteRole" if of("iam") => {
            Kind::PolicyChanged
        }
        "CreatePolicy" | "UpdatePolicy" | "DeletePolicy" if of("iam") || of("orgpolicy") => {
            Kind::PolicyChanged
        }
        "CreateServiceAccount"
        | "UpdateServiceAccount"
        | "PatchServiceAccount"
        | "DeleteServiceAccount"
        | "UndeleteServiceAccount"
        | "EnableServiceAccount"
        | "DisableServiceAccount"
        | "EnableServiceAccountKey" => Kind::IdentityChanged,
        _ if method.contains("WorkloadIdentityPool") || method.contains("WorkforcePool") => {
            if changes(last) {
                Kind::IdentityChanged
            } else {
                Kind::ApiCall
            }
        }
        "DeleteLog" if of("logging") => Kind::LoggingChanged,
        _ if method.starts_with("google.logging.v2.ConfigServiceV2.") && changes(last) => {
            Kind::LoggingChanged
        }
        _ if service == Some("login.googleapis.com") => login_kind(last),
        _ if service == Some("admin.googleapis.com") => directory_kind(last),
        _ => Kind::ApiCall,
    }
}

fn changes(method: &str) -> bool {
    ["Create", "Update", "Delete", "Undelete"].iter().any(|verb| method.starts_with(verb))
}

/// `io.k8s.core.v1.serviceaccounts.token.create`: group, version, resource, subresource, verb.
fn kubernetes_kind(method: &str) -> Option<Kind> {
    let call = method.strip_prefix("io.k8s.")?;
    let versioned = |at: &usize| call.as_bytes().get(at + 2).is_some_and(u8::is_ascii_digit);
    let at = memmem::find_iter(call.as_bytes(), b".v").find(versioned);
    let parts = at.and_then(|at| {
        let (path, verb) = call[at + 1..].split_once('.')?.1.rsplit_once('.')?;
        let (resource, subresource) = path.split_once('.').unwrap_or((path, ""));
        Some(kind_of(verb, Some(&call[..at]), resource, subresource))
    });
    Some(parts.unwrap_or(Kind::ApiCall))
}

/// `google.login.LoginService.…`
fn login_kind(method: &str) -> Kind {
    match method {
        "accountDisabledPasswordLeak" => Kind::ExposureReported,
        "passwordEdit" => Kind::CredentialRotated,
        _ if ["login", "logout", "suspicious", "risky"].iter().any(|p| method.starts_with(p)) => {
            Kind::Authentication
        }
        _ if ["account", "2sv", "titanium", "recovery"].iter().any(|p| method.starts_with(p)) => {
            Kind::IdentityChanged
        }
        _ => Kind::ApiCall,
    }
}

/// `google.admin.AdminService.…`
fn directory_kind(method: &str) -> Kind {
    match method {
        "changePassword" => Kind::CredentialRotated,
        "assignRole" | "unassignRole" | "createRole" | "deleteRole" | "updateRole"
        | "addPrivilege" | "removePrivilege" => Kind::PolicyChanged,
        _ if method.contains("User") || method.contains("Group") => Kind::IdentityChanged,
        _ => Kind::ApiCall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_the_kind_of_what_they_do() {
        let iam = Some("iam.googleapis.com");
        for (service, method, kind) in [
            (None, "GenerateAccessToken", Kind::Impersonation),
            (None, "google.iam.credentials.v1.IAMCredentials.SignJwt", Kind::Impersonation),
            (iam, "google.iam.admin.v1.CreateServiceAccountKey", Kind::CredentialCreated),
            (iam, "google.iam.admin.v1.CreateRole", Kind::PolicyChanged),
            (iam, "google.iam.admin.v1.ListServiceAccountKeys", Kind::ApiCall),
            (None, "google.iam.admin.v1.WorkforcePools.DeleteWorkforcePool", Kind::IdentityChanged),
            (None, "google.iam.admin.v1.WorkforcePools.GetWorkforcePool", Kind::ApiCall),
            (None, "v1.compute.instances.setIamPolicy", Kind::PolicyChanged),
            (None, "storage.setIamPermissions", Kind::PolicyChanged),
            (None, "google.api.apikeys.v2.ApiKeys.CreateKey", Kind::CredentialCreated),
            (Some("cloudkms.googleapis.com"), "CreateKey", Kind::ApiCall),
            (None, "google.logging.v2.ConfigServiceV2.UpdateSink", Kind::LoggingChanged),
            (None, "google.logging.v2.ConfigServiceV2.ListSink", Kind::ApiCall),
            (None, "io.k8s.core.v1.secrets.list", Kind::SecretRead),
            (None, "io.k8s.core.v1.serviceaccounts.token.create", Kind::TokenIssued),
            (None, "io.k8s.authorization.rbac.v1.rolebindings.create", Kind::PolicyChanged),
            (None, "io.k8s.get", Kind::ApiCall),
            (None, "", Kind::ApiCall),
        ] {
            assert_eq!(kind_of_call(service, method), kind, "{method}");
        }
    }
}
