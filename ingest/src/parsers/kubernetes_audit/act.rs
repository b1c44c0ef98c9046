//! What a request does.

use super::record::{AuditEvent, RequestObject};
use crate::json::{self, Object, Raw, Text};
use memchr::memmem;
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

/// What stands between the quotes that `text` begins with, and what follows. Go quotes as JSON
/// does, but for characters that are not printable; of a name with those nothing is said.
fn quoted(text: &str) -> Option<(Text<'_>, &str)> {
    let mut escaped = false;
    let end = text.strip_prefix('"')?.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let (name, rest) = text.split_at(end + 2);
    Some((json::from_str(name).unwrap_or_default(), rest))
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
    prefixed("", text, into)
}

fn prefixed(prefix: &str, text: Option<&str>, into: &mut String) -> bool {
    into.clear();
    into.push_str(prefix);
    into.push_str(text.unwrap_or_default());
    text.is_some()
}

/// Whether a text says that an impersonation was refused (`None` where it speaks of something else),
/// and whether it tells of whom: then that is written into `target`.
///
/// `users "NAME" is forbidden: User "CALLER" cannot impersonate resource "users" in API group "" at
/// the cluster scope`; `serviceaccounts` go on `in the namespace "NAMESPACE"`. A caller is refused at
/// the first thing that it may not take on, so a group (`--as-group`) is told without the user. With
/// constrained impersonation the verb is `impersonate:MODE`, or `impersonate-on:MODE:VERB` where the
/// request itself is what it may not do as somebody else, who is not told.
/// Source: `NewForbidden` in `apimachinery/pkg/api/errors`, `forbiddenMessage` in
/// `apiserver/pkg/endpoints/handlers/responsewriters`, <https://kep.k8s.io/5284>.
pub(in crate::parsers) fn refused_impersonation(
    message: Raw<'_>,
    target: &mut String,
) -> Option<bool> {
    memmem::find(message.0.as_bytes(), b" cannot impersonate")?;
    let message: Text<'_> = message.read().ok()?;
    let (resource, rest) = message.get()?.split_once(' ')?;
    let (name, rest) = quoted(rest).unwrap_or((Text::default(), rest));
    // Of a path that is no resource it says no more than `forbidden: User "CALLER" …`.
    let rest = rest.trim_start().trim_start_matches("is forbidden: ").strip_prefix("User ")?;
    let asked = quoted(rest)?.1.strip_prefix(" cannot impersonate")?;
    let name = name.get().filter(|name| *name != "*" && !asked.starts_with("-on:"));
    Some(match resource.split('.').next().unwrap_or_default() {
        "users" | "groups" => copy(name, target),
        "nodes" => prefixed("system:node:", name, target),
        "serviceaccounts" => {
            let namespace = asked.split_once(" in the namespace ");
            let namespace = namespace.and_then(|(_, rest)| quoted(rest)).unwrap_or_default().0;
            namespace.get().is_some() && service_account(namespace.get(), name, target)
        }
        // `uids` and `userextras` are parts of somebody whose name is not told.
        _ => false,
    })
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
