//! MITRE ATT&CK: the names behind the technique ids that findings carry.
//! <https://attack.mitre.org/matrices/enterprise/cloud/>
//!
//! Only what concerns the misuse of identities is here. A technique that serves several tactics
//! stands under the one that a misused service account shows: a stolen key is a way in.

/// A technique or sub-technique and the tactic that it serves here.
#[derive(Debug, PartialEq, Eq)]
pub struct Technique {
    /// `T1078` or, for a sub-technique, `T1078.004`.
    pub uid: &'static str,
    pub name: &'static str,
    pub tactic: &'static Tactic,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Tactic {
    pub uid: &'static str,
    pub name: &'static str,
}

static INITIAL_ACCESS: Tactic = Tactic { uid: "TA0001", name: "Initial Access" };
static PERSISTENCE: Tactic = Tactic { uid: "TA0003", name: "Persistence" };
static PRIVILEGE_ESCALATION: Tactic = Tactic { uid: "TA0004", name: "Privilege Escalation" };
static CREDENTIAL_ACCESS: Tactic = Tactic { uid: "TA0006", name: "Credential Access" };
static DISCOVERY: Tactic = Tactic { uid: "TA0007", name: "Discovery" };
static LATERAL_MOVEMENT: Tactic = Tactic { uid: "TA0008", name: "Lateral Movement" };
static COLLECTION: Tactic = Tactic { uid: "TA0009", name: "Collection" };
// Version 19 divided this tactic and moved its techniques; the ids here are those of version 18.
static DEFENSE_EVASION: Tactic = Tactic { uid: "TA0005", name: "Defense Evasion" };
static EXFILTRATION: Tactic = Tactic { uid: "TA0010", name: "Exfiltration" };

macro_rules! techniques {
    ($($uid:literal $name:literal $tactic:ident,)+) => {
        &[$(Technique { uid: $uid, name: $name, tactic: &$tactic },)+]
    };
}

/// In the order of their ids. A sub-technique's parent is here too.
static TECHNIQUES: &[Technique] = techniques! {
    "T1033" "System Owner/User Discovery" DISCOVERY,
    "T1069" "Permission Groups Discovery" DISCOVERY,
    "T1069.003" "Cloud Groups" DISCOVERY,
    "T1078" "Valid Accounts" INITIAL_ACCESS,
    "T1078.001" "Default Accounts" INITIAL_ACCESS,
    "T1078.004" "Cloud Accounts" INITIAL_ACCESS,
    "T1087" "Account Discovery" DISCOVERY,
    "T1087.004" "Cloud Account" DISCOVERY,
    "T1098" "Account Manipulation" PERSISTENCE,
    "T1098.001" "Additional Cloud Credentials" PERSISTENCE,
    "T1098.003" "Additional Cloud Roles" PERSISTENCE,
    "T1098.006" "Additional Container Cluster Roles" PERSISTENCE,
    "T1110" "Brute Force" CREDENTIAL_ACCESS,
    "T1134" "Access Token Manipulation" PRIVILEGE_ESCALATION,
    "T1134.001" "Token Impersonation/Theft" PRIVILEGE_ESCALATION,
    "T1136" "Create Account" PERSISTENCE,
    "T1136.003" "Cloud Account" PERSISTENCE,
    "T1199" "Trusted Relationship" INITIAL_ACCESS,
    "T1526" "Cloud Service Discovery" DISCOVERY,
    "T1528" "Steal Application Access Token" CREDENTIAL_ACCESS,
    "T1530" "Data from Cloud Storage" COLLECTION,
    "T1537" "Transfer Data to Cloud Account" EXFILTRATION,
    "T1548" "Abuse Elevation Control Mechanism" PRIVILEGE_ESCALATION,
    "T1548.005" "Temporary Elevated Cloud Access" PRIVILEGE_ESCALATION,
    "T1550" "Use Alternate Authentication Material" LATERAL_MOVEMENT,
    "T1550.001" "Application Access Token" LATERAL_MOVEMENT,
    "T1550.004" "Web Session Cookie" LATERAL_MOVEMENT,
    "T1552" "Unsecured Credentials" CREDENTIAL_ACCESS,
    "T1552.001" "Credentials In Files" CREDENTIAL_ACCESS,
    "T1552.005" "Cloud Instance Metadata API" CREDENTIAL_ACCESS,
    "T1552.007" "Container API" CREDENTIAL_ACCESS,
    "T1555" "Credentials from Password Stores" CREDENTIAL_ACCESS,
    "T1555.006" "Cloud Secrets Management Stores" CREDENTIAL_ACCESS,
    "T1562" "Impair Defenses" DEFENSE_EVASION,
    "T1562.008" "Disable or Modify Cloud Logs" DEFENSE_EVASION,
    "T1580" "Cloud Infrastructure Discovery" DISCOVERY,
    "T1606" "Forge Web Credentials" CREDENTIAL_ACCESS,
    "T1613" "Container and Resource Discovery" DISCOVERY,
    "T1619" "Cloud Storage Object Discovery" DISCOVERY,
};

/// The technique of that id; `None` when it is not one of those above.
pub fn technique(uid: &str) -> Option<&'static Technique> {
    let index = TECHNIQUES.binary_search_by(|technique| technique.uid.cmp(uid)).ok()?;
    TECHNIQUES.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_technique_is_found_and_has_its_parent() {
        assert!(TECHNIQUES.is_sorted_by(|a, b| a.uid < b.uid));
        for entry in TECHNIQUES {
            assert_eq!(technique(entry.uid), Some(entry));
            let parent = entry.uid.split('.').next().expect("split yields at least one part");
            assert!(technique(parent).is_some(), "{parent} of {}", entry.uid);
        }
        assert_eq!(technique("T9999"), None);
    }
}
