//! The parts of an event that are read, as Okta spells them.

use crate::json::{Lenient, Raw, Text};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogEvent<'a> {
    #[serde(borrow)]
    pub uuid: Text<'a>,
    #[serde(borrow)]
    pub published: Text<'a>,
    #[serde(borrow, alias = "eventtype")]
    pub event_type: Text<'a>,
    #[serde(borrow)]
    pub actor: Lenient<Actor<'a>>,
    #[serde(borrow)]
    pub client: Lenient<Client<'a>>,
    #[serde(borrow)]
    pub device: Lenient<Device<'a>>,
    #[serde(borrow)]
    pub outcome: Lenient<Ending<'a>>,
    #[serde(borrow)]
    pub target: Targets<'a>,
    #[serde(borrow)]
    pub transaction: Lenient<Transaction<'a>>,
    #[serde(borrow, alias = "debugcontext")]
    pub debug_context: Lenient<DebugContext<'a>>,
    #[serde(borrow, alias = "authenticationcontext")]
    pub authentication_context: Lenient<AuthenticationContext<'a>>,
    /// Looked into only where `client` has no address.
    #[serde(borrow)]
    pub request: Option<Raw<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Actor<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow, alias = "alternateid")]
    pub alternate_id: Text<'a>,
    #[serde(borrow, alias = "displayname")]
    pub display_name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Client<'a> {
    #[serde(borrow, alias = "ipaddress")]
    pub ip_address: Text<'a>,
    #[serde(borrow, alias = "useragent")]
    pub user_agent: Lenient<UserAgent<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UserAgent<'a> {
    #[serde(borrow, alias = "rawuseragent")]
    pub raw_user_agent: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Device<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow)]
    pub name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Ending<'a> {
    #[serde(borrow)]
    pub result: Text<'a>,
    #[serde(borrow)]
    pub reason: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Transaction<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow)]
    pub detail: Lenient<TransactionDetail<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TransactionDetail<'a> {
    #[serde(borrow, alias = "requestapitokenid")]
    pub request_api_token_id: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DebugContext<'a> {
    #[serde(borrow, alias = "debugdata")]
    pub debug_data: Lenient<DebugData<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DebugData<'a> {
    #[serde(borrow, alias = "dthash")]
    pub dt_hash: Text<'a>,
    #[serde(borrow, alias = "requesturi")]
    pub request_uri: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthenticationContext<'a> {
    #[serde(borrow, alias = "externalsessionid")]
    pub external_session_id: Text<'a>,
    #[serde(borrow, alias = "rootsessionid")]
    pub root_session_id: Text<'a>,
}

/// What an event has in `target`, sorted while it is read.
#[derive(Default)]
pub(super) struct Targets<'a> {
    /// The user, app user, app or group that was acted on, in this order of preference.
    pub identity: Option<(u8, Actor<'a>)>,
    /// The first target that is no identity or a less preferred one.
    pub other: Option<Actor<'a>>,
    /// The token that was issued or revoked; access tokens before others.
    pub token: Option<Actor<'a>>,
}

impl<'a> Targets<'a> {
    fn add(&mut self, target: Actor<'a>) {
        let rank = match target.kind.get().unwrap_or_default() {
            "User" => 0,
            "AppUser" => 1,
            "AppInstance" | "PublicClientApp" | "OAuth2Client" | "ServiceAccount" => 2,
            "UserGroup" => 3,
            kind if is_token(kind) => {
                let better = matches!(kind, "access_token" | "AccessToken");
                if better || self.token.is_none() {
                    self.token = Some(target);
                }
                return;
            }
            _ if known(&target.alternate_id).is_some() => 4,
            _ => 5,
        };
        let loser = match &self.identity {
            _ if rank == 5 => Some(target),
            Some((best, _)) if *best <= rank => Some(target),
            _ => self.identity.replace((rank, target)).map(|(_, before)| before),
        };
        self.other = self.other.take().or(loser);
    }
}

fn is_token(kind: &str) -> bool {
    matches!(kind, "Token" | "AccessToken" | "RefreshToken" | "IDToken" | "ApiToken")
        || kind.ends_with("_token")
}

impl<'de: 'a, 'a> Deserialize<'de> for Targets<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TargetsVisitor;
        impl<'de> Visitor<'de> for TargetsVisitor {
            type Value = Targets<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of targets")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Targets<'de>, A::Error> {
                let mut targets = Targets::default();
                while let Some(target) = seq.next_element::<Lenient<Actor<'de>>>()? {
                    targets.add(target.0);
                }
                Ok(targets)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Targets<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Targets::default())
            }
            fn visit_str<E>(self, _: &str) -> Result<Targets<'de>, E> {
                Ok(Targets::default())
            }
            fn visit_unit<E>(self) -> Result<Targets<'de>, E> {
                Ok(Targets::default())
            }
        }
        deserializer.deserialize_any(TargetsVisitor)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request<'a> {
    #[serde(borrow, alias = "ipchain")]
    pub ip_chain: Vec<Lenient<Hop<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Hop<'a> {
    #[serde(borrow)]
    pub ip: Text<'a>,
}

/// Text that is not one of Okta's ways to say nothing.
pub(super) fn known<'t>(text: &'t Text<'_>) -> Option<&'t str> {
    text.get().filter(|text| !matches!(*text, "unknown" | "UNKNOWN" | "null"))
}
