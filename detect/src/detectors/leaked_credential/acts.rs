//! What thieves do first with a credential, told by the operation: needs no history.

use crate::baseline::place::Tool;
use crate::observation::Observation;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;
use telltale_schema::{Event, Kind, Outcome};

/// One step of the sequence that follows a theft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Act {
    WhoAmI,
    GrantToSelf,
    GrantToSelfTried,
    KeyForSelf,
    KeyForOther,
    LoggingOff,
    SharedOutside,
    OffensiveTool,
}

impl Act {
    /// Evidence in powers of ten: how much likelier in a thief's first hour than in anybody's.
    pub fn weight(self) -> f64 {
        match self {
            Self::WhoAmI | Self::KeyForSelf | Self::KeyForOther => 1.0,
            Self::GrantToSelf => 2.0,
            Self::GrantToSelfTried => 1.2,
            Self::LoggingOff => 1.5,
            Self::SharedOutside => 0.5,
            Self::OffensiveTool => 2.5,
        }
    }

    /// Whether it takes something, where the others only look.
    pub fn takes(self) -> bool {
        !matches!(self, Self::WhoAmI | Self::SharedOutside)
    }

    /// Whether there is something to undo after it.
    pub fn changes(self) -> bool {
        !matches!(self, Self::WhoAmI | Self::GrantToSelfTried | Self::OffensiveTool)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::WhoAmI => "asked who it is",
            Self::GrantToSelf => "granted rights to itself",
            Self::GrantToSelfTried => "tried to grant rights to itself",
            Self::KeyForSelf => "made a key for itself",
            Self::KeyForOther => "made a key for another",
            Self::LoggingOff => "changed what is logged",
            Self::SharedOutside => "opened data to outsiders",
            Self::OffensiveTool => "a tool made for breaking in",
        }
    }
}

/// Operations by which a caller finds out who it is and what it may do.
const WHO_AM_I: &[&str] = &[
    "GetCallerIdentity",
    "GetAccountAuthorizationDetails",
    "SimulatePrincipalPolicy",
    "selfsubjectaccessreviews",
    "selfsubjectrulesreviews",
    "selfsubjectreviews",
    "testIamPermissions",
];

/// All of [`WHO_AM_I`], looked for at once.
static ASKS_WHO_IT_IS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .prefilter(false)
        .build(WHO_AM_I)
        .expect("a few short patterns make an automaton")
});

/// Operations that open data or code to others.
const SHARES: &[&str] = &[
    "ModifySnapshotAttribute",
    "ModifyImageAttribute",
    "ModifyDBSnapshotAttribute",
    "PutBucketPolicy",
    "PutBucketAcl",
    "AddPermission",
    "CreateTrustAnchor",
    "UpdateAssumeRolePolicy",
];

/// Whether an event may be a step by what is no part of a sighting: its target, and how it ended.
pub fn may_be_act(event: &Event<'_>) -> bool {
    use Kind::{CredentialCreated, IdentityChanged, LoggingChanged, PolicyChanged};
    let operation = event.operation.unwrap_or_default();
    matches!(event.kind, PolicyChanged | IdentityChanged | CredentialCreated | LoggingChanged)
        || is_share(operation)
}

fn is_share(operation: &str) -> bool {
    SHARES.iter().any(|name| operation.starts_with(name))
}

/// The step that `event` is, if it is one.
///
/// `habit` says that the account is known for this operation; then it is no sign of a theft.
pub fn act_of(observation: &Observation<'_>, tool: Option<&Tool>, habit: bool) -> Option<Act> {
    let event = &observation.event;
    let operation = event.operation.unwrap_or_default();
    let done = matches!(event.outcome, Outcome::Success | Outcome::Unknown);
    let builder = tool.is_some_and(|tool| tool.builder);
    if habit {
        return None;
    }
    match event.kind {
        Kind::PolicyChanged | Kind::IdentityChanged if takes_away(operation) => return None,
        Kind::PolicyChanged | Kind::IdentityChanged if acts_on_itself(event) => {
            return Some(if done { Act::GrantToSelf } else { Act::GrantToSelfTried });
        }
        Kind::CredentialCreated if done => {
            // Whoever builds infrastructure makes keys for the accounts that it has just made.
            return match acts_on_itself(event) || event.target_id.is_none() {
                true => Some(Act::KeyForSelf),
                false => (!builder).then_some(Act::KeyForOther),
            };
        }
        Kind::LoggingChanged => {
            let more = ["create", "start", "enable", "add", "get", "list", "describe"];
            let less = !begins_with(operation, &more);
            return (less && !builder).then_some(Act::LoggingOff);
        }
        _ => {}
    }
    let doing = observation.doing();
    if ASKS_WHO_IT_IS.is_match(&*doing) {
        return (!builder).then_some(Act::WhoAmI);
    }
    if !builder && is_share(operation) {
        return Some(Act::SharedOutside);
    }
    None
}

/// Rights or identities taken away are no gain for a thief, nor is an account that is unlocked.
fn takes_away(operation: &str) -> bool {
    begins_with(operation, &["delete", "detach", "remove", "revoke", "unlock"])
}

/// Whether the last word of an operation begins with one of some verbs, however its log spells it:
/// `DetachUserPolicy`, `google.iam.admin.v1.DeleteServiceAccountKey`, `team.remove_member`.
fn begins_with(operation: &str, verbs: &[&str]) -> bool {
    let last = operation.rsplit(['.', '/', ':']).next().unwrap_or(operation).as_bytes();
    let is = |verb: &&str| {
        last.get(..verb.len()).is_some_and(|head| head.eq_ignore_ascii_case(verb.as_bytes()))
    };
    verbs.iter().any(is)
}

/// Whether the target of `event` is its principal, by id or by name.
fn acts_on_itself(event: &Event<'_>) -> bool {
    event.target_id.is_some_and(|target| {
        event.principal_id == Some(target) || event.principal_name == Some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_is_told_in_every_spelling() {
        for operation in [
            "DetachUserPolicy",
            "google.iam.admin.v1.DeleteServiceAccountKey",
            "google.iam.v1/DeleteRole",
            "team.remove_member",
            "group.user_membership.remove",
            "user.account.unlock",
            "delete",
        ] {
            assert!(takes_away(operation), "{operation}");
        }
        for operation in ["AttachUserPolicy", "SetIamPolicy", "team.add_member", "removed.x", ""] {
            assert!(!takes_away(operation), "{operation}");
        }
    }
}
