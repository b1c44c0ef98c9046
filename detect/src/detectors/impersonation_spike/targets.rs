//! What kind of identity a target is, told by its name.

/// Names that give everything away.
const MIGHTY: &[&str] = &[
    "admin",
    "root",
    "owner",
    "break-glass",
    "breakglass",
    "system:masters",
    "superuser",
    "poweruser",
];

/// The kind of identity that `target` is, for those who act as many: the namespace of a service
/// account, a group or component of the cluster, the account of a role, the domain of an e-mail.
pub fn class_of(target: &str) -> &str {
    if let Some(account) = target.strip_prefix("system:serviceaccount:") {
        let namespace = account.split(':').next().unwrap_or(account);
        return &target[..target.len() - account.len() + namespace.len()];
    }
    if target.starts_with("system:") {
        return target;
    }
    if target.starts_with("arn:") {
        // arn:aws:iam::ACCOUNT
        let end = target.match_indices(':').nth(4).map_or(target.len(), |(at, _)| at);
        return &target[..end];
    }
    target.split_once('@').map_or("users", |(_, domain)| domain)
}

/// Whether a kind of identity belongs to the platform itself.
pub fn is_platform(class: &str) -> bool {
    class.starts_with("system:") && !class.starts_with("system:serviceaccount:")
        || class == "system:serviceaccount:kube-system"
}

pub fn is_mighty(target: &str) -> bool {
    let lower = target.to_ascii_lowercase();
    MIGHTY.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_identities_are_told_by_their_names() {
        for (target, class) in [
            (
                "system:serviceaccount:kube-system:node-controller",
                "system:serviceaccount:kube-system",
            ),
            ("system:masters", "system:masters"),
            ("arn:aws:iam::111122223333:role/prod/admin", "arn:aws:iam::111122223333"),
            ("deploy@site-prod.iam.gserviceaccount.com", "site-prod.iam.gserviceaccount.com"),
            ("jo@example.org", "example.org"),
            ("jo", "users"),
        ] {
            assert_eq!(class_of(target), class, "{target}");
        }
        assert!(is_platform("system:masters") && !is_platform("system:serviceaccount:shop"));
    }
}
