//! What a request does.

use super::record::{AuditEvent, RequestObject};
use crate::json::Object;
use telltale_schema::Kind;

/// What a request does to identities and secrets.
pub(super) struct Act {
    pub(super) kind: Kind,
    /// Whether the identity that it is done to stands in the scratch text.
    pub(super) target: bool,
}

impl Act {
    pub(super) fn of(event: &AuditEvent<'_>, verb: &str, target: &mut String) -> Self {
        let Some(object) = event.object_ref.get() else {
            return Self { kind: Kind::ApiCall, target: false };
        };
        let resource = object.resource.get().unwrap_or_default();
        let subresource = object.subresource.get().unwrap_or_default();
        let kind = kind_of(verb, object.api_group.get(), resource, subresource);
        let request = || -> RequestObject<'_> {
            event.request_object.and_then(|raw| raw.read().ok()).unwrap_or_default()
        };
        match (kind, resource) {
            (Kind::TokenIssued | Kind::IdentityChanged, "serviceaccounts") => {
                let target = service_account(object.namespace.get(), object.name.get(), target);
                Self { kind, target }
            }
            (Kind::PolicyChanged, "rolebindings" | "clusterrolebindings") => {
                let request = request();
                let subject = request.subjects.iter().flatten().find_map(Object::get);
                let target = subject.is_some_and(|subject| match subject.kind.get() {
                    Some("ServiceAccount") => {
                        service_account(subject.namespace.get(), subject.name.get(), target)
                    }
                    _ => copy(subject.name.get(), target),
                });
                Self { kind, target }
            }
            (Kind::ApiCall, "secrets") if verb == "create" => {
                let request = request();
                if !request.secret_type.is("kubernetes.io/service-account-token") {
                    return Self { kind, target: false };
                }
                let annotations = request.metadata.get().and_then(|meta| meta.annotations.get());
                let name = annotations.and_then(|annotations| annotations.service_account.get());
                let target = service_account(object.namespace.get(), name, target);
                Self { kind: Kind::CredentialCreated, target }
            }
            (Kind::CredentialCreated, "certificatesigningrequests") => {
                let request = request();
                let denied = request.status.get().is_some_and(|status| {
                    let mut conditions = status.conditions.iter().flatten().filter_map(Object::get);
                    conditions.any(|condition| condition.kind.is("Denied"))
                });
                let requester = request.spec.get().and_then(|spec| spec.username.get());
                let kind = if denied { Kind::ApiCall } else { kind };
                Self { kind, target: copy(requester, target) }
            }
            _ => Self { kind, target: false },
        }
    }
}

/// Writes the user name of a service account; false when there is no name.
fn service_account(namespace: Option<&str>, name: Option<&str>, into: &mut String) -> bool {
    into.clear();
    for part in ["system:serviceaccount:", namespace.unwrap_or_default(), ":"] {
        into.push_str(part);
    }
    into.push_str(name.unwrap_or_default());
    name.is_some()
}

fn copy(text: Option<&str>, into: &mut String) -> bool {
    into.clear();
    into.push_str(text.unwrap_or_default());
    text.is_some()
}

/// The kind of a request by its verb and what it goes to. `group` is `None` or `core` for the
/// unnamed API group; some exporters drop it.
pub(in crate::parsers) fn kind_of(
    verb: &str,
    group: Option<&str>,
    resource: &str,
    subresource: &str,
) -> Kind {
    let core = matches!(group, None | Some("core"));
    let rbac = group.is_none_or(|group| group.contains("rbac") || group.contains("authorization"));
    let reads = matches!(verb, "get" | "list" | "watch");
    let changes = matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection");
    match (resource, subresource) {
        ("serviceaccounts", "token") if core && verb == "create" => Kind::TokenIssued,
        ("serviceaccounts", "") if core && changes => Kind::IdentityChanged,
        ("secrets", "") if core && reads => Kind::SecretRead,
        ("roles" | "clusterroles" | "rolebindings" | "clusterrolebindings", _)
            if rbac && changes =>
        {
            Kind::PolicyChanged
        }
        ("certificatesigningrequests", "approval") if changes => Kind::CredentialCreated,
        ("tokenreviews", _) if verb == "create" => Kind::Authentication,
        _ => Kind::ApiCall,
    }
}
