//! The parts of an entry that are read, as Vault spells them.

use crate::json::{First, Lenient, Number, Raw, Text};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub time: Text<'a>,
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub auth: Lenient<Auth<'a>>,
    #[serde(borrow)]
    pub request: Lenient<Request<'a>>,
    #[serde(borrow)]
    pub response: Lenient<Response<'a>>,
    #[serde(borrow)]
    pub error: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Auth<'a> {
    #[serde(borrow)]
    pub accessor: Text<'a>,
    #[serde(borrow)]
    pub client_token: Text<'a>,
    #[serde(borrow)]
    pub display_name: Text<'a>,
    #[serde(borrow)]
    pub entity_id: Text<'a>,
    #[serde(borrow)]
    pub metadata: Lenient<Metadata<'a>>,
    #[serde(borrow)]
    pub token_type: Text<'a>,
    #[serde(borrow)]
    pub token_issue_time: Text<'a>,
    /// Seconds.
    pub token_ttl: Number,
}

/// What auth methods say of whom they let in. Not HMACed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub role: Text<'a>,
    /// AppRole's spelling.
    #[serde(borrow)]
    pub role_name: Text<'a>,
    /// Userpass, LDAP, Okta, RADIUS.
    #[serde(borrow)]
    pub username: Text<'a>,
    #[serde(borrow)]
    pub service_account_name: Text<'a>,
    #[serde(borrow)]
    pub canonical_arn: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow)]
    pub operation: Text<'a>,
    #[serde(borrow)]
    pub path: Text<'a>,
    #[serde(borrow)]
    pub mount_type: Text<'a>,
    #[serde(borrow)]
    pub mount_point: Text<'a>,
    #[serde(borrow)]
    pub client_token: Text<'a>,
    #[serde(borrow)]
    pub client_token_accessor: Text<'a>,
    #[serde(borrow)]
    pub remote_address: Text<'a>,
    /// The standby that passed the request on.
    #[serde(borrow)]
    pub forwarded_from: Text<'a>,
    #[serde(borrow)]
    pub namespace: Lenient<Namespace<'a>>,
    #[serde(borrow)]
    pub headers: Lenient<Headers<'a>>,
    #[serde(borrow)]
    pub data: Option<Raw<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Namespace<'a> {
    #[serde(borrow)]
    pub id: Text<'a>,
    #[serde(borrow)]
    pub path: Text<'a>,
}

/// Request headers, where the operator has them audited.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Headers<'a> {
    #[serde(borrow, rename = "user-agent", alias = "User-Agent")]
    pub user_agent: First<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    pub auth: Lenient<Auth<'a>>,
    #[serde(borrow)]
    pub secret: Lenient<Secret<'a>>,
    #[serde(borrow)]
    pub wrap_info: Lenient<WrapInfo<'a>>,
    #[serde(borrow)]
    pub mount_type: Text<'a>,
    #[serde(borrow)]
    pub data: Option<Raw<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Secret<'a> {
    #[serde(borrow)]
    pub lease_id: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct WrapInfo<'a> {
    #[serde(borrow)]
    pub accessor: Text<'a>,
    /// The accessor of the token inside.
    #[serde(borrow)]
    pub wrapped_accessor: Text<'a>,
}

/// What logins and AppRole say in `request.data`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginData<'a> {
    #[serde(borrow)]
    pub role: Text<'a>,
    #[serde(borrow)]
    pub secret_id: Text<'a>,
}

/// What minting calls say in `response.data`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct MintedData<'a> {
    #[serde(borrow)]
    pub secret_id: Text<'a>,
    #[serde(borrow)]
    pub secret_id_accessor: Text<'a>,
    #[serde(borrow)]
    pub serial_number: Text<'a>,
    /// Key id of an AWS user. HMACed unless the mount says otherwise.
    #[serde(borrow)]
    pub access_key: Text<'a>,
}

/// Text that is there and not masked by whoever shared the log.
pub(super) fn known<'t>(text: &'t Text<'_>) -> Option<&'t str> {
    text.get().filter(|text| text.bytes().any(|byte| byte != b'*'))
}

/// The same of a secret that Vault or an earlier redaction has replaced by a hash.
pub(super) fn hidden<'t>(text: &'t Text<'_>) -> Option<&'t str> {
    let is_hash = |text: &&str| text.starts_with("hmac-") || text.starts_with("redacted:");
    known(text).filter(is_hash)
}
