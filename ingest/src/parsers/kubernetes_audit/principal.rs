//! Who acted and with what.

use super::record::{Extra, User};
use memchr::memmem;
use telltale_schema::PrincipalKind;

/// Id and kind of the credential that the caller used.
pub(super) fn credential<'a>(
    extra: Option<&'a Extra<'_>>,
) -> (Option<&'a str>, Option<&'static str>) {
    let Some(extra) = extra else { return (None, None) };
    match (extra.credential_id.get(), extra.access_key_id.get()) {
        (Some(id), _) if id.starts_with("X509SHA256=") => (Some(id), Some("client_certificate")),
        (Some(id), _) if id.starts_with("JTI=") => (Some(id), Some("jwt")),
        (Some(id), _) => (Some(id), None),
        (None, Some(key)) => (Some(key), Some("access_key")),
        (None, None) => (None, None),
    }
}

impl User<'_> {
    /// What the user is, by its name, else by its groups.
    pub(super) fn principal_kind(&self) -> PrincipalKind {
        let Some(name) = self.username.get() else { return PrincipalKind::Unknown };
        if let Some(kind) = kind_of_name(name) {
            return kind;
        }
        let in_group = |group: &str| {
            self.groups
                .is_some_and(|raw| memmem::find(raw.0.as_bytes(), group.as_bytes()).is_some())
        };
        let arn = self.extra.get().and_then(|extra| extra.canonical_arn.get());
        if in_group("\"system:serviceaccounts\"") {
            PrincipalKind::ServiceAccount
        } else if in_group("\"system:nodes\"") {
            PrincipalKind::System
        } else if in_group("\"system:unauthenticated\"") {
            PrincipalKind::Anonymous
        } else if arn.is_some_and(|arn| arn.contains(":role/")) {
            PrincipalKind::Role
        } else if in_group("\"system:masters\"")
            || in_group("\"kubeadm:cluster-admins\"")
            || matches!(name, "kubernetes-admin" | "masterclient")
        {
            // Certificates of administrators, which no component has; the names are kubeadm's
            // and AKS's, for exports that leave out the groups.
            PrincipalKind::Human
        } else {
            PrincipalKind::Unknown
        }
    }
}

/// What a user name alone says of who it is. Names that begin with `system:` are Kubernetes' own;
/// `system:admin` is OpenShift's and k3s's name for an administrator.
pub(in crate::parsers) fn kind_of_name(name: &str) -> Option<PrincipalKind> {
    let cloud = ["eks:", "aks:", "gke:", "kube-apiserver-", "kubelet-"];
    let aks = ["aksService", "aks-service", "aks-support", "hcpService", "acsService"];
    Some(if name.starts_with("system:serviceaccount:") {
        PrincipalKind::ServiceAccount
    } else if matches!(name, "system:anonymous" | "system:unauthenticated") {
        PrincipalKind::Anonymous
    } else if name == "system:admin" {
        PrincipalKind::Human
    } else if name.starts_with("system:")
        || cloud.iter().any(|prefix| name.starts_with(prefix))
        || aks.contains(&name)
    {
        PrincipalKind::System
    } else if name.starts_with("arn:") {
        match name.contains(":role/") || name.contains(":assumed-role/") {
            true => PrincipalKind::Role,
            false => PrincipalKind::Unknown,
        }
    } else if name.ends_with("gserviceaccount.com") || is_guid(name) {
        // AKS names users by e-mail and service principals by object id.
        PrincipalKind::ServiceAccount
    } else if name.contains('@') {
        PrincipalKind::Human
    } else {
        return None;
    })
}

fn is_guid(name: &str) -> bool {
    name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_it_is() {
        for (name, kind) in [
            ("system:serviceaccount:ns:sa", Some(PrincipalKind::ServiceAccount)),
            ("system:anonymous", Some(PrincipalKind::Anonymous)),
            ("system:node:worker-1", Some(PrincipalKind::System)),
            ("system:kube-scheduler", Some(PrincipalKind::System)),
            ("system:admin", Some(PrincipalKind::Human)),
            ("eks:node-manager", Some(PrincipalKind::System)),
            ("arn:aws:sts::1:assumed-role/ci/s", Some(PrincipalKind::Role)),
            ("jane@example.com", Some(PrincipalKind::Human)),
            ("0f0a1b2c-3d4e-5f60-7182-93a4b5c6d7e8", Some(PrincipalKind::ServiceAccount)),
            ("bob", None),
        ] {
            assert_eq!(kind_of_name(name), kind, "{name}");
        }
    }
}
